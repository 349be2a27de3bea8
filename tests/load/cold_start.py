"""How long a function takes from the start of its process to the end of its first answer."""

from __future__ import annotations

import contextlib
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.load.subjects import ask
from tests.processes import FunctionProcess

_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Took:
    """Seconds on the wall and of the processor."""

    wall_s: float
    cpu_s: float


class _Cold(FunctionProcess):
    """A function that is asked as soon as anybody listens."""

    def __init__(self, target: str, log: Path, request: bytes, **options: str) -> None:
        self._request = request
        self._began_at = time.monotonic()
        super().__init__(target, log, **options)

    def _wait_until_it_answers(self) -> None:
        while time.monotonic() < self._began_at + _PATIENCE_S and self._process.poll() is None:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self.port)).close()
                break
            time.sleep(0.001)
        answer = ask(self.port, self._request)
        took_s = time.monotonic() - self._began_at
        first = psutil.Process(self._process.pid)
        times = [each.cpu_times() for each in (first, *first.children(recursive=True))]
        self.took = Took(took_s, sum(each.user + each.system for each in times))
        assert answer.status == 200, answer.body.decode()


def measure(target: str, folder: Path, request: bytes, **options: str) -> Took:
    """What it took until `request` was answered by a new process."""
    process = _Cold(target, folder / f"{target}-cold-{time.monotonic_ns()}.log", request, **options)
    process.kill()
    return process.took
