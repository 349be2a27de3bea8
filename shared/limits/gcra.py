"""The arithmetic of the limits. Pure: no clock, no Redis; integers of a microsecond.

Generic cell rate algorithm (ITU-T I.371): a bucket is one number, the time at which it will be empty again. What it
holds beyond now is *used*; each unit adds the policy's interval, and what would pass the burst is refused. The same
comparison stands in Lua in `shared.limits.shared_buckets`; tests hold the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.limits.policies import Concurrency, Policy

_US = 1_000_000
SLOT_WAIT_S = 2
"""Nobody knows when a slot becomes free; this is how soon it is worth asking again."""
MAX_DEBT_WINDOWS = 5
"""One huge answer makes the next request wait, but never for hours."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What a request takes of one quota. Cost 0 takes nothing and passes while anything is left."""

    key: str
    policy: Policy
    cost: int = 1

    @property
    def cost_us(self) -> int:
        return self.cost * self.policy.interval_us

    @property
    def most_us(self) -> int:
        """How much may be used already for this request to pass."""
        return self.policy.burst_us - max(self.cost, 1) * self.policy.interval_us


@dataclass(frozen=True, slots=True)
class Slot:
    """A place among those that may run at the same time; `id` is this request's own."""

    key: str
    id: str
    policy: Concurrency


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found before the request was counted. When it is not admitted, nothing was taken anywhere."""

    admitted: bool
    used_us: tuple[int, ...]
    """Of each bucket, in the order they were asked for."""
    slots_in_use: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a caller stands with one policy after the request."""

    policy: Policy | Concurrency
    remaining: int
    reset_s: int | None
    """While something remains: until the quota is whole again. When nothing does: until the next request passes."""
    wait_s: int
    """For how long this policy refuses the request; 0 when it does not."""


def fits(buckets: Sequence[Bucket], used_us: Sequence[int], slot: Slot | None, slots_in_use: int) -> bool:
    """Whether every bucket has room for its cost and a slot is free."""
    if slot is not None and slots_in_use >= slot.policy.slots:
        return False
    return all(used <= bucket.most_us for bucket, used in zip(buckets, used_us, strict=True))


def debt_cap_us(policy: Policy) -> int:
    return policy.burst_us * MAX_DEBT_WINDOWS


def bucket_standing(bucket: Bucket, used_us: int, *, admitted: bool) -> Standing:
    policy = bucket.policy
    wait_us = 0 if admitted else max(used_us - bucket.most_us, 0)
    after_us = used_us + bucket.cost_us if admitted else used_us
    remaining = max(policy.burst_us - after_us, 0) // policy.interval_us
    if wait_us:
        reset_us = wait_us
    elif remaining:
        reset_us = after_us
    else:
        reset_us = after_us + policy.interval_us - policy.burst_us
    return Standing(policy, remaining, _ceil_s(reset_us), _ceil_s(wait_us))


def slot_standing(slot: Slot, slots_in_use: int, *, admitted: bool) -> Standing:
    free = max(slot.policy.slots - slots_in_use, 0)
    if admitted:
        return Standing(slot.policy, free - 1, None, 0)
    return Standing(slot.policy, free, None, 0 if free else SLOT_WAIT_S)


def _ceil_s(microseconds: int) -> int:
    return -(-microseconds // _US)
