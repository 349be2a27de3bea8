"""Structured logs: one JSON line a record, one `os.write` a line.

`print` and `firebase_functions.logger` write a record in two calls, and lines of concurrent requests run into each
other. Prompts, answers, tokens and keys are never passed to these functions; user ids only as `uid_hash`.
"""

import hashlib
import json
import os
import traceback
from typing import Any, Literal

from shared.settings import settings
from shared.trace import current_trace

Severity = Literal["INFO", "WARNING", "ERROR"]
_MAX_LINE_BYTES = 64 * 1024
_STDOUT = 1


def info(message: str, **fields: Any) -> None:
    _write("INFO", message, fields)


def warning(message: str, **fields: Any) -> None:
    _write("WARNING", message, fields)


def error(message: str, *, cause: BaseException | None = None, **fields: Any) -> None:
    """With `cause`, its traceback goes along, where Cloud Error Reporting finds it."""
    if cause is not None:
        fields["stack_trace"] = "".join(traceback.format_exception(cause))[-16_000:]
    _write("ERROR", message, fields)


def uid_hash(uid: str) -> str:
    """A user id as it may stand in logs: the same user gives the same eight bytes."""
    return hashlib.sha256(uid.encode()).hexdigest()[:16]


def _write(severity: Severity, message: str, fields: dict[str, Any]) -> None:
    trace = current_trace()
    record = {
        "severity": severity,
        "message": message,
        **fields,
        "logging.googleapis.com/trace": f"projects/{settings().project_id}/traces/{trace.trace_id}",
        "logging.googleapis.com/spanId": trace.span_id,
    }
    text = json.dumps(record, default=str, ensure_ascii=False, separators=(",", ":"))
    # Half a surrogate pair, cut out of foreign text, becomes its JSON escape: a log call never raises.
    line = text.encode(errors="backslashreplace")
    if len(line) > _MAX_LINE_BYTES:
        shortened = {name: record[name] for name in ("severity", "logging.googleapis.com/trace")}
        line = json.dumps({**shortened, "message": message[:1000], "shortened": True}).encode()
    os.write(_STDOUT, line + b"\n")
