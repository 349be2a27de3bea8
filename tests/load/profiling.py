"""Where a function's processor time goes: samples of its threads, taken from outside by py-spy.

A profiler inside the process would slow down what it watches, and would see a thread only where it lets others run.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.load import scratch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.load.subjects import Subject

SAMPLES_PER_S = 250
SHOWN = 45


@dataclass
class Profile:
    """Samples by function, of its own lines and of all it called, and by the package whose lines ran."""

    packages: Counter[str] = field(default_factory=Counter)
    own: Counter[str] = field(default_factory=Counter)
    whole: Counter[str] = field(default_factory=Counter)
    samples: int = 0

    def add(self, stack: list[str], samples: int) -> None:
        self.samples += samples
        self.own[stack[-1]] += samples
        self.packages[_package_of(stack[-1])] += samples
        for function in set(stack):
            self.whole[function] += samples

    def shown(self, cost_ms: float) -> str:
        """Milliseconds of one request, whose cost was measured beside; the parts add up to it."""
        lines = [f"  {self.samples} samples"]
        titles = (("by package", self.packages), ("own time", self.own), ("with all it calls", self.whole))
        for title, counted in titles:
            lines.append(f"  {title}")
            for function, samples in counted.most_common(SHOWN):
                lines.append(f"    {samples / self.samples * cost_ms:6.2f} ms  {function}")
        return "\n".join(lines)


@contextlib.contextmanager
def watching(subject: Subject, folder: Path) -> Iterator[Profile]:
    """Samples what runs inside the context; the profile is filled when it is left."""
    py_spy = scratch.from_pypi("profiler", "py-spy==0.4.3") / "py-spy"
    # Of gunicorn's two processes the second serves. Only threads that hold the interpreter's lock count: whether others
    # work or wait cannot be told from outside on every machine.
    (worker,) = psutil.Process(subject.pid).children()
    written = folder / f"profile-{time.monotonic_ns()}.txt"
    command = [str(py_spy), "record", "--gil", "--format", "raw", "--rate", str(SAMPLES_PER_S), "--duration", "600"]
    process = subprocess.Popen(
        [*command, "--output", str(written), "--pid", str(worker.pid)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    time.sleep(0.5)  # until it is attached
    profile = Profile()
    try:
        yield profile
    finally:
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    assert written.exists(), said.decode()
    for line in written.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        profile.add([_shortened(frame) for frame in stack.split(";")], int(samples))


def _shortened(frame: str) -> str:
    """`hold (functions/credits/service.py)`: without the line, so that a function is counted once."""
    return frame.rpartition(":")[0] + ")" if ":" in frame else frame


def _package_of(function: str) -> str:
    """`functions/chat` and `shared/http` for ours, the distribution for others'."""
    steps = function.rpartition("(")[2].rstrip(")").split("/")
    return "/".join(steps[: 2 if steps[0] in {"functions", "shared"} else 1])
