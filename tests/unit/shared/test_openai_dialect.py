"""Headers and errors as OpenAI's SDKs read them: above all, when they ask again by themselves."""

import json

import pytest
from werkzeug.datastructures import Headers

from shared.errors import (
    AppError,
    Conflict,
    FieldError,
    InsufficientCredits,
    InternalError,
    InvalidRequest,
    NotFound,
    PayloadTooLarge,
    RateLimited,
    Unauthenticated,
    Unavailable,
    UpstreamBusy,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
)
from shared.http.dialects import OpenAI
from shared.trace import Trace
from tests.unit.shared.exchange import bearer, request
from tests.unit.shared.things import Things

TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
LIMITS = {
    "RateLimit-Policy": '"generate";q=300;w=60, "generate-key";q=240;w=60, "tokens";q=40000;w=60, '
    '"concurrency";q=20;qu="concurrent-requests"',
    "RateLimit": '"generate";r=120;t=36, "generate-key";r=60;t=45, "tokens";r=0;t=3723, "concurrency";r=19',
}


def headers(error: AppError | None = None, **said: str) -> dict[str, str]:
    return OpenAI().headers(Headers(said), error, 12.4)


def told(error: AppError):
    return OpenAI().error(error, TRACE)[1]["error"]


def test_limits_are_told_in_openais_headers():
    found = headers(None, **LIMITS)
    assert {name: value for name, value in found.items() if name.startswith("x-ratelimit")} == {
        "x-ratelimit-limit-requests": "240",
        "x-ratelimit-remaining-requests": "60",
        "x-ratelimit-reset-requests": "45s",
        "x-ratelimit-limit-tokens": "40000",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "1h2m3s",
    }


def test_without_limits_nothing_is_told_of_them():
    assert headers() == {"openai-processing-ms": "12", "openai-version": "2020-10-01"}


def test_the_time_to_come_back_is_told_in_milliseconds_too():
    assert headers(RateLimited(retry_after_s=3))["retry-after-ms"] == "3000"


@pytest.mark.parametrize(
    "error",
    [
        RateLimited(retry_after_s=3),
        UpstreamBusy(retry_after_s=5),
        Unavailable(retry_after_s=1),
        Conflict(retry_after_s=2, reason="still_running"),
        InvalidRequest(),
        NotFound(),
        InsufficientCredits(),
        UpstreamRejected(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_sdks_do_as_they_like_where_asking_again_costs_nothing(error):
    assert "x-should-retry" not in headers(error)


@pytest.mark.parametrize(
    "error",
    [
        UpstreamError(),
        UpstreamTimeout(),
        InternalError(),
        Conflict(reason="already_answered"),
        Unavailable(),
        RateLimited(retry_after_s=61),
        UpstreamBusy(retry_after_s=5, upstream_id="gen-1"),
    ],
    ids=["failed", "timed out", "internal", "answered before", "unavailable", "a long wait", "began to answer"],
)
def test_sdks_are_told_not_to_ask_again_where_it_may_be_paid_twice_or_is_in_vain(error):
    assert headers(error)["x-should-retry"] == "false"


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (
            InvalidRequest("Check: it.", fields=[FieldError("n", "is too much", "less_than")]),
            "invalid_value",
            "Invalid 'n': is too",
        ),
        (
            InvalidRequest("Check: it.", fields=[FieldError("n", "must be int", "int_type")]),
            "invalid_type",
            "Invalid 'n': must be int",
        ),
        (
            InvalidRequest("Check: it.", fields=[FieldError("x", "?", "extra_forbidden")]),
            "unknown_parameter",
            "Unknown parameter: 'x'.",
        ),
        (
            InvalidRequest("Check: it.", fields=[FieldError("model", "?", "missing")]),
            "missing_required_parameter",
            "Missing required parameter: 'model'.",
        ),
        (InvalidRequest("Check: it.", fields=[FieldError("x", "no")]), "invalid_value", "Invalid 'x': no."),
        (InvalidRequest("Check it."), "invalid_request", "Check it."),
        (PayloadTooLarge("Too large."), "payload_too_large", "Too large."),
        (Unauthenticated(), "invalid_api_key", "Sign in"),
        (InsufficientCredits(), "insufficient_quota", "Not enough credits"),
        (RateLimited(), "rate_limit_exceeded", "Too many requests"),
        (NotFound("Nothing here."), "unknown_url", "Nothing here."),
        (UpstreamRejected(error_type="context_length_exceeded"), "context_length_exceeded", "refused"),
        (UpstreamRejected(error_type="made_up_by_a_provider"), "upstream_rejected", "refused"),
    ],
)
def test_codes_and_messages_are_those_that_openai_has(error, code, message):
    assert told(error)["code"] == code
    assert message in told(error)["message"]
    assert TRACE.trace_id in told(error)["message"]


def test_a_request_through_the_pipeline_is_answered_in_openais_words():
    things = Things(OpenAI())
    body = json.dumps({"name": "x", "shape": "round"}).encode()
    answer = things.ask(request("POST", "/mine", body, headers=bearer()))
    assert answer.status_code == 400
    assert answer.get_json()["error"]["code"] == "unknown_parameter"
    assert answer.get_json()["error"]["param"] == "shape"
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert answer.headers["x-ratelimit-limit-requests"]


def test_a_browser_may_send_and_read_what_the_sdk_does():
    things = Things(OpenAI())
    asked = {"Origin": "https://demo-craftpilot.web.app", "Access-Control-Request-Method": "POST"}
    answer = things.ask(request("OPTIONS", "/mine", headers=asked))
    assert "X-Stainless-Retry-Count" in answer.headers["Access-Control-Allow-Headers"]
    assert "X-RateLimit-Remaining-Requests" in answer.headers["Access-Control-Expose-Headers"]
    plain = Things().ask(request("OPTIONS", "/mine", headers=asked))
    assert "Stainless" not in plain.headers["Access-Control-Allow-Headers"]
