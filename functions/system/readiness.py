"""Whether what this product depends on answers, and how fast."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaiting
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

from functions.system.schemas import Dependency, DependencyState, Readiness
from shared import log
from shared.clients import firestore_client, publisher, redis_client, storage_bucket
from shared.errors import Unavailable
from shared.events import TOPICS
from shared.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future
    from datetime import datetime

PATIENCE_S = 2.0
REMEMBERED_S = 3.0
"""Whoever asks often gets the same answer, so that asking is no load."""


@dataclass(frozen=True)
class _Check:
    name: str
    required: bool
    without_it: str
    ask: Callable[[], object]


# The libraries' own repetitions go on for minutes, long after anybody waits for the answer.


def _ask_firestore() -> object:
    return firestore_client().collection("processed").document("readiness").get(timeout=PATIENCE_S, retry=None)


def _ask_redis() -> object:
    return redis_client().ping()


def _ask_pubsub() -> object:
    topic = publisher().topic_path(settings().project_id, TOPICS[0])
    return publisher().get_topic(topic=topic, timeout=PATIENCE_S, retry=None)


def _ask_storage() -> object:
    if not storage_bucket().exists(timeout=PATIENCE_S, retry=None):
        raise Unavailable("The bucket is not there.")
    return None


_CHECKS = (
    _Check("firestore", required=True, without_it="Nothing can be read or written.", ask=_ask_firestore),
    _Check(
        "redis",
        required=False,
        without_it="Limits are kept by each instance alone; a broken stream cannot be resumed or stopped.",
        ask=_ask_redis,
    ),
    _Check("pubsub", required=False, without_it="Titles and other after-effects come later.", ask=_ask_pubsub),
    _Check("storage", required=False, without_it="Avatars and exports cannot be stored.", ask=_ask_storage),
)

_lock = Lock()
_remembered: list[tuple[float, Readiness]] = []
_under_way: dict[str, Future[float]] = {}
"""The question that each dependency was asked last; one that hangs is not asked again until it has answered."""


def check(*, now: datetime) -> Readiness:
    """Ask everything at once. Raises Unavailable naming the required dependencies that are down."""
    readiness = _known() or _renewed(now)
    down = [one.name for one in readiness.dependencies if one.required and one.state is DependencyState.DOWN]
    if down:
        raise Unavailable(f"Not ready: {', '.join(down)} did not answer.", retry_after_s=5)
    return readiness


def _known() -> Readiness | None:
    """What was found a moment ago; also what was found before that, while another thread asks anew: of all the threads
    that requests wait in, one waits for a dependency that hangs.
    """
    if not _remembered:
        return None
    asked_at, readiness = _remembered[0]
    return readiness if time.monotonic() - asked_at <= REMEMBERED_S or _lock.locked() else None


def _renewed(now: datetime) -> Readiness:
    with _lock:
        if not _remembered or time.monotonic() - _remembered[0][0] > REMEMBERED_S:
            found = _ask_all(now)
            _remembered[:] = [(time.monotonic(), found)]
        return _remembered[0][1]


def _ask_all(now: datetime) -> Readiness:
    started = time.monotonic()
    asked = [(one, _question(one)) for one in _CHECKS]
    dependencies = [_result(one, future, started) for one, future in asked]
    healthy = all(one.state is DependencyState.UP for one in dependencies)
    return Readiness(status="ready" if healthy else "degraded", checked_at=now, dependencies=dependencies)


def _question(check: _Check) -> Future[float]:
    last = _under_way.get(check.name)
    if last is None or last.done():
        last = _under_way[check.name] = _pool().submit(_timed, check)
    return last


def _timed(check: _Check) -> float:
    started = time.monotonic()
    check.ask()
    return time.monotonic() - started


def _result(check: _Check, future: Future[float], started: float) -> Dependency:
    state = DependencyState.UP
    try:
        took_s = future.result(timeout=max(0.0, started + PATIENCE_S - time.monotonic()))
    except StillWaiting:
        took_s, state = time.monotonic() - started, DependencyState.DOWN
    except Exception as error:  # noqa: BLE001  # whatever a dependency fails with, it is down
        log.warning("dependency down", dependency=check.name, reason=repr(error))
        took_s, state = time.monotonic() - started, DependencyState.DOWN
    return Dependency(
        name=check.name,
        state=state,
        required=check.required,
        latency_ms=round(took_s * 1000, 1),
        without_it=check.without_it,
    )


@cache
def _pool() -> ThreadPoolExecutor:
    """A thread for each: one that waits for what hangs takes nobody else's."""
    return ThreadPoolExecutor(max_workers=len(_CHECKS), thread_name_prefix="readiness")
