"""Copies of preferences in Redis: read-through, short-lived, and never believed over Firestore.

    preferences:{uid}          JSON {"uid", "format", "version", "value"}; `version` is Firestore's update time in µs
    preferences:{uid}:newest   the highest version that was ever put, which outlives the copy

A copy older than the newest is never written, also when none is there any more, so a slow reader cannot put back what
a writer has replaced. What is garbage, of another format, somebody else's or from the future is no copy. Without Redis
everything is read from Firestore.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from shared import metrics
from shared.redis_link import Link, LinkFailed, Script
from shared.settings import settings

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT_S = 60
"""Bounds how long a copy may be old when Redis lost the write that should have replaced it."""
_NEWEST_KEPT_S = 3600
"""Longer than the slowest reader is under way."""
FORMAT = 1
_CLOCK_SKEW = timedelta(seconds=30)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# Keeps what is there only if it is a copy of the same format, not older than the new one and not from the future.
_PUT = Script("""
local newest = redis.pcall('GET', KEYS[2])
newest = type(newest) == 'string' and tonumber(newest) or 0
if newest > tonumber(ARGV[2]) and newest <= tonumber(ARGV[3]) then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'EX', ARGV[6])
local there = redis.pcall('GET', KEYS[1])
if type(there) == 'string' then
  local ok, copy = pcall(cjson.decode, there)
  if ok and type(copy) == 'table' and copy.format == tonumber(ARGV[4]) and type(copy.version) == 'number'
     and copy.version > tonumber(ARGV[2]) and copy.version <= tonumber(ARGV[3]) then
    return 0
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[5])
return 1
""")


@dataclass(frozen=True)
class Copy:
    """What Firestore held at `version`; the value is None when nobody chose anything."""

    value: Mapping[str, Any] | None
    version: int


def version_of(written_at: datetime) -> int:
    """Microseconds: Firestore's own precision, and small enough to be exact in Lua's numbers."""
    return (written_at - _EPOCH) // timedelta(microseconds=1)


def get(uid: str, now: datetime) -> Copy | None:
    """The copy, or None when there is none to be believed."""
    try:
        found = _link(settings().redis_url).call("GET", key(uid))
    except LinkFailed:
        metrics.count("preferences_cache_away_total")
        return None
    return None if found is None else _read(found, uid, now)


def put(uid: str, copy: Copy, now: datetime) -> None:
    """Keep the copy for others, unless a newer one is there."""
    document = {"uid": uid, "format": FORMAT, "version": copy.version, "value": copy.value}
    newest = version_of(now + _CLOCK_SKEW)
    try:
        _link(settings().redis_url).run(
            _PUT,
            [key(uid), f"{key(uid)}:newest"],
            [json.dumps(document), copy.version, newest, FORMAT, KEPT_S, _NEWEST_KEPT_S],
        )
    except LinkFailed:
        metrics.count("preferences_cache_away_total")


def key(uid: str) -> str:
    return f"preferences:{uid}"


def _read(raw: bytes, uid: str, now: datetime) -> Copy | None:
    try:
        found = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("uid") != uid:
        return None
    version, value = found.get("version"), found.get("value")
    if not isinstance(version, int) or version > version_of(now + _CLOCK_SKEW):
        return None
    return Copy(value, version) if value is None or isinstance(value, dict) else None


@cache
def _link(url: str) -> Link:
    return Link(url)
