"""Keeping the day's counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.analytics import repository
from functions.analytics.domain import counters_of, day_of, shard_of
from shared.events import Event, once

if TYPE_CHECKING:
    from datetime import datetime

    from shared.store import Batch


def count(event: Event, *, now: datetime) -> bool:
    """Add the event to the counters of the day it happened on; False when it was counted already."""

    def add(batch: Batch) -> None:
        counters = counters_of(event.type, event.data)
        repository.add(batch, day_of(event.occurred_at), shard_of(event.id), counters)

    return once("analytics", event, add, now=now)
