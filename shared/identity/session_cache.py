"""Sessions in Redis, so that not every process asks the database. Nothing here raises: Redis only spares work.

    session:{sha256 of the cookie}   JSON of a session, or the word that none is to be kept

A process that read a session just before another one ended it could keep what it read. So ending a session leaves a
word in the place for longer than such a read takes, and what is kept never replaces it.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared import log, metrics
from shared.clients import redis_link
from shared.redis_link import LinkFailed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.redis_link import Argument

KEPT_S = 30
BLOCKED_S = 60
_BLOCKED = b"blocked"
_LEFT_ALONE_S = 5.0
"""How long Redis is not asked after it failed: nobody wants to wait for its time-out on every request."""
_TIMES = ("proved_at", "expires_at", "revoked_at", "last_seen_at")


class _Away:
    """Until when Redis is left alone, on the monotonic clock."""

    until = 0.0


def find(digest: str) -> dict[str, Any] | None:
    """The fields of a session; None when Redis has none, or nothing that can be read."""
    text = _ask("GET", _key(digest))
    if text is None or text == _BLOCKED:
        return None
    try:
        return _decoded(text)
    except (ValueError, TypeError, KeyError) as error:
        log.warning("a session in Redis cannot be read", reason=repr(error))
        return None


def keep(digest: str, fields: Mapping[str, Any]) -> None:
    """Keep the session for others, unless it was just ended."""
    text = json.dumps(
        {name: value.isoformat() if isinstance(value, datetime) else value for name, value in fields.items()}
    )
    _ask("SET", _key(digest), text, "EX", KEPT_S, "NX")


def block(digest: str) -> None:
    """Take the session away, and have nobody put it back for a while."""
    _ask("SET", _key(digest), _BLOCKED, "EX", BLOCKED_S, insist=True)


def _ask(*command: Argument, insist: bool = False) -> Any:
    """None also when Redis is away; it is then left alone for a while by those who do not insist."""
    if time.monotonic() < _Away.until and not insist:
        return None
    try:
        return redis_link().call(*command)
    except LinkFailed as error:
        _Away.until = time.monotonic() + _LEFT_ALONE_S
        metrics.count("session_cache_failed_total")
        log.warning("sessions are read from the database while Redis is away", reason=repr(error))
        return None


def _decoded(text: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(text)
    times = {name: fields[name] and datetime.fromisoformat(fields[name]) for name in _TIMES}
    return {**fields, **times}


def _key(digest: str) -> str:
    return f"session:{digest}"
