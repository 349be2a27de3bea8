"""What the limits mean, said in another way than the code: buckets that fill by units and leak by exact fractions."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.limits.gcra import Bucket, Slot

DEBT_WINDOWS = 5


@dataclass
class Level:
    """How many units a bucket held at a moment. One leaks out every interval."""

    units: Fraction
    at_us: int


@dataclass
class Model:
    lease_us: int | None = None
    """None: slots are held until they are released."""
    now_us: int = 1_800_000_000_000_000
    levels: dict[str, Level] = field(default_factory=dict)
    slots: dict[str, dict[str, int]] = field(default_factory=dict)

    def level(self, bucket: Bucket) -> Fraction:
        stored = self.levels.get(bucket.key)
        if stored is None:
            return Fraction(0)
        leaked = Fraction(self.now_us - stored.at_us, bucket.policy.interval_us)
        return max(stored.units - leaked, Fraction(0))

    def remaining(self, bucket: Bucket) -> int:
        return max(bucket.policy.quota - self.level(bucket), Fraction(0)).__floor__()

    def in_use(self, slot: Slot) -> int:
        return len([until for until in self.slots.get(slot.key, {}).values() if until > self.now_us])

    def admit(self, buckets: Sequence[Bucket], slot: Slot | None) -> bool:
        if slot and self.in_use(slot) >= slot.policy.slots:
            return False
        if any(self.level(bucket) + max(bucket.cost, 1) > bucket.policy.quota for bucket in buckets):
            return False
        for bucket in buckets:
            self.levels[bucket.key] = Level(self.level(bucket) + bucket.cost, self.now_us)
        if slot:
            until = 10**18 if self.lease_us is None else self.now_us + self.lease_us
            self.slots.setdefault(slot.key, {})[slot.id] = until
        return True

    def charge(self, bucket: Bucket) -> None:
        level = self.level(bucket)
        owed = min(level + bucket.cost, max(level, Fraction(DEBT_WINDOWS * bucket.policy.quota)))
        self.levels[bucket.key] = Level(owed, self.now_us)

    def release(self, slot: Slot) -> None:
        self.slots.get(slot.key, {}).pop(slot.id, None)
