"""The errors of the API: one exception, and the real body of every status."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS_URL: Final = "https://openrouter.ai/settings/credits"
INSUFFICIENT_CREDITS: Final = "Insufficient credits. Add more using https://openrouter.ai/credits"
STANDIN_USER_ID: Final = "user_2sTandInAccount0000000000"


@dataclass
class ApiError(Exception):
    """An answer with an error envelope. `status` is the HTTP status and, in the envelope, the code."""

    status: int
    message: str
    metadata: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    with_user_id: bool = False
    router_metadata: dict[str, Any] | None = None

    def error(self) -> dict[str, Any]:
        """The `error` object alone, as it also appears inside a 200 answer."""
        error: dict[str, Any] = {"code": self.status, "message": self.message}
        if self.metadata is not None:
            error["metadata"] = self.metadata
        return error

    def body(self) -> dict[str, Any]:
        envelope: dict[str, Any] = {"error": self.error()}
        if self.with_user_id:
            envelope["user_id"] = STANDIN_USER_ID
        if self.router_metadata is not None:
            envelope["openrouter_metadata"] = self.router_metadata
        return envelope


def invalid_request(message: str = "Invalid request parameters", **metadata: Any) -> ApiError:
    return ApiError(400, message, {"error_type": "invalid_request", **metadata})


def missing_authentication() -> ApiError:
    return ApiError(401, "Missing Authentication header")


def user_not_found() -> ApiError:
    return ApiError(401, "User not found.")


def management_only() -> ApiError:
    return ApiError(403, "Only management keys can perform this operation")


def not_found(message: str = "Resource not found") -> ApiError:
    return ApiError(404, message)


def method_not_allowed(allowed: list[str]) -> ApiError:
    return ApiError(405, "Method Not Allowed", headers={"Allow": ", ".join(allowed)})


def insufficient_credits() -> ApiError:
    return ApiError(402, INSUFFICIENT_CREDITS, {"provider_name": None})


def cannot_afford(requested_tokens: int, affordable_tokens: int) -> ApiError:
    return ApiError(
        402,
        "This request requires more credits, or fewer max_tokens. "
        f"You requested up to {requested_tokens} tokens, but can only afford {affordable_tokens}. "
        f"To increase, visit {SETTINGS_URL} and upgrade to a paid account",
        {"provider_name": None},
    )


def context_length_exceeded(context_length: int, text_tokens: int, output_tokens: int) -> ApiError:
    return ApiError(
        400,
        f"This endpoint's maximum context length is {context_length} tokens. However, you requested about "
        f"{text_tokens + output_tokens} tokens ({text_tokens} of text input, {output_tokens} in the output). Please "
        'reduce the length of either one, or use the "middle-out" transform to compress your prompt automatically.',
        {"error_type": "context_length_exceeded", "provider_name": None},
    )


def provider_rate_limit(model: str, provider: str) -> ApiError:
    """As recorded: the provider's refusal passed on, with the user's id beside it."""
    raw = (
        f"{model} is temporarily rate-limited upstream. Please retry shortly, or add your own key to accumulate "
        "your rate limits: https://openrouter.ai/settings/integrations"
    )
    return ApiError(429, "Provider returned error", {"provider_name": provider, "raw": raw}, with_user_id=True)


def platform_rate_limit(reset_at_ms: int, retry_after_s: int) -> ApiError:
    """The router's own refusal, whose limits are repeated in the metadata and in the headers."""
    limits = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": str(reset_at_ms)}
    return ApiError(
        429,
        "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day",
        {
            "headers": limits,
            "provider_name": None,
            "limit_source": "openrouter_free_tier_daily",
            "error_type": "rate_limit_exceeded",
        },
        {**limits, "Retry-After": str(retry_after_s)},
        with_user_id=True,
    )


def _moderation(model: str, provider: str) -> ApiError:
    return ApiError(
        403,
        f"{model} requires moderation on {provider}. Your input was flagged. No credits were charged.",
        {
            "reasons": ["violence"],
            "flagged_input": "The stand-in was asked to flag this input",
            "provider_name": provider,
            "model_slug": model,
        },
    )


def _provider_error(status: int, provider: str, raw: str, error_type: str) -> ApiError:
    return ApiError(
        status, "Provider returned error", {"provider_name": provider, "raw": raw, "error_type": error_type}
    )


def _typed(status: int, message: str, error_type: str) -> ApiError:
    return ApiError(status, message, {"error_type": error_type})


_DATA_POLICY = "No endpoints found matching your data policy. Configure: https://openrouter.ai/settings/privacy"
_UPSTREAM_RESET = "upstream connect error or disconnect"

# Built from (model, provider, seconds for Retry-After).
_BY_STATUS: Final[dict[int, Callable[[str, str, int], ApiError]]] = {
    400: lambda _model, _provider, _s: invalid_request(),
    401: lambda _model, _provider, _s: ApiError(401, "No auth credentials found"),
    402: lambda _model, _provider, _s: insufficient_credits(),
    403: lambda model, provider, _s: _moderation(model, provider),
    404: lambda _model, _provider, _s: _typed(404, _DATA_POLICY, "not_found"),
    408: lambda _model, _provider, _s: _typed(408, "Operation timed out. Please try again later.", "timeout"),
    413: lambda _model, _provider, _s: _typed(413, "Request payload too large", "payload_too_large"),
    422: lambda _model, _provider, _s: _typed(422, "Invalid argument", "unprocessable"),
    429: lambda model, provider, _s: provider_rate_limit(model, provider),
    500: lambda _model, _provider, _s: ApiError(500, "Internal Server Error"),
    502: lambda _model, provider, _s: _provider_error(502, provider, _UPSTREAM_RESET, "provider_unavailable"),
    503: lambda _model, _provider, seconds: ApiError(
        503,
        "Service temporarily unavailable",
        {"error_type": "provider_unavailable"},
        {"Retry-After": str(seconds)},
    ),
    524: lambda _model, _provider, _s: _typed(524, "Request timed out. Please try again later.", "timeout"),
    529: lambda _model, provider, _s: _provider_error(529, provider, "Overloaded", "provider_overloaded"),
}


def of_status(status: int, *, model: str, provider: str, retry_after_s: int) -> ApiError:
    """The real error of a status, as the `status` fault gives it."""
    return _BY_STATUS[status](model, provider, retry_after_s)
