"""Who is measured: a server that runs, and the requests that are put to it."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import psutil

from tests.load import upstream
from tests.load.clients import post
from tests.load.seeding import User, make_conversations
from tests.processes import ROOT, FunctionProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

QUESTION = "What is the answer, in a hundred words?"
_MIB = 2**20
_PATIENCE_S = 60.0
_IDLE_S = 0.3
_IDLE_SHARE = 0.1
_STREAM_HOLDS = (upstream.LAST_WORD, b"[DONE]")
_PLAIN_HOLDS = (upstream.LAST_WORD,)


@dataclass(frozen=True)
class Shape:
    """What kind of answer is asked for."""

    name: str
    stream: bool
    model: str = upstream.MODEL

    @property
    def holds(self) -> Sequence[bytes]:
        """What every answer of this kind has in it."""
        return _STREAM_HOLDS if self.stream else _PLAIN_HOLDS

    @property
    def accept(self) -> str:
        return "text/event-stream" if self.stream else "application/json"


PLAIN = Shape("plain", stream=False)
STREAM = Shape(f"{upstream.CHUNKS}-chunk stream", stream=True)
PACED = Shape("2-second stream", stream=True, model=upstream.PACED_MODEL)


@dataclass
class Subject:
    """A server under measurement. `requests` gives the prepared requests of one round, without end."""

    name: str
    port: int
    pid: int
    requests: Callable[[Shape], Iterator[bytes]]
    stop: Callable[[], None] = field(repr=False)
    warm_up: int = 32
    """How many requests it takes until its caches are warm."""
    shapes: Sequence[Shape] = (PLAIN, STREAM)
    """What it can be asked for."""

    def cpu_s(self) -> float:
        """What all its processes have used of the processor so far."""
        return sum(times.user + times.system for times in map(psutil.Process.cpu_times, self._processes()))

    def memory_mib(self) -> float:
        """What it keeps in memory: the largest process, and what the others do not share with it."""
        whole = sorted((process.memory_full_info() for process in self._processes()), key=lambda each: each.rss)
        return (whole[-1].rss + sum(each.uss for each in whole[:-1])) / _MIB

    def settle(self) -> None:
        """Wait until what the last round left behind is done."""
        give_up_at = time.monotonic() + _PATIENCE_S
        used_s = -1.0
        while self.cpu_s() - used_s > _IDLE_SHARE * _IDLE_S and time.monotonic() < give_up_at:
            used_s = self.cpu_s()
            time.sleep(_IDLE_S)

    def _processes(self) -> list[psutil.Process]:
        first = psutil.Process(self.pid)
        return [first, *first.children(recursive=True)]


# --- what is asked ---------------------------------------------------------------------------------------------------


def completion_body(shape: Shape) -> bytes:
    return json.dumps(
        {"model": shape.model, "messages": [{"role": "user", "content": QUESTION}], "stream": shape.stream}
    ).encode()


def completions(path: str, **headers: str) -> Callable[[Shape], Iterator[bytes]]:
    """The same OpenAI request again and again."""
    return lambda shape: itertools.repeat(post(path, completion_body(shape), Accept=shape.accept, **headers))


def completions_of(users: Sequence[User]) -> Callable[[Shape], Iterator[bytes]]:
    """OpenAI requests, of one user after the other."""

    def requests(shape: Shape) -> Iterator[bytes]:
        body = completion_body(shape)
        return itertools.cycle(
            [post("/v1/chat/completions", body, Accept=shape.accept, **user.headers) for user in users]
        )

    return requests


def messages_of(users: list[User]) -> Callable[[Shape], Iterator[bytes]]:
    """Questions in conversations that are new in every round, of one user after the other."""

    def requests(shape: Shape) -> Iterator[bytes]:
        asked = zip(users, make_conversations(users), strict=True)
        return itertools.cycle([message(user, conversation, shape) for user, conversation in asked])

    return requests


def message(user: User, conversation_id: str, shape: Shape) -> bytes:
    body = json.dumps({"content": QUESTION, "model": shape.model, "stream": shape.stream}).encode()
    path = f"/api/v1/conversations/{conversation_id}/messages"
    return post(path, body, Accept=shape.accept, **user.headers)


# --- what runs -------------------------------------------------------------------------------------------------------


def start_upstream() -> Subject:
    port = free_port()
    command = [sys.executable, "-m", "tests.load.upstream", str(port)]
    process = start(command, ROOT, Path(os.devnull))
    wait_until(lambda: ask(port, b"GET /times HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").status == 200, process)
    path = "/api/v1/chat/completions"
    return Subject("upstream alone", port, process.pid, completions(path), stop=lambda: end(process))


def start_function(
    target: str,
    name: str,
    requests: Callable[[Shape], Iterator[bytes]],
    folder: Path,
    *,
    source: str = "main.py",
    warm_up: int = 32,
    environment: Mapping[str, str] = MappingProxyType({}),
) -> Subject:
    """A function as Cloud Run runs it; `main.py` gives it as many threads as it is deployed with."""
    log = folder / f"{target}-{time.monotonic_ns()}.log"
    process = FunctionProcess(target, log, source=source, **environment)
    return Subject(name, process.port, process._process.pid, requests, process.kill, warm_up)


def start(
    command: Sequence[str], folder: Path, log: Path, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """The process and those it started."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
    process.kill()
    process.wait(timeout=10)


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], patience_s: float = _PATIENCE_S, pause_s: float = 0.02
) -> None:
    give_up_at = time.monotonic() + patience_s
    while process.poll() is None and time.monotonic() < give_up_at:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ready():
                return
        time.sleep(pause_s)
    end(process)
    raise AssertionError(f"{process.args!r} does not answer")


@dataclass(frozen=True)
class Told:
    """The answer to a single request."""

    status: int
    body: bytes


def ask(port: int, request: bytes) -> Told:
    """One request on a connection of its own."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)) as connection:
        connection.connect()
        connection.sock.sendall(request)
        with http.client.HTTPResponse(connection.sock, method="POST") as answer:
            answer.begin()
            return Told(answer.status, answer.read())
