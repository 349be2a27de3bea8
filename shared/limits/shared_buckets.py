"""Buckets and slots in Redis, the same for every process: one call for everything a request needs, all or nothing.

    limits:{all}:<policy>:<partition>   string, the time at which the bucket is empty again; lives until then
    limits:{all}:<policy>:<uid>         sorted set of slot ids by the end of their lease; lives one lease

Redis's own clock is the only one; times are integers of a microsecond, which its Lua carries exactly until the year
2255. The braces put all keys on one node of a cluster, which one script needs: a caller
and the address they come from, which others share, are counted together. Nothing lives longer than a few windows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.limits.gcra import Verdict, debt_cap_us
from shared.redis_link import Script

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.limits.gcra import Bucket, Slot
    from shared.redis_link import Argument, Link

LEASE_S = 30
"""For how long a slot is held after its process last said that it lives."""
_US = 1_000_000

_ADMIT = Script("""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local buckets = #KEYS
local slots = nil
if #ARGV % 2 == 1 then
  slots = KEYS[buckets]
  buckets = buckets - 1
end
local answer = {1}
for i = 1, buckets do
  local used = math.max((redis.call('GET', KEYS[i]) or now) - now, 0)
  if used > tonumber(ARGV[2 * i - 1]) then answer[1] = 0 end
  answer[i + 1] = used
end
if slots then
  redis.call('ZREMRANGEBYSCORE', slots, '-inf', now)
  local held = redis.call('ZCARD', slots)
  if held >= tonumber(ARGV[2 * buckets + 1]) then answer[1] = 0 end
  answer[buckets + 2] = held
end
if answer[1] == 0 then return answer end
for i = 1, buckets do
  if ARGV[2 * i] ~= '0' then
    local used = answer[i + 1] + ARGV[2 * i]
    redis.call('SET', KEYS[i], now + used, 'PX', math.ceil(used / 1000))
  end
end
if slots then
  local lease = ARGV[2 * buckets + 2]
  redis.call('ZADD', slots, now + lease, ARGV[2 * buckets + 3])
  redis.call('PEXPIRE', slots, lease / 1000)
end
return answer
""")
"""KEYS: the buckets, then the slots. ARGV: for each bucket the most that may be used and the cost, in microseconds;
then for the slots how many there are, the lease in microseconds and the id. Answers 1 or 0, what was used of each
bucket and how many slots were held."""

_END = Script("""
if #ARGV >= 2 then
  local clock = redis.call('TIME')
  local now = clock[1] * 1000000 + clock[2]
  local used = math.max((redis.call('GET', KEYS[1]) or now) - now, 0)
  used = math.min(used + ARGV[1], math.max(used, tonumber(ARGV[2])))
  redis.call('SET', KEYS[1], now + used, 'PX', math.ceil(used / 1000))
end
if #ARGV % 2 == 1 then redis.call('ZREM', KEYS[#KEYS], ARGV[#ARGV]) end
""")
"""KEYS: a bucket to charge, then slots to leave; each may be missing. ARGV: for the bucket the cost and the most that
may be owed, in microseconds; for the slots the id."""

_RENEW = Script("""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], now + ARGV[1], ARGV[i + 1])
  redis.call('PEXPIRE', KEYS[i], ARGV[1] / 1000)
end
""")
"""KEYS: the slots. ARGV: the lease in microseconds, then the ids."""


class SharedBuckets:
    """Every method is one call and raises LinkFailed."""

    def __init__(self, link: Link, *, lease_s: float = LEASE_S) -> None:
        self._link = link
        self._lease_us = round(lease_s * _US)

    def admit(self, buckets: Sequence[Bucket], slot: Slot | None) -> Verdict:
        keys = [bucket.key for bucket in buckets]
        args: list[Argument] = []
        for bucket in buckets:
            args += (bucket.most_us, bucket.cost_us)
        if slot is not None:
            keys.append(slot.key)
            args += (slot.policy.slots, self._lease_us, slot.id)
        admitted, *found = self._link.run(_ADMIT, keys, args)
        slots_in_use = found.pop() if slot is not None else 0
        return Verdict(admitted == 1, tuple(found), slots_in_use)

    def renew(self, slots: Sequence[Slot]) -> None:
        """Begin the leases anew. One that was lost with Redis's memory is there again."""
        self._link.run(_RENEW, [slot.key for slot in slots], [self._lease_us, *(slot.id for slot in slots)])

    def end(self, charge: Bucket | None, slot: Slot | None) -> None:
        """Charge the one and free the other; each may be missing."""
        keys = [each.key for each in (charge, slot) if each]
        taken = (charge.cost_us, debt_cap_us(charge.policy)) if charge else ()
        self._link.run(_END, keys, [*taken, *([slot.id] if slot else [])])
