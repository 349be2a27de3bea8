"""When a credential was used last: to the hour, and never on a request's way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import cache

from shared import log, metrics, store
from shared.errors import Unavailable
from shared.identity.recent import Recent

COARSENESS = timedelta(hours=1)
_noted: Recent[bool] = Recent(size=10_000, keep=COARSENESS)


def note(reference: store.Reference, field: str, *, last: datetime | None, now: datetime) -> None:
    """Write the time into the field, at most once an hour in this process, and not when it is there to the hour."""
    if last is not None and now - last < COARSENESS:
        return
    if _noted.add(reference.path, True, now):  # noqa: FBT003  # that it is there is all that is kept
        _writer().submit(_write, reference, field, now)


def forget_all() -> None:
    _noted.clear()


@cache
def _writer() -> ThreadPoolExecutor:
    """Made on first use, so that a fork comes before its thread."""
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="last-use")


def _write(reference: store.Reference, field: str, at: datetime) -> None:
    """An update, never a creation: what was erased meanwhile stays erased."""
    batch = store.new_batch()
    batch.update(reference, {field: at})
    try:
        store.commit(batch)
    except (Unavailable, store.StaleWrite) as error:
        metrics.count("last_use_lost_total", field=field)
        log.info("the time of a last use was not written", field=field, reason=repr(error))
