"""Writing and reading the activity log."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

from functions.activity import repository
from functions.activity.domain import Entry
from functions.activity.schemas import ActivityEntry, ActivityPage
from shared import store
from shared.events import Event, once

if TYPE_CHECKING:
    from datetime import datetime

    from google.cloud.firestore import WriteBatch

_TRIES = 12
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0


def record(event: Event, *, now: datetime) -> bool:
    """Chain the event to its user's log; False when it is there already.

    A chain has one end, so events of one user that arrive together collide; the loser reads the new end and tries
    again. Raises store.StaleWrite when that does not succeed, for the platform to deliver the event again.
    """
    pause_s = _FIRST_PAUSE_S
    for _ in range(_TRIES - 1):
        try:
            return _record_once(event, now)
        except store.StaleWrite:
            time.sleep(random.uniform(0, pause_s))  # noqa: S311  # spreads writers, decides nothing secret
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
    return _record_once(event, now)


def _record_once(event: Event, now: datetime) -> bool:
    head, version = repository.read_head(event.uid)
    entry = Entry(
        n=head.n + 1,
        event_id=event.id,
        action=event.type,
        subject=event.subject,
        details=dict(event.data),
        occurred_at=event.occurred_at,
        trace_id=event.trace_id,
        previous_hash=head.hash,
    )

    def chain(batch: WriteBatch) -> None:
        repository.append(batch, event.uid, entry, version)

    return once("activity", event, chain, now=now)


def list_entries(uid: str, limit: int, cursor: str | None) -> ActivityPage:
    found, next_cursor = repository.list_entries(uid, limit, cursor)
    items = [ActivityEntry.model_validate(snapshot.to_dict()) for snapshot in found]
    return ActivityPage(items=items, next_cursor=next_cursor)
