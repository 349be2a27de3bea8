"""Sessions: what the opaque cookie of a browser stands for.

The truth is `sessions/{sha256 of the cookie}`. In front of it are Redis and this process, each believed for 30 seconds:
an ended session is over everywhere within a minute, and normally at once, because its end is told to Redis. Without
Redis the database is asked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from shared import store
from shared.errors import Unauthenticated
from shared.identity import documents, last_use, secret_text, session_cache
from shared.identity.recent import Recent
from shared.limits import admission

if TYPE_CHECKING:
    from collections.abc import Mapping

COOKIE_NAME = "__session"
"""The only cookie that Firebase Hosting lets through (https://firebase.google.com/docs/hosting/manage-cache)."""
LIFETIME = timedelta(days=14)
SESSION_KEPT = timedelta(seconds=30)
_PREFIX = "cps_"
_SECRET_CHARS = 43
_FORM = re.compile(f"{_PREFIX}{secret_text.CHARACTER}{{{_SECRET_CHARS}}}")


@dataclass(frozen=True)
class Session:
    """What the way in needs to know of a session."""

    id: str
    uid: str
    proved_at: datetime
    """When the person signed in with a credential."""
    expires_at: datetime
    revoked_at: datetime | None
    last_seen_at: datetime

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Session:
        return cls(**{name: document[name] for name in cls.__dataclass_fields__})


_recent: Recent[Session] = Recent(size=10_000, keep=SESSION_KEPT)


def new_cookie(seed: str | None = None) -> str:
    """A cookie nobody knows. With a seed the same one each time, so that who repeats a request gets the same answer."""
    if seed:
        return _PREFIX + secret_text.derived_text(seed, "session cookie", _SECRET_CHARS)
    return _PREFIX + secret_text.random_text(_SECRET_CHARS)


def reference(digest: str) -> store.Reference:
    return store.document("sessions", digest)


def get_valid(cookie: str, *, address: str, now: datetime, fresh: bool = False) -> Session:
    """The session of a cookie that holds now. Whether its owner still may is not looked at here.

    Raises Unauthenticated with its reason, RateLimited for an address that showed too many wrong ones, Unavailable.
    """
    if _FORM.fullmatch(cookie) is None:
        raise _unknown()
    digest = secret_text.digest(cookie)
    found = None if fresh else _recent.get(digest, now)
    found = found or _look_up(digest, address, now, fresh=fresh)
    if found.revoked_at is not None:
        raise Unauthenticated("This session was ended: sign in again.", reason="revoked_session")
    if found.expires_at <= now:
        raise Unauthenticated("This session has expired: sign in again.", reason="expired_session")
    return found


def note_use(cookie: str, found: Session, *, now: datetime) -> None:
    """Remember that the session was used, now and then."""
    last_use.note(reference(secret_text.digest(cookie)), "last_seen_at", last=found.last_seen_at, now=now)


def forget(digest: str) -> None:
    """Have this process and, through Redis, the others look at the database again, because the session was ended."""
    _recent.drop(digest)
    session_cache.block(digest)


def forget_all() -> None:
    """Drop what this process knows."""
    _recent.clear()


def _look_up(digest: str, address: str, now: datetime, *, fresh: bool) -> Session:
    admission.refuse_when_suspicious(address)
    found = None if fresh else session_cache.find(digest)
    if found is None:
        document = documents.find(reference(digest))
        if document is None:
            admission.note_failed_sign_in(address)
            raise _unknown()
        found = document
        session_cache.keep(digest, {name: document[name] for name in Session.__dataclass_fields__})
    session = Session.from_document(found)
    _recent.put(digest, session, now)
    return session


def _unknown() -> Unauthenticated:
    return Unauthenticated("This session is not known: sign in again.", reason="invalid_session")
