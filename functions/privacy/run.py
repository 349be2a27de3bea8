"""One run of a job: its lease, its progress, and the time it may take."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from functions.privacy import repository
from functions.privacy.domain import LEASE, PROGRESS_EVERY, State
from shared import store

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from functions.privacy.domain import Job
    from shared.clock import Clock


class LeaseLost(Exception):
    """Somebody else has the job, or it is no longer there: this run must do nothing more."""


class OutOfTime(Exception):
    """The rest is for another run, from `go_on_at` on."""

    def __init__(self, go_on_at: datetime) -> None:
        super().__init__(f"to go on at {go_on_at.isoformat()}")
        self.go_on_at = go_on_at


class Run:
    """The right to work on a job, for as long as it is used.

    Every change depends on the version of the job that was read before it, so two runs cannot both go on.
    """

    def __init__(self, job: Job, *, clock: Clock, sleep: Callable[[float], None] | None, ends_at: datetime) -> None:
        self.job = job
        self._clock, self._sleep, self._ends_at = clock, sleep, ends_at
        self._told_at = clock()

    @property
    def now(self) -> datetime:
        return self._clock()

    def take(self) -> None:
        """Take the job's lease. Raises LeaseLost when another run has it."""
        if not self.job.can_be_taken(self.now):
            raise LeaseLost(self.job.id)
        self.change(state=State.RUNNING.value, attempts=repository.ONE_MORE)

    def advance(self, step: str, *, total: int = 0, **changes: Any) -> None:
        """Begin a step."""
        self.job = replace(self.job, step=step, done=0, total=total)
        self.change(**changes)

    def note(self, done: int = 1) -> None:
        """Some of the step is done: tell it when it was not told for a second. Raises LeaseLost, OutOfTime."""
        self.job = replace(self.job, done=self.job.done + done)
        if self.now >= self._told_at + PROGRESS_EVERY:
            self.change()
        if self.now >= self._ends_at:
            raise OutOfTime(self.now)

    def wait_until(self, moment: datetime) -> None:
        """Sleep, if this run may and has the time; else leave the job alone until then: OutOfTime."""
        while (left := moment - self.now) > timedelta(0):
            if self._sleep is None or moment > self._ends_at:
                raise OutOfTime(moment)
            self._sleep(min(left, LEASE / 4).total_seconds())
            self.change()

    def change(self, **changes: Any) -> None:
        """Change the job; the lease begins anew. Raises LeaseLost."""
        now = self.now
        lease = {"lease_until": now + LEASE, "updated_at": now, "progress": self.progress}
        try:
            version = repository.change_job(self.job, lease | changes)
        except store.StaleWrite as error:
            raise LeaseLost(self.job.id) from error
        kept = {name: value for name, value in changes.items() if name in ("passes", "cut_off_at", "failures")}
        self.job = replace(self.job, version=version, **kept)
        self._told_at = now

    @property
    def progress(self) -> dict[str, Any]:
        return {"step": self.job.step, "done": self.job.done, "total": self.job.total}
