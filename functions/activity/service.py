"""Writing, reading and erasing the activity log."""

from __future__ import annotations

import random
import secrets
import time
from typing import TYPE_CHECKING

from functions.activity import repository
from functions.activity.domain import ACCOUNT_ERASED, Entry, Head, erased, first_break, next_entry
from functions.activity.schemas import ActivityEntry, ActivityPage
from shared import holdings, store
from shared.events import Event, once
from shared.trace import current_trace

if TYPE_CHECKING:
    from datetime import datetime

    from shared.store import Batch


_TRIES = 12
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_SALT_BYTES = 16
_LINKS_PER_MOVE = 150
"""Each is two writes, one of them large."""


def record(event: Event, *, now: datetime) -> bool:
    """Chain the event to its user's log; False when it is there already, or its user's account has been erased.

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
    if version is None and holdings.is_erased(event.uid):
        # Erasing moves a chain away by a batch that a longer chain refuses: an event that is late finds no chain.
        return False
    entry = next_entry(
        head,
        event_id=event.id,
        action=event.type,
        subject=event.subject,
        details=dict(event.data),
        salt=_new_salt(),
        occurred_at=event.occurred_at,
        trace_id=event.trace_id,
    )

    def chain(batch: Batch) -> None:
        repository.append(batch, event.uid, entry, version)

    return once("activity", event, chain, now=now)


def list_entries(uid: str, limit: int, cursor: str | None) -> ActivityPage:
    found, next_cursor = repository.list_entries(uid, limit, cursor)
    items = [ActivityEntry.model_validate(snapshot.to_dict()) for snapshot in found]
    return ActivityPage(items=items, next_cursor=next_cursor)


def erase_some(uid: str, *, pseudonym: str, event_id: str, now: datetime) -> int:
    """Move the next entries of the user's chain under the pseudonym, without their content. 0 when all is done.

    The last thing to move is the chain's end, together with a last entry that says the account was erased. It can be
    stopped anywhere and called again; events that arrive in between are chained and moved too.
    """
    head, version = repository.read_head(uid)
    links = repository.first_links(uid, _LINKS_PER_MOVE)
    is_sealed = repository.read_head(pseudonym)[1] is not None
    if is_sealed and not links and version is None:
        return 0
    batch = store.new_batch()
    repository.take_away(batch, uid, [entry.n for entry, _ in links])
    if not is_sealed and links:
        repository.put(batch, pseudonym, [(erased(entry), digest) for entry, digest in links])
    elif not links and version is not None:
        repository.end_chain(batch, uid, version)
    if not is_sealed and not links:
        repository.append(batch, pseudonym, _last_entry(head, event_id, now), None)
    try:
        store.commit(batch)
    except (store.StaleWrite, store.AlreadyExists):
        return 1  # an event was chained meanwhile, or another run was quicker: look again
    return max(len(links), 1)


def _last_entry(head: Head, event_id: str, now: datetime) -> Entry:
    return next_entry(
        head,
        event_id=event_id,
        action=ACCOUNT_ERASED,
        subject="account",
        details={},
        salt=_new_salt(),
        occurred_at=now,
        trace_id=current_trace().trace_id,
    )


def find_break(chain_id: str) -> int | None:
    """Verify a whole chain: the number of the first entry that does not hold, None when all do."""
    return first_break(repository.all_links(chain_id))


def _new_salt() -> str:
    return secrets.token_hex(_SALT_BYTES)
