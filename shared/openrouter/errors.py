"""How OpenRouter says no, and what that is in our tree of errors.

    UpstreamError
    ├── UpstreamFailedMidStream   the answer began with 200 and did not end well; `reason` says what it would have been
    └── UpstreamAccountEmpty      our own account cannot pay
    StreamCancelled               not a failure: this process asked for it

Texts about our key, our account or OpenRouter's inside never become `message`; they stay as a note on the exception,
which a traceback in the log shows and no renderer reads.
"""

import json
import math
import re
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from enum import Enum
from http import HTTPStatus
from typing import Any

from shared.errors import UpstreamBusy, UpstreamError, UpstreamRejected, UpstreamTimeout
from shared.openrouter.answers import Completion, Usage, text_of

_MESSAGE_LENGTH = 300
_NAME_LENGTH = 80
_REASONS = 10
_LONGEST_CODE = 5
_UNSAID_RETRY_AFTER_S = 5
_LONGEST_RETRY_AFTER_S = 24 * 60 * 60

_ORIGIN_TIMEOUT = 524
_OVERLOADED = 529
_TIMEOUTS = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT, _ORIGIN_TIMEOUT})
_BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, _OVERLOADED})
# What OpenRouter answers for itself: its own inside, and its edge that does not reach it (Cloudflare's 52x).
_OF_THE_SERVICE = frozenset({500, 520, 521, 522, 523, 525, 526, 527, 530})
_SERVICE_FAULTS = frozenset({"connect_failed", "connect_timeout", "first_byte_failed"})
_UNANSWERED_FAULTS = frozenset({"connect_failed", "connect_timeout", "kept_connection_closed", "first_byte_failed"})
_FIRST_SERVER_ERROR = 500
_ABOUT_THE_REQUEST = frozenset(
    {
        HTTPStatus.BAD_REQUEST,
        HTTPStatus.NOT_FOUND,
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        HTTPStatus.UNPROCESSABLE_ENTITY,
    }
)

# After a 200 the code may be a word (`server_error`); then the documented error type tells which status it would be.
_STATUS_OF_TYPE = {
    "authentication": 401,
    "permission_denied": 401,
    "payment_required": 402,
    "content_policy_violation": 403,
    "refusal": 403,
    "not_found": 404,
    "timeout": 504,
    "payload_too_large": 413,
    "unprocessable": 422,
    "rate_limit_exceeded": 429,
    "provider_overloaded": 529,
    "provider_unavailable": 503,
    "server": 500,
    "unmapped": 502,
}
_REQUEST_TYPES = frozenset(
    {
        "context_length_exceeded",
        "max_tokens_exceeded",
        "token_limit_exceeded",
        "string_too_long",
        "invalid_request",
        "invalid_prompt",
        "precondition_failed",
        "invalid_image",
        "image_too_large",
        "image_too_small",
        "unsupported_image_format",
        "image_not_found",
        "image_download_failed",
    }
)
_MODERATION_TYPES = frozenset({"content_policy_violation", "refusal"})
CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"
"""The `error_type` of a prompt that is longer than its model can read."""
_TOO_LONG = "The conversation is longer than this model can read: shorten the message or choose another model."
_CONTEXT_LENGTH_TEXT = re.compile(r"context.length.exceeded|maximum context length", re.IGNORECASE)
_ABOUT_OUR_ACCOUNT = re.compile(r"openrouter\.ai/|sk-or-", re.IGNORECASE)


class UpstreamAccountEmpty(UpstreamError):
    code, status, title = "unavailable", 503, "A part of the service is not available"


class UpstreamFailedMidStream(UpstreamError):
    """An answer that began with HTTP 200 and failed; whatever shape that had, the facts are these.

    `reason` is the error it would have been before the first token: its code and text may be shown. `usage` is there
    when the answer still told it. `content_delivered` says whether deltas of content came before; `partial` is what
    a plain (not streamed) answer held.
    """

    def __init__(
        self,
        reason: UpstreamError,
        *,
        usage: Usage | None,
        content_delivered: bool,
        generation_id: str | None = None,
        partial: Completion | None = None,
    ) -> None:
        super().__init__(reason.message, retry_after_s=reason.retry_after_s, generation_id=generation_id)
        self.details.update(reason.details)
        self.reason = reason
        self.usage = usage
        self.content_delivered = content_delivered
        self.generation_id = generation_id
        self.partial = partial
        for note in getattr(reason, "__notes__", ()):
            self.add_note(note)


class StreamCancelled(Exception):
    """`cancel()` was called before the answer had ended."""


class Blame(Enum):
    """Of whom a failure says something."""

    SERVICE = "service"
    """OpenRouter: it is not reached, or fails by itself, whatever model is asked."""
    MODEL = "model"
    """One model, or the provider behind it. The narrower blame in doubt: the failure of one model, however popular,
    must not be taken for that of all."""
    NOBODY = "nobody"
    """The request itself, our key or account, or a connection that had been idle."""


def blame(error: UpstreamError) -> Blame:
    """Whether a failure counts for a circuit breaker, and for which."""
    reason = error.reason if isinstance(error, UpstreamFailedMidStream) else error
    fault, status = reason.details.get("fault"), reason.details.get("upstream_status")
    if isinstance(reason, UpstreamRejected | UpstreamAccountEmpty) or fault == "kept_connection_closed":
        return Blame.NOBODY
    if fault in _SERVICE_FAULTS or (status in _OF_THE_SERVICE and reason is error):
        return Blame.SERVICE
    if isinstance(reason, UpstreamBusy | UpstreamTimeout) or fault is not None:
        return Blame.MODEL
    return Blame.MODEL if isinstance(status, int) and status >= _FIRST_SERVER_ERROR else Blame.NOBODY


def may_be_asked_again(error: UpstreamError) -> bool:
    """Whether the same request may be sent again: it was refused, or broke, before an answer began.

    Never after HTTP 200, not even before the first token: that answer has an id and perhaps a price, and who asks pays
    for one answer. Never after a time-out of the first byte: the request is perhaps being answered right now.
    A connection that broke unanswered is the one doubt left. If OpenRouter answered into the void, it charges us and
    nobody else: no id is known, so no user ever pays for it.
    """
    if isinstance(error, UpstreamFailedMidStream | UpstreamRejected | UpstreamAccountEmpty):
        return False
    status = error.details.get("upstream_status")
    if status is None:
        return error.details.get("fault") in _UNANSWERED_FAULTS
    return isinstance(error, UpstreamBusy | UpstreamTimeout) or (
        isinstance(status, int) and status >= _FIRST_SERVER_ERROR
    )


@dataclass(frozen=True)
class Said:
    """What an `error` object says. Unlike the status it is optional in every part."""

    code: int | str | None = None
    message: str = ""
    error_type: str | None = None
    provider: str | None = None
    availability: str | None = None
    reasons: tuple[str, ...] = ()
    moderated: bool = False
    retry_after_s: float | None = None
    reset_at_s: float | None = None


def said_in(error: object) -> Said:
    """Read the value of an `error` key: an object as documented, or a bare text as some gateways send."""
    if isinstance(error, str):
        return Said(message=error)
    if not isinstance(error, dict):
        return Said()
    metadata = _mapping(error.get("metadata"))
    availability = _mapping(error.get("availability"))
    error_type = _name(metadata.get("error_type")) or _name(error.get("error_type"))
    reasons = metadata.get("reasons")
    reset_ms = _number(_mapping(metadata.get("headers")).get("X-RateLimit-Reset"))
    return Said(
        code=_code(error.get("code")) or _code(error.get("http_status")),
        message=text_of(error, "message") or "",
        error_type=error_type,
        provider=_name(metadata.get("provider_name")) or _name(metadata.get("provider_code")),
        availability=_name(availability.get("code")),
        reasons=tuple(name for item in reasons[:_REASONS] if (name := _name(item)))
        if isinstance(reasons, list)
        else (),
        moderated=error_type in _MODERATION_TYPES
        or not metadata.keys().isdisjoint(("reasons", "flagged_input", "patterns")),
        retry_after_s=_number(availability.get("retry_after")),
        reset_at_s=reset_ms / 1000 if reset_ms is not None else None,
    )


def refused(status: int, headers: Message, body: bytes, now: datetime) -> UpstreamError:
    """The error for an answer whose status is not 200. Its body may be anything: JSON, a proxy's HTML page, nothing."""
    said = said_in(_mapping(_json(body)).get("error"))
    reset_ms = _number(headers.get("X-RateLimit-Reset"))
    waits = (
        _retry_after(headers.get("Retry-After"), now),
        said.retry_after_s,
        _until(said.reset_at_s, now),
        _until(reset_ms / 1000 if reset_ms is not None else None, now),
    )
    return _translate(status, said, next((wait for wait in waits if wait is not None), None))


def failed_after_200(error: object) -> UpstreamError:
    """The error that an `error` object inside a 200 would have been."""
    said = said_in(error)
    return _translate(_status_of(said), said, said.retry_after_s)


def broken(what: str) -> UpstreamError:
    """The provider's answer cannot be used. `what` names the fault for the log: a constant, nothing of the content."""
    return UpstreamError(fault=what)


def _translate(status: int, said: Said, retry_after_s: float | None) -> UpstreamError:
    error = _error_for(status, said, retry_after_s)
    details = {
        "upstream_status": status,
        # Only what was said: a retry that nobody asked to wait need not.
        "retry_after_ms": None if retry_after_s is None else round(1000 * _bounded(retry_after_s)),
        "error_type": CONTEXT_LENGTH_EXCEEDED if _CONTEXT_LENGTH_TEXT.search(said.message) else said.error_type,
        "upstream_code": said.code if isinstance(said.code, str) else None,
        "provider": said.provider,
        "availability": said.availability,
    }
    error.details.update({name: value for name, value in details.items() if value is not None})
    if said.message:
        error.add_note(f"upstream said: {_one_line(said.message)}")
    return error


def _error_for(status: int, said: Said, retry_after_s: float | None) -> UpstreamError:
    if status in _BUSY:
        return UpstreamBusy(retry_after_s=_whole_seconds(retry_after_s))
    if status in _TIMEOUTS:
        return UpstreamTimeout(retry_after_s=None if retry_after_s is None else _whole_seconds(retry_after_s))
    if status == HTTPStatus.PAYMENT_REQUIRED:
        return UpstreamAccountEmpty()
    if status == HTTPStatus.FORBIDDEN and said.moderated:
        return UpstreamRejected(_moderation_text(said))
    if status in _ABOUT_THE_REQUEST:
        return UpstreamRejected(_for_users(said.message))
    return UpstreamError(retry_after_s=None if retry_after_s is None else _whole_seconds(retry_after_s))


def _status_of(said: Said) -> int:
    if isinstance(said.code, int):
        return said.code
    if said.error_type in _REQUEST_TYPES:
        return HTTPStatus.BAD_REQUEST
    return _STATUS_OF_TYPE.get(said.error_type or "", HTTPStatus.BAD_GATEWAY)


def _for_users(message: str) -> str:
    """The provider's words, unless they are about our account or advise what our API does not have."""
    if _CONTEXT_LENGTH_TEXT.search(message):
        return _TOO_LONG
    return "" if _ABOUT_OUR_ACCOUNT.search(message) else _one_line(message)


def _moderation_text(said: Said) -> str:
    named = f": {', '.join(said.reasons)}" if said.reasons else ""
    return f"The request was refused by the provider's moderation{named}"


def _one_line(text: str) -> str:
    return " ".join(text[: 4 * _MESSAGE_LENGTH].split())[:_MESSAGE_LENGTH]


def _whole_seconds(seconds: float | None) -> int:
    return _UNSAID_RETRY_AFTER_S if seconds is None else math.ceil(max(_bounded(seconds), 1))


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0), _LONGEST_RETRY_AFTER_S)


def _retry_after(header: str | None, now: datetime) -> float | None:
    """Seconds or an HTTP date (RFC 9110 §10.2.3)."""
    if header is None:
        return None
    seconds = _number(header)
    if seconds is not None:
        return seconds
    try:
        return _until(parsedate_to_datetime(header).timestamp(), now)
    except (ValueError, OverflowError):
        return None


def _until(moment_s: float | None, now: datetime) -> float | None:
    return None if moment_s is None else moment_s - now.timestamp()


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _name(value: object) -> str | None:
    return _one_line(value)[:_NAME_LENGTH] or None if isinstance(value, str) else None


def _code(value: object) -> int | str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) <= _LONGEST_CODE else _name(value)
    return value


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
