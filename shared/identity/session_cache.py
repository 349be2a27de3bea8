"""Sessions in Redis, so that not every process asks the database. Nothing here raises: Redis only spares work.

    session:{sha256 of the cookie}   JSON of a session, or the word that none is to be kept

A process that read a session just before another one ended it could keep what it read. So ending a session leaves a
word in the place for longer than such a read takes, and what is kept never replaces it.
"""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from shared import log, metrics
from shared.clients import redis_client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import redis

    AnswerT = TypeVar("AnswerT")

KEPT_S = 30
BLOCKED_S = 60
_BLOCKED = "blocked"
_LEFT_ALONE_S = 5.0
"""How long Redis is not asked after it failed: nobody wants to wait for its time-out on every request."""
_TIMES = ("proved_at", "expires_at", "revoked_at", "last_seen_at")


class _Away:
    """Until when Redis is left alone, on the monotonic clock."""

    until = 0.0


def find(digest: str) -> dict[str, Any] | None:
    """The fields of a session; None when Redis has none, or nothing that can be read."""
    text = _ask(lambda client: client.get(_key(digest)))
    if not isinstance(text, str) or text == _BLOCKED:
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
    _ask(lambda client: client.set(_key(digest), text, ex=KEPT_S, nx=True))


def block(digest: str) -> None:
    """Take the session away, and have nobody put it back for a while."""
    _ask(lambda client: client.set(_key(digest), _BLOCKED, ex=BLOCKED_S), insist=True)


def _ask(question: Callable[[redis.Redis], AnswerT], *, insist: bool = False) -> AnswerT | None:
    """None also when Redis is away; it is then left alone for a while by those who do not insist."""
    from redis.exceptions import RedisError

    if time.monotonic() < _Away.until and not insist:
        return None
    try:
        return question(redis_client())
    except RedisError as error:
        _Away.until = time.monotonic() + _LEFT_ALONE_S
        metrics.count("session_cache_failed_total")
        log.warning("sessions are read from the database while Redis is away", reason=repr(error))
        return None


def _decoded(text: str) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(text)
    times = {name: fields[name] and datetime.fromisoformat(fields[name]) for name in _TIMES}
    return {**fields, **times}


def _key(digest: str) -> str:
    return f"session:{digest}"
