"""Which functions are there: each serving process says so now and then, and the service registry reads it.

    presence:{function}   hash: instance → JSON of `Instance`

An instance that comes takes those away that were not heard of for a day: a busy function's hash holds one day's.
Nothing waits for it: a thread writes every few seconds, and while Redis is away nothing is written.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from dataclasses import asdict, dataclass

from shared.clients import redis_link
from shared.redis_link import LinkFailed
from shared.settings import settings

INTERVAL_S = 5.0
GONE_AFTER_S = 60.0
"""An instance that was not heard of for this long has ended, or sleeps with its CPU taken away."""
_KEPT_S = 86_400


@dataclass(frozen=True)
class Instance:
    """What one process said about itself last. Times are seconds since 1970."""

    revision: str
    heard_at: float
    requests: int
    failures: int
    """Requests that ended in an error of ours."""
    last_request_failed: bool


class _Reporter:
    """What this process did, and the thread that says so; begun by the first request, so after any fork."""

    def __init__(self, function: str) -> None:
        self._key = _key(function)
        self._instance = secrets.token_hex(6)
        self._lock = threading.Lock()
        self._requests = self._failures = 0
        self._last_request_failed = False
        self._thread: threading.Thread | None = None

    def note(self, *, failed: bool) -> None:
        with self._lock:
            self._requests += 1
            self._failures += failed
            self._last_request_failed = failed
            if self._thread is None:
                self._thread = threading.Thread(target=self._report_for_ever, name="presence", daemon=True)
                self._thread.start()

    def _report_for_ever(self) -> None:
        self._take_the_gone_away()
        while True:
            self._report()
            time.sleep(INTERVAL_S)

    def _take_the_gone_away(self) -> None:
        try:
            answer = iter(redis_link().call("HGETALL", self._key))
            read = {name: _instance_of(line) for name, line in zip(answer, answer, strict=True)}
            gone = [name for name, found in read.items() if found is None or time.time() - found.heard_at > _KEPT_S]
            if gone:
                redis_link().call("HDEL", self._key, *gone)
        except LinkFailed:
            return  # the next instance does it

    def _report(self) -> None:
        with self._lock:
            said = Instance(settings().revision, time.time(), self._requests, self._failures, self._last_request_failed)
        try:
            line = json.dumps(asdict(said))
            redis_link().call_all([("HSET", self._key, self._instance, line), ("EXPIRE", self._key, _KEPT_S)])
        except LinkFailed:
            return  # the registry shows what it last heard, and when: that is what is known


_reporter: _Reporter | None = None


def serve_as(function: str) -> None:
    """Say which function this process serves. Processes that never say so (tests, scripts) report nothing."""
    global _reporter  # noqa: PLW0603  # one process, one function
    _reporter = _Reporter(function)


def is_serving() -> bool:
    """Whether this process serves a function, and is not one that only looks at them (deployment, tests)."""
    return _reporter is not None


def note(*, failed: bool) -> None:
    """A request or an event is done."""
    if _reporter is not None:
        _reporter.note(failed=failed)


def instances(functions: list[str]) -> dict[str, list[Instance]]:
    """What was heard of each function within the last day. Raises LinkFailed."""
    heard = redis_link().call_all([("HVALS", _key(function)) for function in functions])
    return {
        function: [found for line in lines if (found := _instance_of(line))]
        for function, lines in zip(functions, heard, strict=True)
    }


def _instance_of(line: bytes) -> Instance | None:
    """None for what another revision wrote in a way of its own."""
    try:
        return Instance(**json.loads(line))
    except (ValueError, TypeError):
        return None


def _key(function: str) -> str:
    return f"presence:{function}"
