"""Who is calling, from what a request shows: an ID token, an API key or a session cookie, and exactly one of them.

Nothing is written anywhere before this succeeds, and nothing else that a request says of its caller counts: no
`X-User-Id`, no `X-Auth-Processed`, no role in a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import Unauthenticated
from shared.identity import csrf, tokens
from shared.identity.caller import Caller, Proof
from shared.settings import AppCheck, settings

if TYPE_CHECKING:
    from datetime import datetime

_KEY_PREFIX = "cp_live_"
_BEARER = "bearer"


@dataclass(frozen=True)
class Presented:
    """What a request shows of its caller."""

    authorization: tuple[str, ...] = ()
    """Every `Authorization` header."""
    api_key: tuple[str, ...] = ()
    """Every `X-API-Key` header."""
    session_cookie: str | None = None
    """The cookie `__session`. It counts only when there is neither header."""
    csrf_token: str | None = None
    """`X-CSRF-Token`."""
    app_check_token: str | None = None
    """`X-Firebase-AppCheck`."""
    changes_state: bool = False
    origin: str | None = None
    sec_fetch_site: str | None = None
    address: str = ""


def authenticate(presented: Presented, *, now: datetime, fresh: bool = False) -> Caller:
    """The caller. With `fresh`, nothing is believed that was read before, and Firebase Auth is asked whether the
    sign-in was revoked.

    Raises Unauthenticated with a `reason`, AccountSuspended, PermissionDenied (forged from another site), RateLimited
    (an address that guesses credentials) and Unavailable.
    """
    proof, credential = _credential(presented)
    if proof is Proof.API_KEY:
        return _by_key(credential, presented, now=now, fresh=fresh)
    if proof is Proof.SESSION:
        return _by_session(credential, presented, now=now, fresh=fresh)
    return _by_id_token(credential, now=now, fresh=fresh)


def check_app(presented: Presented) -> None:
    """Whether the request comes from one of our apps, as far as the settings ask. Programs with an API key are none.

    Raises Unauthenticated, Unavailable.
    """
    asked = settings().app_check
    if asked is AppCheck.OFF or _shows_key(presented):
        return
    if presented.app_check_token is None:
        if asked is AppCheck.REQUIRED:
            raise Unauthenticated("Send an App Check token: X-Firebase-AppCheck.", reason="app_check_required")
        return
    from shared.identity import app_check

    app_check.verify(presented.app_check_token)


def _credential(presented: Presented) -> tuple[Proof, str]:
    """The one credential that is shown. Two of them are refused: which one counts must never be a matter of taste."""
    if len(presented.authorization) + len(presented.api_key) > 1:
        raise Unauthenticated("Send one credential, and send it once.", reason="several_credentials")
    if presented.api_key:
        return Proof.API_KEY, presented.api_key[0].strip()
    if presented.authorization:
        token = _bearer_token(presented.authorization[0])
        return (Proof.API_KEY if token.startswith(_KEY_PREFIX) else Proof.ID_TOKEN), token
    if presented.session_cookie:
        return Proof.SESSION, presented.session_cookie
    raise _missing()


def _bearer_token(header: str) -> str:
    scheme, _, token = header.strip().partition(" ")
    if not scheme:
        raise _missing()
    if scheme.lower() != _BEARER or not token.strip():
        raise Unauthenticated("The Authorization header must be: Bearer <token>.", reason="bad_scheme")
    return token.strip()


def _shows_key(presented: Presented) -> bool:
    """Whether `authenticate` will take the request for one with an API key, and nothing else for its proof."""
    try:
        return _credential(presented)[0] is Proof.API_KEY
    except Unauthenticated:  # it says so itself, a moment later
        return False


# What reads documents is imported when it is needed: a function whose routes are open to anyone never does.


def _by_id_token(token: str, *, now: datetime, fresh: bool) -> Caller:
    from shared.identity import accounts

    sign_in = tokens.verify(token, now=now)
    uid = sign_in.person.uid
    if fresh:
        tokens.refuse_when_revoked(uid, sign_in.signed_in_at)
    standing = accounts.get_or_open(sign_in.person, now=now, fresh=fresh)
    standing.admit(proved_at=sign_in.signed_in_at)
    return Caller(uid=uid, role=standing.role, plan=standing.plan, proved_at=sign_in.signed_in_at)


def _by_key(key: str, presented: Presented, *, now: datetime, fresh: bool) -> Caller:
    from shared.identity import accounts, keys

    found = keys.get_valid(key, address=presented.address, now=now, fresh=fresh)
    standing = accounts.get_standing(found.uid, now=now, fresh=fresh)
    standing.admit(proved_at=None)
    keys.note_use(key, found, now=now)
    return Caller(uid=found.uid, role=standing.role, plan=standing.plan, proof=Proof.API_KEY, key=found.grant)


def _by_session(cookie: str, presented: Presented, *, now: datetime, fresh: bool) -> Caller:
    from shared.identity import accounts, sessions

    found = sessions.get_valid(cookie, address=presented.address, now=now, fresh=fresh)
    if presented.changes_state:
        csrf.refuse_forged(presented, cookie)
    if fresh:
        tokens.refuse_when_revoked(found.uid, found.proved_at)
    standing = accounts.get_standing(found.uid, now=now, fresh=fresh)
    standing.admit(proved_at=found.proved_at)
    sessions.note_use(cookie, found, now=now)
    return Caller(
        uid=found.uid,
        role=standing.role,
        plan=standing.plan,
        proof=Proof.SESSION,
        proved_at=found.proved_at,
        session_id=found.id,
        csrf_token=csrf.token_of(cookie),
    )


def _missing() -> Unauthenticated:
    return Unauthenticated(
        "Sign in: send a Firebase ID token or an API key as Authorization: Bearer <token>.", reason="missing_token"
    )
