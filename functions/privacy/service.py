"""Running privacy jobs: as soon as they are asked for, and by the sweep what was left."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING

from functions.privacy import repository
from functions.privacy.domain import ARCHIVE_KEPT, Kind, State, gives_up, pause_after
from functions.privacy.erasure import erase
from functions.privacy.export import export
from functions.privacy.run import LeaseLost, OutOfTime, Run
from shared import log, storage
from shared.clock import utc_now
from shared.errors import AppError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from functions.privacy.domain import Job
    from shared.clock import Clock

ERASURE_TIME = timedelta(seconds=100)
"""Of one run; the sweep goes on with the rest."""
EXPORT_TIME = timedelta(seconds=480)
"""Of one run, which must be enough: the next one begins anew."""
SWEEP_TIME = timedelta(seconds=200)
"""Of all that one sweep does. It never sleeps: other jobs wait behind it."""
SWEEP_LIMIT = 50


def run(job_id: str, *, clock: Clock = utc_now, sleep: Callable[[float], None] = time.sleep) -> bool:
    """Do what there is to do of a job; False when it is left for later, or to another run. Raises what went wrong."""
    job = repository.find_job(job_id)
    if job is None:
        return False
    time_left = ERASURE_TIME if job.kind is Kind.ERASURE else EXPORT_TIME
    return _work(job, ends_at=clock() + time_left, clock=clock, sleep=sleep)


def sweep(*, now: datetime, clock: Clock = utc_now) -> dict[str, int]:
    """Go on with jobs that nobody runs, and delete old archives. One failure does not stop the rest."""
    ends_at = clock() + SWEEP_TIME
    outcomes = [
        _attempt(job, lambda each: _work(each, ends_at=ends_at, clock=clock, sleep=None))
        for job in repository.list_waiting_jobs(now, SWEEP_LIMIT)
        if clock() < ends_at
    ]
    deleted = [_attempt(job, _delete_export) for job in repository.list_past_exports(now, SWEEP_LIMIT)]
    return {
        "privacy_jobs_done": outcomes.count(True),
        "privacy_jobs_left": outcomes.count(False),
        "privacy_jobs_failed": outcomes.count(None) + deleted.count(None),
        "archives_deleted": deleted.count(True),
    }


def _attempt(job: Job, act: Callable[[Job], bool]) -> bool | None:
    """What `act` did; None when it failed, which the log tells and another sweep tries again."""
    try:
        return act(job)
    except Exception as error:  # noqa: BLE001  # each job is an edge of its own
        log.error("privacy job failed", cause=error, job_id=job.id, kind=job.kind.value)
        return None


def _work(job: Job, *, ends_at: datetime, clock: Clock, sleep: Callable[[float], None] | None) -> bool:
    if _must_wait(job, clock()):
        return False
    a_run = Run(job, clock=clock, sleep=sleep, ends_at=ends_at)
    try:
        a_run.take()
        (erase if job.kind is Kind.ERASURE else export)(a_run)
    except LeaseLost:
        log.info("privacy job is somebody else's", job_id=job.id, kind=job.kind.value)
        return False
    except OutOfTime as rest:
        _leave(a_run, rest)
        return False
    except Exception as error:
        _note_failure(a_run, error)
        raise
    return True


def _must_wait(job: Job, now: datetime) -> bool:
    """A user has one archive made at a time, and of two erasures the first one does the work and ends the other."""
    others = [other for other in repository.list_other_jobs(job) if other.kind is job.kind and other.is_open]
    if job.kind is Kind.EXPORT:
        return any(other.state is State.RUNNING and not other.can_be_taken(now) for other in others)
    return any((other.created_at, other.id) < (job.created_at, job.id) for other in others)


def _leave(a_run: Run, rest: OutOfTime) -> None:
    """An erasure goes on where it stopped; an archive that takes so long would only take as long again."""
    if a_run.job.kind is Kind.EXPORT:
        _note_failure(a_run, rest)
    else:
        _try_to_change(a_run, lease_until=rest.go_on_at)


def _note_failure(a_run: Run, error: Exception) -> None:
    failures = a_run.job.failures + 1
    code = error.code if isinstance(error, AppError) else type(error).__name__
    changes = {"failures": failures, "last_error": code, "lease_until": a_run.now + pause_after(failures)}
    if gives_up(a_run.job.kind, failures):
        changes |= {"state": State.FAILED.value, "expires_at": a_run.now + ARCHIVE_KEPT}
    _try_to_change(a_run, **changes)


def _try_to_change(a_run: Run, **changes: object) -> None:
    """When even this fails the lease runs out, and the sweep takes the job up again."""
    try:
        a_run.change(**changes)
    except (LeaseLost, Unavailable) as error:
        log.warning("privacy job not noted", job_id=a_run.job.id, reason=repr(error))


def _delete_export(job: Job) -> bool:
    storage.delete(repository.archive_of(job))
    repository.delete_job(job.id)
    return True
