"""Who is calling: Firebase ID tokens.

Nothing is written anywhere before this succeeds. The Admin SDK accepts unsigned tokens, and expired ones too, while
`FIREBASE_AUTH_EMULATOR_HOST` is set; `shared.startup` refuses that variable outside the emulator, and expiry is checked
here in any case.
"""

from dataclasses import dataclass
from datetime import datetime

from shared.clients import firebase_app
from shared.errors import Unauthenticated, Unavailable
from shared.ids import can_name_a_document

_CLOCK_SKEW_S = 10
_MAX_TOKEN_CHARS = 8192


@dataclass(frozen=True)
class Caller:
    """The signed-in user of a request."""

    uid: str


def authenticate(authorization: str | None, *, now: datetime) -> Caller:
    """The caller that an `Authorization: Bearer …` header names. Raises Unauthenticated, saying what to do."""
    scheme, _, token = (authorization or "").partition(" ")
    if not authorization:
        raise Unauthenticated("Send a Firebase ID token: Authorization: Bearer <token>.", reason="missing_token")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("The Authorization header must be: Bearer <Firebase ID token>.", reason="bad_scheme")
    return _verify(token.strip(), now)


def _verify(token: str, now: datetime) -> Caller:
    from firebase_admin import auth

    if len(token) > _MAX_TOKEN_CHARS:
        raise Unauthenticated("The token is not a Firebase ID token.", reason="invalid_token")
    try:
        claims = auth.verify_id_token(token, app=firebase_app(), clock_skew_seconds=_CLOCK_SKEW_S)
    except auth.ExpiredIdTokenError as error:
        raise _expired() from error
    except auth.CertificateFetchError as error:
        raise Unavailable("Sign-in cannot be checked right now; try again.", retry_after_s=2) from error
    except (auth.InvalidIdTokenError, ValueError, TypeError, RecursionError) as error:
        raise Unauthenticated(
            "The token is not a Firebase ID token of this project.", reason="invalid_token"
        ) from error
    expires_at = claims.get("exp")
    if not isinstance(expires_at, int | float) or expires_at + _CLOCK_SKEW_S < now.timestamp():
        raise _expired()
    uid = claims["uid"]
    if not can_name_a_document(uid):
        raise Unauthenticated("The token's user id cannot be used here.", reason="invalid_token")
    return Caller(uid=uid)


def _expired() -> Unauthenticated:
    return Unauthenticated("The token has expired: fetch a fresh one with getIdToken().", reason="expired_token")
