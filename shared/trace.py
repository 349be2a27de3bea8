"""The trace of the work at hand: taken from W3C `traceparent`, kept per context, handed on to events and upstream.

https://www.w3.org/TR/trace-context/
"""

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_CLOUD_TRACE = re.compile(r"([0-9a-f]{32})(?:/(\d{1,20}))?(?:;o=(\d))?")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16


@dataclass(frozen=True)
class Trace:
    trace_id: str
    span_id: str
    flags: str = "01"

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def new_trace() -> Trace:
    return Trace(trace_id=secrets.token_hex(16), span_id=secrets.token_hex(8))


def continue_trace(traceparent: str | None, cloud_trace: str | None = None) -> Trace:
    """The caller's trace with a span of our own; a new trace when the headers are absent or malformed.

    `cloud_trace` is Google's older `X-Cloud-Trace-Context: TRACE_ID/SPAN_ID;o=OPTIONS`.
    """
    match = _TRACEPARENT.fullmatch(traceparent or "")
    if match and match[1] != _NO_TRACE and match[2] != _NO_SPAN:
        return Trace(trace_id=match[1], span_id=secrets.token_hex(8), flags=match[3])
    match = _CLOUD_TRACE.fullmatch(cloud_trace or "")
    if match and match[1] != _NO_TRACE:
        return Trace(trace_id=match[1], span_id=secrets.token_hex(8))
    return new_trace()


_current: ContextVar[Trace | None] = ContextVar("trace", default=None)


def set_trace(trace: Trace) -> None:
    _current.set(trace)


def current_trace() -> Trace:
    """The trace of this context; work that nobody began (a script, a test) gets a trace of its own."""
    trace = _current.get()
    if trace is None:
        trace = new_trace()
        _current.set(trace)
    return trace
