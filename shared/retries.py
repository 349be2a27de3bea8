"""Trying again what failed for a moment: how often, after which pauses, and when to give up. Pure but for its waiting.

Of a call to a model provider exactly one layer retries, `shared.openrouter.asking`, with what is here. Below it, the
transport repeats look-ups alone. Two other places repeat what costs nothing and changes nothing: the Redis client
reconnects once, and `store.commit` tries again what Firestore gave up under contention without applying it. They never
enclose a call to a provider, so attempts do not multiply.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from shared.errors import AppError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long somebody waits for a call to succeed after all."""

    attempts: int = 3
    """A failure that lasts through three attempts is an outage; the breaker is for those."""
    first_pause_s: float = 0.4
    """The pause is random between nothing and this, doubled each time: full jitter spreads those who failed together
    (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/)."""
    total_s: float = 20.0
    """No attempt begins later than this after the first. A person waits that long for a first word, hardly longer; and
    with the longest wait for a first byte added it still ends far within the time that a request may take."""

    def longest_pauses_s(self) -> Iterator[float]:
        """The upper end of each pause."""
        return (self.first_pause_s * 2**retry for retry in range(self.attempts - 1))


def call(
    attempt: Callable[[], T],
    *,
    pause_after: Callable[[AppError], float | None],
    wait: Callable[[float], None],
    patience: Patience | None = None,
    monotonic: Callable[[], float] = time.monotonic,
    jitter: Callable[[float, float], float] = random.uniform,
) -> T:
    """What the first attempt that succeeds gives, or the error of the last one.

    `pause_after` says for how many seconds at least this error asks to wait (Retry-After), None when the same call must
    not be tried again. When that wait leads beyond the total time the error is raised at once. `wait` may raise to end
    the waiting.
    """
    patience = patience or Patience()
    give_up_at = monotonic() + patience.total_s
    for longest_pause_s in patience.longest_pauses_s():
        try:
            return attempt()
        except AppError as error:
            asked_s = pause_after(error)
            if asked_s is None:
                raise
            # On top of what was asked for, or all who were told the same come back at the same moment.
            pause_s = asked_s + jitter(0, longest_pause_s)
            if monotonic() + pause_s > give_up_at:
                raise
        wait(pause_s)
    return attempt()
