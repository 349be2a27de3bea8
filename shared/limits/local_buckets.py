"""Buckets and slots in this process alone: what counts while Redis is away.

Each process then gives out the whole quota, so limits hold approximately: times the number of processes, at worst.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from shared.limits.gcra import Verdict, debt_cap_us, fits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.limits.gcra import Bucket, Slot
    from shared.limits.held_slots import HeldSlots

MAX_BUCKETS = 20_000


class LocalBuckets:
    """Thread-safe. Keeps the `max_buckets` that were asked for last, so a flood of callers cannot fill the memory."""

    def __init__(self, held: HeldSlots, *, max_buckets: int = MAX_BUCKETS) -> None:
        self._held = held
        self._max_buckets = max_buckets
        self._lock = threading.Lock()
        self._empty_at_us: OrderedDict[str, int] = OrderedDict()

    def admit(self, buckets: Sequence[Bucket], slot: Slot | None, *, now_us: int) -> Verdict:
        with self._lock:
            used_us = tuple(self._used_us(bucket, now_us) for bucket in buckets)
            in_use = self._held.count(slot.key) if slot else 0
            if not fits(buckets, used_us, slot, in_use):
                return Verdict(admitted=False, used_us=used_us, slots_in_use=in_use)
            for bucket, used in zip(buckets, used_us, strict=True):
                if bucket.cost:
                    self._fill(bucket.key, now_us + used + bucket.cost_us)
            if slot:
                self._held.add(slot)
        return Verdict(admitted=True, used_us=used_us, slots_in_use=in_use)

    def charge(self, bucket: Bucket, *, now_us: int) -> None:
        with self._lock:
            used = self._used_us(bucket, now_us)
            owed = min(used + bucket.cost_us, max(used, debt_cap_us(bucket.policy)))
            self._fill(bucket.key, now_us + owed)

    def _used_us(self, bucket: Bucket, now_us: int) -> int:
        return max(self._empty_at_us.get(bucket.key, now_us) - now_us, 0)

    def _fill(self, key: str, empty_at_us: int) -> None:
        self._empty_at_us[key] = empty_at_us
        self._empty_at_us.move_to_end(key)
        while len(self._empty_at_us) > self._max_buckets:
            self._empty_at_us.popitem(last=False)
