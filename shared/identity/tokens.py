"""What a Firebase ID token says, once it is known to hold.

Outside the emulator the Admin SDK checks signature, algorithm, audience, issuer, subject, `iat` and `exp`. While
`FIREBASE_AUTH_EMULATOR_HOST` is set it takes unsigned tokens and looks at no time at all; `shared.startup` refuses that
variable in a deployed process. So the times are checked here in any case, and with them `auth_time`, at which the SDK
never looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared.clients import firebase_app
from shared.errors import Unauthenticated, Unavailable
from shared.identity.recent import Recent
from shared.identity.secret_text import digest
from shared.ids import can_name_a_document

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_TOKEN_CHARS = 8192
CLOCK_SKEW = timedelta(seconds=10)
_MAX_TEXT_CHARS = 2048
_LATEST_S = 2**33
"""In the year 2242; the library of dates ends in 9999."""


@dataclass(frozen=True)
class Person:
    """What a sign-in tells about somebody: the beginning of an account."""

    uid: str
    email: str | None = None
    email_verified: bool = False
    display_name: str | None = None
    photo_url: str | None = None


@dataclass(frozen=True)
class SignIn:
    """What a token says whose signature holds, at whatever time."""

    person: Person
    signed_in_at: datetime
    """When the person last showed a credential (`auth_time`); a refreshed token keeps it."""
    issued_at: datetime
    expires_at: datetime


# The SDK reads the certificates anew for each token, which takes 1.6 ms; an app sends the same token for an hour.
_verified: Recent[SignIn] = Recent(size=5_000, keep=timedelta(minutes=5))


def verify(token: str, *, now: datetime) -> SignIn:
    """Who signed in, and when. Raises Unauthenticated, saying what to do, or Unavailable."""
    if len(token) > MAX_TOKEN_CHARS or not token.isascii():
        raise _invalid()
    key = digest(token)
    sign_in = _verified.get(key, now) or _sign_in(_claims(token))
    if sign_in.expires_at + CLOCK_SKEW < now:
        raise _expired()
    if max(sign_in.issued_at, sign_in.signed_in_at) - CLOCK_SKEW > now:
        raise _invalid("The token comes from the future: check the clock that issued it.")
    _verified.put(key, sign_in, now)
    return sign_in


def refuse_when_revoked(uid: str, proved_at: datetime) -> None:
    """One look-up at Firebase Auth. Raises Unauthenticated when the user was disabled or signed out since then."""
    from firebase_admin import auth, exceptions

    try:
        user = auth.get_user(uid, app=firebase_app())
    except auth.UserNotFoundError as error:
        raise _revoked() from error
    except exceptions.FirebaseError as error:
        raise _unavailable() from error
    if user.disabled or proved_at.timestamp() * 1000 < user.tokens_valid_after_timestamp:
        raise _revoked()


def revoke_refresh_tokens(uid: str) -> None:
    """Have Firebase Auth give no more ID tokens for the sign-ins there are. Raises Unavailable."""
    from firebase_admin import auth, exceptions

    try:
        auth.revoke_refresh_tokens(uid, app=firebase_app())
    except auth.UserNotFoundError:
        # Whoever is not there gets no tokens either.
        return
    except exceptions.FirebaseError as error:
        raise _unavailable() from error


def forget_all() -> None:
    _verified.clear()


def _claims(token: str) -> Mapping[str, Any]:
    from firebase_admin import auth

    skew_s = int(CLOCK_SKEW.total_seconds())
    try:
        claims: Mapping[str, Any] = auth.verify_id_token(token, app=firebase_app(), clock_skew_seconds=skew_s)
    except auth.ExpiredIdTokenError as error:
        raise _expired() from error
    except auth.CertificateFetchError as error:
        raise _unavailable() from error
    except (auth.InvalidIdTokenError, ValueError, TypeError, RecursionError) as error:
        raise _invalid() from error
    return claims


def _sign_in(claims: Mapping[str, Any]) -> SignIn:
    if _tenant(claims) is not None:
        raise _invalid("The token belongs to a tenant; this project has none.")
    if not can_name_a_document(claims["uid"]):
        raise _invalid("The token's user id cannot be used here.")
    return SignIn(
        person=Person(
            uid=claims["uid"],
            email=_text(claims, "email"),
            email_verified=claims.get("email_verified") is True,
            display_name=_text(claims, "name"),
            photo_url=_text(claims, "picture"),
        ),
        signed_in_at=_time(claims, "auth_time"),
        issued_at=_time(claims, "iat"),
        expires_at=_time(claims, "exp"),
    )


def _time(claims: Mapping[str, Any], name: str) -> datetime:
    """Whole seconds only: Python's JSON takes NaN, and every comparison with it is false."""
    value = claims.get(name)
    if type(value) is not int or not 0 <= value <= _LATEST_S:
        raise _invalid(f"The token's {name} is missing or is no time.")
    return datetime.fromtimestamp(value, UTC)


def _tenant(claims: Mapping[str, Any]) -> Any:
    firebase = claims.get("firebase")
    return firebase.get("tenant") if isinstance(firebase, dict) else None


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    """A text that can be stored: half a surrogate pair, which JSON can say, cannot."""
    value = claims.get(name)
    usable = isinstance(value, str) and 0 < len(value) <= _MAX_TEXT_CHARS and _is_unicode(value)
    return value if usable else None


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _expired() -> Unauthenticated:
    return Unauthenticated("The token has expired: fetch a fresh one with getIdToken().", reason="expired_token")


def _invalid(message: str = "The token is not a Firebase ID token of this project.") -> Unauthenticated:
    return Unauthenticated(message, reason="invalid_token")


def _revoked() -> Unauthenticated:
    return Unauthenticated("This sign-in was revoked: sign in again.", reason="revoked_token")


def _unavailable() -> Unavailable:
    return Unavailable("Sign-in cannot be checked right now; try again.", retry_after_s=2)
