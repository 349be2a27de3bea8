"""The log of a generation in Redis: typed events with sequence numbers, appended before they are delivered.

    gen:{id}:events   list of JSON events; the n-th has sequence number n
    gen:{id}:meta     hash: uid, fence, upstream_id, stop, closed
    gen:{id}:alive    present while the producer lives; refreshed by `functions.chat.watch`

The producer holds the fence it opened the log with; whoever takes over (the sweep) changes it, and the old producer's
appends are refused from then on. When Redis fails the answer still flows to its client; it only cannot be resumed.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic_core import from_json, to_json

from shared import log
from shared.clients import redis_link
from shared.errors import Unavailable
from shared.redis_link import Command, LinkFailed, Script

KEPT_S = 3600
ALIVE_S = 6
AWAY_S = 3.0
"""After a failure Redis is left alone for so long: new generations go without a log instead of waiting for it again."""

_OPEN = Script(f"""
local fence = redis.call('HGET', KEYS[2], 'fence')
if fence and fence ~= ARGV[2] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[2], 'uid', ARGV[1], 'fence', ARGV[2])
redis.call('EXPIRE', KEYS[2], {KEPT_S})
redis.call('SET', KEYS[3], '1', 'EX', ARGV[3])
return 1
""")
"""ARGV: uid, fence, for how many seconds the producer is taken for alive. Gives 0 when somebody else was first."""

_APPEND = Script(f"""
local meta = redis.call('HMGET', KEYS[2], 'fence', 'closed', 'stop')
if not meta[1] then return {{-2, 0}} end
if meta[1] ~= ARGV[1] then return {{-1, 0}} end
local length = redis.call('LLEN', KEYS[1])
if #ARGV > 4 and length == tonumber(ARGV[3]) + #ARGV - 4 then return {{length, meta[3] and 1 or 0}} end
if meta[2] or length ~= tonumber(ARGV[3]) then return {{-1, 0}} end
if ARGV[4] ~= '' then redis.call('HSET', KEYS[2], 'upstream_id', ARGV[4]) end
for i = 5, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
if ARGV[2] == '1' then
  redis.call('HSET', KEYS[2], 'closed', '1')
  redis.call('DEL', KEYS[3])
end
redis.call('EXPIRE', KEYS[1], {KEPT_S})
redis.call('EXPIRE', KEYS[2], {KEPT_S})
return {{length + #ARGV - 4, meta[3] and 1 or 0}}
""")
"""ARGV: fence, whether to close, how many events were there before, the provider's id if it is new, the events. Sent
again, it appends nothing."""

_READ = Script("""
local meta = redis.call('HMGET', KEYS[2], 'uid', 'closed', 'upstream_id')
if not meta[1] then return false end
local events = redis.call('LRANGE', KEYS[1], ARGV[1], -1)
return {meta[1], meta[2] and 1 or 0, meta[3] or '', redis.call('EXISTS', KEYS[3]), events}
""")
"""ARGV: how many events to leave out. One moment's view: what is closed has all its events."""

_STOP = Script(f"""
redis.call('HSET', KEYS[2], 'stop', '1')
redis.call('EXPIRE', KEYS[2], {KEPT_S})
""")

_TAKE_OVER = Script(f"""
if redis.call('EXISTS', KEYS[3]) == 1 then return -1 end
if not redis.call('HGET', KEYS[2], 'closed') then
  redis.call('HSET', KEYS[2], 'uid', ARGV[2], 'fence', ARGV[1])
  redis.call('EXPIRE', KEYS[2], {KEPT_S})
end
return redis.call('LLEN', KEYS[1])
""")
"""ARGV: fence, uid. Of a log that was never opened too: who was too slow to open it must notice."""

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

    def open(self) -> Append:
        """FENCED when the generation was ended before it could begin."""
        if time.monotonic() < _away["until"]:
            self._lost = True
            return Append.LOST
        try:
            opened = redis_link().run(_OPEN, self._keys, [self._uid, self._fence, ALIVE_S])
        except LinkFailed as error:
            return self._lose(error)
        return Append.DONE if opened else Append.FENCED

    def append(self, events: list[Event], *, close: bool = False, upstream_id: str | None = None) -> Append:
        """`upstream_id`: the provider's id, once it is known: by it a sweep learns the cost when this process dies. It
        may come without events.
        """
        if self._lost:
            return Append.LOST
        try:
            about = [self._fence, "1" if close else "0", self._length, upstream_id or ""]
            length, stop = redis_link().run(_APPEND, self._keys, [*about, *map(to_json, events)])
        except LinkFailed as error:
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
    try:
        found = redis_link().run(_READ, _keys(generation_id), [after])
    except LinkFailed as error:
        raise Unavailable("The log of generations cannot be read right now; try again.", retry_after_s=2) from error
    if found is None:
        return None
    uid, closed, upstream_id, alive, lines = found
    return Snapshot(
        events=[{"seq": after + index, **from_json(line)} for index, line in enumerate(lines, start=1)],
        closed=bool(closed),
        alive=bool(alive),
        uid=uid.decode(),
        upstream_id=upstream_id.decode() or None,
    )


def request_stop(generation_id: str) -> None:
    """Ask the producer to stop. Raises Unavailable without Redis: a stop must not seem to work when it does not."""
    try:
        redis_link().run(_STOP, _keys(generation_id), [])
    except LinkFailed as error:
        raise Unavailable("The generation cannot be reached right now; try again.", retry_after_s=2) from error


def refresh(generation_ids: list[str]) -> set[str]:
    """Say that these generations' producer lives; give back those that were asked to stop. Raises LinkFailed."""
    commands: list[Command] = []
    for generation_id in generation_ids:
        _, meta, alive = _keys(generation_id)
        commands += [("SET", alive, "1", "EX", ALIVE_S), ("HGET", meta, "stop")]
    answers = redis_link().call_all(commands)
    return {generation_id for generation_id, stop in zip(generation_ids, answers[1::2], strict=True) if stop}


def take_over(generation_id: str, uid: str) -> GenerationLog | None:
    """The log of a generation whose producer is dead, fenced against it; None while it lives. Raises LinkFailed."""
    fence = secrets.token_hex(8)
    length = redis_link().run(_TAKE_OVER, _keys(generation_id), [fence, uid])
    return None if length < 0 else GenerationLog(generation_id, uid, fence, length)


def _keys(generation_id: str) -> list[str]:
    """The braces name what belongs together, should these keys ever be spread over several nodes."""
    return [f"gen:{{{generation_id}}}:{part}" for part in ("events", "meta", "alive")]
