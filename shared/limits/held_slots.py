"""The slots that this process holds, and the one thread that renews their leases.

A process that dies renews nothing, so its slots are free again one lease later. The thread begins with the first slot
and ends when there is none.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.limits.gcra import Slot

RENEW_EVERY_S = 10.0


class HeldSlots:
    """Thread-safe. `renew` is called with all slots held, every `every_s`, from the one thread."""

    def __init__(self, renew: Callable[[list[Slot]], None], *, every_s: float = RENEW_EVERY_S) -> None:
        self._renew = renew
        self._every_s = every_s
        self._lock = threading.Lock()
        self._slots: dict[str, Slot] = {}
        self._by_key: Counter[str] = Counter()
        self._thread: threading.Thread | None = None

    def __contains__(self, slot: Slot) -> bool:
        return slot.id in self._slots

    def count(self, key: str) -> int:
        return self._by_key[key]

    def add(self, slot: Slot) -> None:
        with self._lock:
            if slot.id in self._slots:
                return
            self._slots[slot.id] = slot
            self._by_key[slot.key] += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="limit-slots", daemon=True)
                self._thread.start()

    def drop(self, slot: Slot) -> bool:
        """False when it was not held any more."""
        with self._lock:
            if self._slots.pop(slot.id, None) is None:
                return False
            self._by_key[slot.key] -= 1
            if not self._by_key[slot.key]:
                del self._by_key[slot.key]
            return True

    def _run(self) -> None:
        while True:
            time.sleep(self._every_s)
            with self._lock:
                if not self._slots:
                    self._thread = None
                    return
                held = list(self._slots.values())
            self._renew(held)
