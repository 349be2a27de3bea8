"""How requests and answers look on the wire: one error tree, three renderers.

`Problem` is `/api` (RFC 9457 problem+json), `OpenAI` is `/v1`, `Callable` is the protocol of Firebase callables
(https://firebase.google.com/docs/functions/callable-reference).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar

from shared.errors import AppError, FieldError, InvalidRequest

if TYPE_CHECKING:
    from werkzeug.datastructures import Headers

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
_OPENAI_CODE = {
    "unauthenticated": "invalid_api_key",
    "insufficient_credits": "insufficient_quota",
    "rate_limited": "rate_limit_exceeded",
    "not_found": "unknown_url",
    "method_not_allowed": "method_not_supported",
}
_OPENAI_CODE_OF_KIND = {
    "extra_forbidden": "unknown_parameter",
    "missing": "missing_required_parameter",
    "json_invalid": "invalid_json",
    "unsupported_parameter": "unsupported_parameter",
    "unsupported_value": "unsupported_value",
}
_OPENAI_SAYS_TOO = {
    "content_policy_violation",
    "context_length_exceeded",
    "image_download_failed",
    "image_too_large",
    "image_too_small",
    "invalid_image",
    "unsupported_image_format",
}
"""Types of errors of the provider's that are codes of OpenAI's."""
_ONLY_NAMES_FIELDS = "Check: "
"""How a message begins that leaves it to the fields to say what is wrong."""
_OPENAI_RETRIES = {408, 409, 429}
_OPENAI_PATIENCE_S = 60
"""A longer wait that is asked for the SDKs do not keep: they would be back within seconds."""
_OPENAI_VERSION = "2020-10-01"
_POLICY = re.compile(r'"([^"]+)";q=(\d+)(;[^,]*)')
_STANDING = re.compile(r'"([^"]+)";r=(\d+)(?:;t=(\d+))?')
_SERVER_ERROR = 500
_FOR_CALLERS = {
    "available_micro",
    "cost_micro",
    "error_type",
    "generation_id",
    "max_bytes",
    "message_id",
    "model",
    "needed_micro",
    "permission",
    "plan",
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
    allowed_headers: ClassVar[str] = ""
    """What its clients send from browsers beside what all do; begins with a comma."""
    exposed_headers: ClassVar[str] = ""
    """What its clients read in browsers beside what all do; begins with a comma."""

    def unwrap(self, raw: bytes) -> bytes:
        return raw

    def wrap(self, answer_json: str) -> str:
        return answer_json

    def error_answer(self, error: AppError, trace: Trace, *, to_stream: bool) -> ErrorAnswer:  # noqa: ARG002  # for some
        """The answer to a request that failed before its answer began; `to_stream`: it asked for a stream."""
        status, body = self.error(error, trace)
        return ErrorAnswer(status, self.error_content_type, json.dumps(body, ensure_ascii=False))

    def headers(self, said: Headers, error: AppError | None, elapsed_ms: float) -> dict[str, str]:  # noqa: ARG002  # for some
        """What every answer says beside the headers it has, in the words of this dialect."""
        return {}

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
    """Errors and headers as the OpenAI SDKs read them (https://platform.openai.com/docs/guides/error-codes).

    The SDKs ask again by themselves after 408, 409, 429 and 5xx, unless `x-should-retry` says otherwise. It does where
    the model may have answered, so that nobody pays twice, and where no time is known at which it would help. Whoever
    has too few credits gets a 402, which no SDK repeats; OpenAI's own 429 would be asked again in vain.
    """

    error_content_type = "application/json"
    allowed_headers: ClassVar[str] = (
        ", OpenAI-Beta, OpenAI-Organization, OpenAI-Project, X-Stainless-Arch, X-Stainless-Async, "
        "X-Stainless-Custom-Poll-Interval, X-Stainless-Helper-Method, X-Stainless-Lang, X-Stainless-OS, "
        "X-Stainless-Package-Version, X-Stainless-Poll-Helper, X-Stainless-Raw-Response, X-Stainless-Retry-Count, "
        "X-Stainless-Runtime, X-Stainless-Runtime-Version, X-Stainless-Timeout"
    )
    exposed_headers: ClassVar[str] = (
        ", OpenAI-Processing-MS, Retry-After-MS, X-RateLimit-Limit-Requests, X-RateLimit-Limit-Tokens, "
        "X-RateLimit-Remaining-Requests, X-RateLimit-Remaining-Tokens, X-RateLimit-Reset-Requests, "
        "X-RateLimit-Reset-Tokens, X-Should-Retry"
    )

    def headers(self, said: Headers, error: AppError | None, elapsed_ms: float) -> dict[str, str]:
        told = {
            "openai-processing-ms": str(round(elapsed_ms)),
            "openai-version": _OPENAI_VERSION,
            **_openai_limits(said.get("RateLimit-Policy", ""), said.get("RateLimit", "")),
        }
        if error is not None and error.retry_after_s is not None:
            told["retry-after-ms"] = str(error.retry_after_s * 1000)
        if error is not None and not _may_be_asked_again(error):
            told["x-should-retry"] = "false"
        return told

    def error(self, error: AppError, trace: Trace) -> tuple[int, dict[str, Any]]:
        return error.status, {"error": self.error_object(error, trace)}

    def error_object(self, error: AppError, trace: Trace) -> dict[str, Any]:
        default_type = "server_error" if error.status >= _SERVER_ERROR else "invalid_request_error"
        told: dict[str, Any] = {
            "message": f"{_in_openai_words(error)} (trace {trace.trace_id})",
            "type": _OPENAI_TYPE.get(error.status, default_type),
            "param": error.fields[0].field if error.fields else None,
            "code": _openai_code(error),
        }
        return {**_for_the_caller(error), **told}


def _openai_code(error: AppError) -> str:
    said = error.details.get("error_type")
    if isinstance(said, str) and said in _OPENAI_SAYS_TOO:
        return said
    if type(error) is InvalidRequest and error.fields:
        kind = error.fields[0].kind or ""
        return _OPENAI_CODE_OF_KIND.get(kind, "invalid_type" if kind.endswith("_type") else "invalid_value")
    return _OPENAI_CODE.get(error.code, error.code)


def _in_openai_words(error: AppError) -> str:
    """Its SDKs show the message alone, so that has to name the field and what is wrong with it."""
    if not error.fields or not error.message.startswith(_ONLY_NAMES_FIELDS):
        return error.message
    first = error.fields[0]
    if first.kind == "extra_forbidden":
        return f"Unknown parameter: '{first.field}'."
    if first.kind == "missing":
        return f"Missing required parameter: '{first.field}'."
    return f"Invalid '{first.field}': {first.message.removesuffix('.')}."


def _may_be_asked_again(error: AppError) -> bool:
    """Whether a client that repeats the request by itself, soon, does no harm and may get its answer."""
    if error.status not in _OPENAI_RETRIES and error.status < _SERVER_ERROR:
        return True  # nobody repeats it
    may_have_cost = "upstream_id" in error.details
    return not may_have_cost and error.retry_after_s is not None and error.retry_after_s <= _OPENAI_PATIENCE_S


@lru_cache(maxsize=64)
def _quotas(policies: str) -> dict[str, int]:
    """The quotas per time that a `RateLimit-Policy` field names; how many may run at once is none."""
    return {name: int(quota) for name, quota, rest in _POLICY.findall(policies) if rest.startswith(";w=")}


def _openai_limits(policies: str, standing: str) -> dict[str, str]:
    """OpenAI's headers from our `RateLimit` fields: of what counts requests, the policy with the least left."""
    quotas = _quotas(policies)
    told: dict[str, str] = {}
    tightest: tuple[int, int, str] | None = None
    for name, remaining, reset_s in _STANDING.findall(standing):
        if name not in quotas:
            continue
        found = (int(remaining), quotas[name], reset_s)
        if name == "tokens":
            _tell_limit(told, "tokens", found)
        elif tightest is None or found < tightest:
            tightest = found
    if tightest is not None:
        _tell_limit(told, "requests", tightest)
    return told


def _tell_limit(told: dict[str, str], what: str, found: tuple[int, int, str]) -> None:
    remaining, quota, reset_s = found
    told[f"x-ratelimit-limit-{what}"] = str(quota)
    told[f"x-ratelimit-remaining-{what}"] = str(remaining)
    told[f"x-ratelimit-reset-{what}"] = _openai_duration(int(reset_s or 0))


def _openai_duration(seconds: int) -> str:
    """`1s`, `6m0s`, `1h0m0s`."""
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{seconds}s"
    return f"{minutes}m{seconds}s" if minutes else f"{seconds}s"


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
