"""What this process learned a moment ago: a bounded, thread-safe memory whose entries lapse."""

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Lock
from typing import Generic, TypeVar

ValueT = TypeVar("ValueT")


class Recent(Generic[ValueT]):
    """Keeps the `size` values that were used last, each for `keep` after it was learned."""

    def __init__(self, *, size: int, keep: timedelta) -> None:
        self._size, self._keep = size, keep
        self._lock = Lock()
        self._entries: OrderedDict[str, tuple[datetime, ValueT]] = OrderedDict()

    def get(self, key: str, now: datetime) -> ValueT | None:
        with self._lock:
            return self._get(key, now)

    def put(self, key: str, value: ValueT, now: datetime) -> None:
        with self._lock:
            self._put(key, value, now)

    def add(self, key: str, value: ValueT, now: datetime) -> bool:
        """Put it unless there is one; whether it was put. One of many that add at the same time succeeds."""
        with self._lock:
            if self._get(key, now) is not None:
                return False
            self._put(key, value, now)
            return True

    def change(self, key: str, change: Callable[[ValueT], ValueT], now: datetime) -> None:
        """Change what is known, if it is; it lapses when it would have."""
        with self._lock:
            if self._get(key, now) is not None:
                learned_at, value = self._entries[key]
                self._entries[key] = (learned_at, change(value))

    def drop(self, key: str) -> None:
        with self._lock:
            self._entries.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        return len(self._entries)

    def _get(self, key: str, now: datetime) -> ValueT | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        learned_at, value = entry
        # The distance, not the order: requests that run side by side differ a little in their time, and a clock that
        # was set back must not make an entry live long.
        if abs(now - learned_at) >= self._keep:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def _put(self, key: str, value: ValueT, now: datetime) -> None:
        self._entries[key] = (now, value)
        self._entries.move_to_end(key)
        while len(self._entries) > self._size:
            self._entries.popitem(last=False)
