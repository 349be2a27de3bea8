"""Rules of privacy jobs: what a job is, in which order an account is erased, and how long to wait for what. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

LEASE = timedelta(seconds=60)
"""How long a run may be silent before another one may take its job."""
PROGRESS_EVERY = timedelta(seconds=1)

QUIET = timedelta(seconds=35)
"""After the account was cut off: every process has forgotten that it was in good standing (30 s) by then."""
UPLOAD_TAKES = timedelta(minutes=1)
"""How long a file may be on its way that was sent with a link's last second."""
BUSY_PATIENCE = timedelta(minutes=15)
"""How long to wait for answers in the making: longer than the longest, and than noticing that its process died."""
BUSY_PAUSE = timedelta(seconds=15)

ARCHIVE_KEPT = timedelta(days=7)
EXPORT_TRIES = 4
_FIRST_PAUSE = timedelta(minutes=1)
_LONGEST_PAUSE = timedelta(hours=1)


class Kind(StrEnum):
    EXPORT = "export"
    ERASURE = "erasure"


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    """Exports only: they can be asked for again. An erasure is tried until it is done."""


class Step(StrEnum):
    """Of an erasure, in this order. A step that was interrupted begins again; each does no harm when it runs twice."""

    CUT_OFF = "cut_off"
    """The tombstone, and whatever still gets somebody in."""
    WAIT = "wait"
    """Until nobody acts for the account any more: requests, uploads, answers in the making, an archive."""
    DOCUMENTS = "documents"
    ACTIVITY = "activity"
    FILES = "files"
    CACHES = "caches"
    SIGN_IN = "sign_in"
    PROVE = "prove"
    """Count everything again. Whatever is found sends the job back to the documents."""


STEPS = tuple(Step)


@dataclass(frozen=True)
class Job:
    """A privacy job as it is stored. `version` is when the document was last written: what a change depends on."""

    id: str
    kind: Kind
    uid: str
    state: State
    created_at: datetime
    step: str
    done: int
    total: int
    failures: int
    """In a row."""
    passes: int
    """How often the erasure has gone through everything."""
    cut_off_at: datetime | None
    lease_until: datetime | None
    version: Any

    @property
    def erasure_step(self) -> Step:
        """Where to go on: at the beginning, unless a run got farther."""
        return Step(self.step) if self.step in STEPS else Step.CUT_OFF

    @property
    def is_open(self) -> bool:
        return self.state in (State.QUEUED, State.RUNNING)

    def can_be_taken(self, now: datetime) -> bool:
        """Whether it has work left that nobody does."""
        leased = self.lease_until is not None and self.lease_until > now
        return self.is_open and not leased


def after(step: Step) -> Step:
    return STEPS[STEPS.index(step) + 1]


def quiet_at(cut_off_at: datetime) -> datetime:
    return cut_off_at + QUIET


def may_wait_for_answers(cut_off_at: datetime, now: datetime) -> bool:
    return now < cut_off_at + BUSY_PATIENCE


def pause_after(failures: int) -> timedelta:
    """How long to leave a job alone that failed so many times in a row."""
    doublings = min(failures - 1, 10)
    return min(_FIRST_PAUSE * (1 << doublings), _LONGEST_PAUSE)


def gives_up(kind: Kind, failures: int) -> bool:
    return kind is Kind.EXPORT and failures >= EXPORT_TRIES


def archive_name(uid: str, job_id: str) -> str:
    """Where in the bucket the archive is."""
    return f"exports/{uid}/{job_id}.zip"
