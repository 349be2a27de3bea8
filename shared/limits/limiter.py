"""Who decides: Redis while it answers, this process while it does not. Never raises because of Redis."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from shared import log, metrics
from shared.limits.held_slots import RENEW_EVERY_S, HeldSlots
from shared.limits.local_buckets import LocalBuckets
from shared.limits.shared_buckets import SharedBuckets
from shared.redis_link import Link, LinkFailed
from shared.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from shared.limits.gcra import Bucket, Slot, Verdict

ASK_AGAIN_AFTER_S = 0.5


class Reachability:
    """Whether Redis is worth asking. After a failure one caller per pause tries; the others are told not to.

    Each change is one log line, written under the lock so that they stand in the order they happened.
    """

    def __init__(self, *, pause_s: float = ASK_AGAIN_AFTER_S, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._pause_s = pause_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._away = False
        self._try_at = 0.0

    def may_ask(self) -> bool:
        """True for everybody while Redis answers, else for the one who is to find out whether it does again."""
        if not self._away:
            return True
        with self._lock:
            if not self._away:
                return True
            if self._monotonic() < self._try_at:
                return False
            self._try_at = self._monotonic() + self._pause_s
            return True

    def answered(self) -> None:
        if not self._away:
            return
        with self._lock:
            came_back, self._away = self._away, False
            if came_back:
                log.info("rate limits are shared again", counter="limits_shared")

    def failed(self, error: LinkFailed) -> None:
        with self._lock:
            went_away, self._away = not self._away, True
            self._try_at = self._monotonic() + self._pause_s
            if went_away:
                log.warning("rate limits are local: Redis does not answer", counter="limits_local", reason=str(error))


class Limiter:
    """The limits of one process."""

    def __init__(
        self,
        shared: SharedBuckets,
        *,
        reachability: Reachability | None = None,
        renew_every_s: float = RENEW_EVERY_S,
    ) -> None:
        self._shared = shared
        self._reachability = reachability or Reachability()
        self.held = HeldSlots(self._renew, every_s=renew_every_s)
        self._local = LocalBuckets(self.held)

    def admit(self, buckets: Sequence[Bucket], slot: Slot | None = None, *, now_us: int | None = None) -> Verdict:
        """Count the request, or say why not. `now_us` is the time for local limits; Redis has its own."""
        if self._reachability.may_ask():
            try:
                verdict = self._shared.admit(buckets, slot)
            except LinkFailed as error:
                self._reachability.failed(error)
            else:
                self._reachability.answered()
                if slot and verdict.admitted:
                    self.held.add(slot)
                return verdict
        metrics.count("limits_local_total")
        return self._local.admit(buckets, slot, now_us=_now_us() if now_us is None else now_us)

    def charge(self, bucket: Bucket) -> None:
        """Take the bucket's cost even if it is not there: the next request waits."""
        self.end(bucket, None)

    def end(self, charge: Bucket | None, slot: Slot | None) -> None:
        """Take the bucket's cost as `charge` does, and free the slot at once; to free it again is nothing. Without
        Redis the slot's lease there ends by itself.
        """
        released = slot if slot and self.held.drop(slot) else None
        if (charge or released) and not self._told_redis(partial(self._shared.end, charge, released)) and charge:
            self._local.charge(charge, now_us=_now_us())

    def _renew(self, slots: list[Slot]) -> None:
        """Also tells Redis of slots that were taken while it was away."""
        if not self._told_redis(lambda: self._shared.renew(slots)):
            return
        for slot in slots:
            if slot not in self.held:  # released while the call was under way, which has put it back
                self._told_redis(partial(self._shared.end, None, slot))

    def _told_redis(self, tell: Callable[[], None]) -> bool:
        if not self._reachability.may_ask():
            return False
        try:
            tell()
        except LinkFailed as error:
            self._reachability.failed(error)
            return False
        self._reachability.answered()
        return True


_limiters: dict[int, Limiter] = {}


def limiter() -> Limiter:
    """The limiter of this process: made on first use, and anew after a fork, which copies neither threads nor peers."""
    found = _limiters.get(os.getpid())
    # Whoever comes second gets what the first has made: nothing in a Limiter begins before it is used.
    return found or _limiters.setdefault(os.getpid(), Limiter(SharedBuckets(Link(settings().redis_url))))


def _now_us() -> int:
    return time.time_ns() // 1000
