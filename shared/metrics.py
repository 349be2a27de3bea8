"""Counters: what happened how often, over all processes.

A process counts in memory and adds what is new to one Redis hash every few seconds, from a thread of its own and never
on a request's path. `render` gives the sum in Prometheus's text format
(https://prometheus.io/docs/instrumenting/exposition_formats/). Labels name kinds (a policy, a model), never people.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import threading
import time
from functools import cached_property, lru_cache
from itertools import groupby

from shared import log
from shared.redis_link import Link, LinkFailed, Script
from shared.settings import settings

KEY = "metrics:counters"
SAVE_EVERY_S = 5.0
MAX_SERIES = 1000
"""Of one process. A label that takes ever new values must not fill the memory."""
DROPPED = "metrics_dropped_total"
_NAME = re.compile(r"[a-z][a-z0-9_]*_total")
_LABEL = re.compile(r"[a-z][a-z0-9_]*")
_TIMEOUT_S = 0.5
_ADD = Script("""
for i = 1, #ARGV, 2 do redis.call('HINCRBYFLOAT', KEYS[1], ARGV[i], ARGV[i + 1]) end
""")


def count(name: str, amount: float = 1, **labels: str) -> None:
    """Add to a counter, such as `limits_local_total`. Raises ValueError when the name could not be shown."""
    _counters().add(_series(name, tuple(sorted(labels.items()))), amount)


def render() -> str:
    """All counters of all processes; only this one's while Redis is away."""
    counters = _counters()
    try:
        counters.save()
        return _exposition(counters.saved())
    except LinkFailed as error:
        log.warning("metrics are this process's alone", counter="metrics_local", reason=str(error))
        return _exposition(counters.totals())


class Counters:
    """The counters of one process; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._saving = threading.Lock()
        self._totals: dict[str, float] = {}
        self._unsaved: dict[str, float] = {}
        self._thread: threading.Thread | None = None

    def add(self, series: str, amount: float) -> None:
        with self._lock:
            if series not in self._totals and len(self._totals) >= MAX_SERIES:
                series = DROPPED
            self._totals[series] = self._totals.get(series, 0.0) + amount
            self._unsaved[series] = self._unsaved.get(series, 0.0) + amount
            self._begin_saving()

    def totals(self) -> dict[str, float]:
        with self._lock:
            return dict(self._totals)

    def saved(self) -> dict[str, float]:
        """The sums of all processes. Raises LinkFailed."""
        answer = iter(self._link.call("HGETALL", KEY))
        return {series.decode(): float(amount) for series, amount in zip(answer, answer, strict=True)}

    def save(self) -> None:
        """Add what is new to Redis. Raises LinkFailed; then it is kept for the next time."""
        with self._saving:
            with self._lock:
                amounts, self._unsaved = self._unsaved, {}
            if not amounts:
                return
            try:
                self._link.run(_ADD, [KEY], [text for pair in amounts.items() for text in (pair[0], repr(pair[1]))])
            except BaseException:
                self._put_back(amounts)
                raise

    def close(self) -> None:
        self._link.close()

    @cached_property
    def _link(self) -> Link:
        return Link(settings().redis_url, timeout_s=_TIMEOUT_S)

    def _put_back(self, amounts: dict[str, float]) -> None:
        with self._lock:
            for series, amount in amounts.items():
                self._unsaved[series] = self._unsaved.get(series, 0.0) + amount

    def _begin_saving(self) -> None:
        """Under the lock. The thread ends when there is nothing left to save."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            time.sleep(SAVE_EVERY_S)
            try:
                self.save()
            except Exception as error:  # noqa: BLE001  # the edge of a thread: it must live to try again
                log.warning("metrics not saved", counter="metrics_not_saved", reason=repr(error))
            with self._lock:
                if not self._unsaved:
                    self._thread = None
                    return


_by_pid: dict[int, Counters] = {}


def _counters() -> Counters:
    """Those of this process: a fork begins at zero, for what was counted before it is its parent's to save."""
    found = _by_pid.get(os.getpid())
    return found or _by_pid.setdefault(os.getpid(), Counters())


@atexit.register
def _save_what_is_left() -> None:
    """The last seconds of a process. Where Redis is away they are lost, as nobody is left to try again."""
    if counters := _by_pid.get(os.getpid()):
        with contextlib.suppress(LinkFailed):
            counters.save()
        counters.close()


@lru_cache(maxsize=MAX_SERIES)
def _series(name: str, labels: tuple[tuple[str, str], ...]) -> str:
    """A sample's name as it is shown: `breaker_opened_total{breaker="openrouter"}`."""
    if not _NAME.fullmatch(name) or not all(_LABEL.fullmatch(label) for label, _ in labels):
        raise ValueError(f"Not the name of a counter and its labels: {name} {labels}")
    if not labels:
        return name
    pairs = ",".join(f'{label}="{_escaped(value)}"' for label, value in labels)
    return f"{name}{{{pairs}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _exposition(amounts: dict[str, float]) -> str:
    lines = []
    for name, samples in groupby(sorted(amounts), key=lambda series: series.partition("{")[0]):
        lines.append(f"# TYPE {name} counter")
        lines += [f"{series} {_number(amounts[series])}" for series in samples]
    return "\n".join(lines) + "\n" if lines else ""


def _number(amount: float) -> str:
    return str(int(amount)) if amount.is_integer() else repr(amount)
