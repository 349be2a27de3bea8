"""How requests and answers look on the wire: one error tree, three renderers.

`Problem` is `/api` (RFC 9457 problem+json), `OpenAI` is `/v1`, `Callable` is the protocol of Firebase callables
(https://firebase.google.com/docs/functions/callable-reference).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from shared.errors import AppError, FieldError, InvalidRequest

if TYPE_CHECKING:
    from shared.trace import Trace

_CALLABLE_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    409: "ALREADY_EXISTS",
    410: "NOT_FOUND",
    413: "INVALID_ARGUMENT",
    422: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_CALLABLE_HTTP_STATUS = {402: 429, 405: 501, 410: 404, 413: 400, 422: 400, 502: 503}
_OPENAI_TYPE = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
_SERVER_ERROR = 500
_FOR_CALLERS = {
    "available_micro",
    "cost_micro",
    "error_type",
    "generation_id",
    "max_bytes",
    "message_id",
    "needed_micro",
    "permission",
    "reason",
    "state",
}


def _for_the_caller(error: AppError) -> dict[str, str | int]:
    """Of an error's details those that a caller may see; all others are for the log."""
    return {name: value for name, value in error.details.items() if name in _FOR_CALLERS}


@dataclass(frozen=True)
class ErrorAnswer:
    """An error as it goes over the wire."""

    status: int
    content_type: str
    body: str


class Problem:
    """Plain JSON bodies and answers; errors are RFC 9457 problems."""

    error_content_type: ClassVar[str] = "application/problem+json"

    def unwrap(self, raw: bytes) -> bytes:
        return raw

    def wrap(self, answer_json: str) -> str:
        return answer_json

    def error_answer(self, error: AppError, trace: Trace, *, to_stream: bool) -> ErrorAnswer:  # noqa: ARG002  # for some
        """The answer to a request that failed before its answer began; `to_stream`: it asked for a stream."""
        status, body = self.error(error, trace)
        return ErrorAnswer(status, self.error_content_type, json.dumps(body, ensure_ascii=False))

    def error(self, error: AppError, trace: Trace) -> tuple[int, dict[str, Any]]:
        body: dict[str, Any] = {
            **_for_the_caller(error),
            "type": f"https://craftpilot.dev/problems/{error.code.replace('_', '-')}",
            "title": error.title,
            "status": error.status,
            "code": error.code,
            "detail": error.message,
            "trace_id": trace.trace_id,
        }
        if error.fields:
            body["errors"] = [{"field": item.field, "message": item.message} for item in error.fields]
        return error.status, body


class OpenAI(Problem):
    """Errors in the envelope that the OpenAI SDKs read."""

    error_content_type = "application/json"

    def error(self, error: AppError, trace: Trace) -> tuple[int, dict[str, Any]]:
        default_type = "server_error" if error.status >= _SERVER_ERROR else "invalid_request_error"
        return error.status, {
            "error": {
                "message": f"{error.message} (trace {trace.trace_id})",
                "type": _OPENAI_TYPE.get(error.status, default_type),
                "param": error.fields[0].field if error.fields else None,
                "code": error.code,
            }
        }


class Callable(Problem):
    """`{"data": …}` in, `{"result": …}` or `{"error": {status, message, details}}` out."""

    error_content_type = "application/json"

    def unwrap(self, raw: bytes) -> bytes:
        try:
            envelope = json.loads(raw)
        except (ValueError, RecursionError) as error:
            raise InvalidRequest('The body must be JSON of the form {"data": {…}}.') from error
        if not isinstance(envelope, dict) or "data" not in envelope:
            raise InvalidRequest("The body must hold a data object.", fields=[FieldError("data", "is missing")])
        return json.dumps(envelope["data"]).encode()

    def wrap(self, answer_json: str) -> str:
        return f'{{"result":{answer_json}}}'

    def error_answer(self, error: AppError, trace: Trace, *, to_stream: bool) -> ErrorAnswer:
        """In a stream an error is a frame after HTTP 200: the SDKs read nothing else there, and wait for ever."""
        if not to_stream:
            return super().error_answer(error, trace, to_stream=False)
        frame = json.dumps({"error": self.error_object(error, trace)}, ensure_ascii=False)
        return ErrorAnswer(200, "text/event-stream; charset=utf-8", f"data: {frame}\n\n")

    def error(self, error: AppError, trace: Trace) -> tuple[int, dict[str, Any]]:
        return _CALLABLE_HTTP_STATUS.get(error.status, error.status), {"error": self.error_object(error, trace)}

    def error_object(self, error: AppError, trace: Trace) -> dict[str, Any]:
        details: dict[str, Any] = {**_for_the_caller(error), "code": error.code, "trace_id": trace.trace_id}
        if error.fields:
            details["errors"] = [{"field": item.field, "message": item.message} for item in error.fields]
        return {"status": _CALLABLE_STATUS[error.status], "message": error.message, "details": details}
