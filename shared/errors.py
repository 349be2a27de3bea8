"""The one tree of errors. Each carries a stable code, an HTTP status and a text that may be shown to the caller.

    AppError
    ├── InvalidRequest          400   malformed JSON, wrong type, missing field
    │   └── PayloadTooLarge     413
    ├── Unauthenticated         401   no token, or one that does not hold
    ├── InsufficientCredits     402
    ├── PermissionDenied        403   the role or the key does not allow it, or a form of it was forged
    │   └── AccountSuspended    403   nothing is allowed until somebody lifts it
    ├── NotFound                404   also what exists but belongs to somebody else
    ├── MethodNotAllowed        405
    ├── Conflict                409
    │   └── KeyReused           422   an idempotency key came back with other content
    ├── Gone                    410   it was here, but is kept no longer
    ├── RateLimited             429
    ├── UpstreamError           502   the model provider failed
    │   ├── UpstreamRejected    400   … because of what was asked
    │   ├── UpstreamBusy        503   … and says: later
    │   └── UpstreamTimeout     504
    ├── Unavailable             503   a part of ours is down
    └── InternalError           500   the only text that is not the error's own

Renderers (problem+json, the OpenAI envelope, callable status) live in `shared.http.dialects`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import ClassVar, Self


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field: its path in the body (`parts[0].text`), and what to do about it."""

    field: str
    message: str
    kind: str | None = dataclass_field(default=None, compare=False)
    """The name of what is wrong, as the validator has it: `missing`, `extra_forbidden`. Not every refusal has one."""


class AppError(Exception):
    """An error with a stable code. `fields` name what to mend; `retry_after_s` says when to come back;
    `headers` go with the answer.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        message: str = "",
        *,
        fields: Sequence[FieldError] = (),
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
        **details: str | int | None,
    ) -> None:
        super().__init__(message or self.title)
        self.message = message or self.title
        self.fields = tuple(fields)
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})
        self.details = {name: value for name, value in details.items() if value is not None}


class InvalidRequest(AppError):
    code, status, title = "invalid_request", 400, "The request is not valid"

    @classmethod
    def of(cls, field: str, problem: str) -> Self:
        """About one field: its path in the body, and what is wrong with it."""
        return cls(f"Check: {field}.", fields=[FieldError(field, problem)])


class PayloadTooLarge(InvalidRequest):
    code, status, title = "payload_too_large", 413, "The request body is too large"


class Unauthenticated(AppError):
    code, status, title = "unauthenticated", 401, "Sign in to use this"


class InsufficientCredits(AppError):
    code, status, title = "insufficient_credits", 402, "Not enough credits"


class PermissionDenied(AppError):
    code, status, title = "permission_denied", 403, "Not allowed"


class AccountSuspended(PermissionDenied):
    code, status, title = "account_suspended", 403, "This account is suspended"


class NotFound(AppError):
    code, status, title = "not_found", 404, "Not found"


class MethodNotAllowed(AppError):
    code, status, title = "method_not_allowed", 405, "Method not allowed"


class Conflict(AppError):
    code, status, title = "conflict", 409, "This collides with something that is already there"


class KeyReused(Conflict):
    code, status, title = "idempotency_key_reused", 422, "This key was used with other content"


class Gone(AppError):
    code, status, title = "gone", 410, "No longer here"


class RateLimited(AppError):
    code, status, title = "rate_limited", 429, "Too many requests"


class UpstreamError(AppError):
    code, status, title = "upstream_failed", 502, "The model provider failed"


class UpstreamRejected(UpstreamError):
    code, status, title = "upstream_rejected", 400, "The model provider refused the request"


class UpstreamBusy(UpstreamError):
    code, status, title = "upstream_busy", 503, "The model is busy"


class UpstreamTimeout(UpstreamError):
    code, status, title = "upstream_timeout", 504, "The model took too long"


class Unavailable(AppError):
    code, status, title = "unavailable", 503, "A part of the service is not available"


class InternalError(AppError):
    code, status, title = "internal", 500, "Something went wrong on our side"
