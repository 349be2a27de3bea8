"""The log of a generation in Redis: typed events with sequence numbers, appended before they are delivered.

    gen:{id}:events   list of JSON events; the n-th has sequence number n
    gen:{id}:meta     hash: uid, fence, upstream_id, stop, closed
    gen:{id}:alive    present while the producer lives; refreshed by `functions.chat.watch`

The producer holds the fence it opened the log with; whoever takes over (the sweep) changes it, and the old producer's
appends are refused from then on. When Redis fails the answer still flows to its client; it only cannot be resumed.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

import redis

from shared import log
from shared.clients import redis_client
from shared.errors import Unavailable

KEPT_S = 3600
ALIVE_S = 6
AWAY_S = 3.0
"""After a failure Redis is left alone for so long: new generations go without a log instead of waiting for it again."""

_APPEND = f"""
local meta = redis.call('HMGET', KEYS[2], 'fence', 'closed', 'stop')
if not meta[1] then return {{-2, 0}} end
if meta[1] ~= ARGV[1] then return {{-1, 0}} end
local length = redis.call('LLEN', KEYS[1])
if length == tonumber(ARGV[3]) + #ARGV - 3 then return {{length, meta[3] and 1 or 0}} end
if meta[2] or length ~= tonumber(ARGV[3]) then return {{-1, 0}} end
for i = 4, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[2], 'closed', '1')
  redis.call('DEL', KEYS[3])
end
redis.call('EXPIRE', KEYS[1], {KEPT_S})
redis.call('EXPIRE', KEYS[2], {KEPT_S})
return {{length + #ARGV - 3, meta[3] and 1 or 0}}
"""
"""ARGV: fence, whether to close, how many events were there before, the events. Sent again, it appends nothing."""

_TAKE_OVER = """
if redis.call('EXISTS', KEYS[3]) == 1 then return -1 end
local meta = redis.call('HMGET', KEYS[2], 'fence', 'closed')
if meta[1] and not meta[2] then redis.call('HSET', KEYS[2], 'fence', ARGV[1]) end
return redis.call('LLEN', KEYS[1])
"""

Event = dict[str, Any]

_away = {"until": 0.0}


class Append(Enum):
    """What became of an append."""

    DONE = "done"
    STOP_REQUESTED = "stop requested"
    FENCED = "fenced"
    """Somebody else has ended this generation: the producer must give up."""
    LOST = "lost"
    """The log is not there, or Redis does not answer: deliver without it."""


@dataclass(frozen=True)
class Snapshot:
    """A part of a log as a reader sees it."""

    events: list[Event]
    """Each with its `seq`."""
    closed: bool
    alive: bool
    """Somebody still writes it. A log that is neither closed nor alive gets no more events."""
    uid: str
    upstream_id: str | None


class GenerationLog:
    """The producer's end of one log."""

    def __init__(self, generation_id: str, uid: str, fence: str | None = None, length: int = 0) -> None:
        self.generation_id = generation_id
        self._uid = uid
        self._fence = fence or secrets.token_hex(8)
        self._keys = _keys(generation_id)
        self._length = length
        self._lost = False

    def open(self) -> None:
        events, meta, alive = self._keys
        if time.monotonic() < _away["until"]:
            self._lost = True
            return
        try:
            pipeline = redis_client().pipeline()
            pipeline.delete(events)
            pipeline.hset(meta, mapping={"uid": self._uid, "fence": self._fence})
            pipeline.expire(meta, KEPT_S)
            pipeline.set(alive, "1", ex=ALIVE_S)
            pipeline.execute()
        except redis.RedisError as error:
            self._lose(error)

    def note_upstream(self, upstream_id: str) -> None:
        """Keep the provider's id: with it a sweep can learn the cost when this process dies."""
        if self._lost:
            return
        try:
            redis_client().hset(self._keys[1], "upstream_id", upstream_id)
        except redis.RedisError as error:
            self._lose(error)

    def append(self, events: list[Event], *, close: bool = False) -> Append:
        if self._lost:
            return Append.LOST
        try:
            length, stop = _script(_APPEND)(
                keys=self._keys, args=[self._fence, "1" if close else "0", self._length, *map(_dump, events)]
            )
        except redis.RedisError as error:
            return self._lose(error)
        if length == -1:
            return Append.FENCED
        if length < 0:
            self._lost = True
            return Append.LOST
        self._length = length
        return Append.STOP_REQUESTED if stop else Append.DONE

    def _lose(self, error: Exception) -> Append:
        self._lost = True
        _away["until"] = time.monotonic() + AWAY_S
        log.warning(
            "generation log lost", counter="generation_log_lost", generation_id=self.generation_id, reason=repr(error)
        )
        return Append.LOST


def read(generation_id: str, *, after: int = 0) -> Snapshot | None:
    """The events after sequence number `after`; None when there is no such log. Raises Unavailable without Redis."""
    events, meta, alive = _keys(generation_id)
    try:
        pipeline = redis_client().pipeline()
        pipeline.hmget(meta, "uid", "closed", "upstream_id")
        pipeline.lrange(events, after, -1)
        pipeline.exists(alive)
        (uid, closed, upstream_id), lines, lives = pipeline.execute()
    except redis.RedisError as error:
        raise Unavailable("The log of generations cannot be read right now; try again.", retry_after_s=2) from error
    if uid is None:
        return None
    numbered = [{"seq": after + index, **json.loads(line)} for index, line in enumerate(lines, start=1)]
    return Snapshot(events=numbered, closed=closed is not None, alive=bool(lives), uid=uid, upstream_id=upstream_id)


def request_stop(generation_id: str) -> None:
    """Ask the producer to stop. Raises Unavailable without Redis: a stop must not seem to work when it does not."""
    meta = _keys(generation_id)[1]
    try:
        redis_client().hset(meta, "stop", "1")
        redis_client().expire(meta, KEPT_S)
    except redis.RedisError as error:
        raise Unavailable("The generation cannot be reached right now; try again.", retry_after_s=2) from error


def refresh(generation_ids: list[str]) -> set[str]:
    """Say that these generations' producer lives; give back those that were asked to stop."""
    pipeline = redis_client().pipeline(transaction=False)
    for generation_id in generation_ids:
        _, meta, alive = _keys(generation_id)
        pipeline.set(alive, "1", ex=ALIVE_S)
        pipeline.hget(meta, "stop")
    answers = pipeline.execute()
    return {generation_id for generation_id, stop in zip(generation_ids, answers[1::2], strict=True) if stop}


def take_over(generation_id: str, uid: str) -> GenerationLog | None:
    """The log of a generation whose producer is dead, fenced against it; None while it lives."""
    fence = secrets.token_hex(8)
    length = _script(_TAKE_OVER)(keys=_keys(generation_id), args=[fence])
    return None if length < 0 else GenerationLog(generation_id, uid, fence, length)


def _keys(generation_id: str) -> list[str]:
    """The braces name what belongs together, should these keys ever be spread over several nodes."""
    return [f"gen:{{{generation_id}}}:{part}" for part in ("events", "meta", "alive")]


def _dump(event: Event) -> str:
    return json.dumps(event, ensure_ascii=False, separators=(",", ":"))


_scripts: dict[str, Any] = {}


def _script(source: str) -> Any:
    if source not in _scripts:
        _scripts[source] = redis_client().register_script(source)
    return _scripts[source]
