"""Every refusal of OpenRouter becomes one of our errors, with a text that may be shown and facts for the log."""

import json
from datetime import UTC, datetime
from email.message import Message
from email.utils import format_datetime

import pytest

from shared.errors import UpstreamBusy, UpstreamError, UpstreamRejected, UpstreamTimeout
from shared.openrouter.errors import UpstreamAccountEmpty, failed_after_200, refused
from tests.unit.openrouter.recorded import refusals

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


def refuse(status: int, body: object = None, **headers: str) -> UpstreamError:
    message = Message()
    for name, value in headers.items():
        message[name.replace("_", "-")] = value
    return refused(status, message, body if isinstance(body, bytes) else json.dumps(body).encode(), NOW)


def error(code: int | str, message: str = "", **metadata: object) -> dict[str, object]:
    return {"error": {"code": code, "message": message, "metadata": metadata}}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, UpstreamError),
        (400, UpstreamRejected),
        (401, UpstreamError),
        (402, UpstreamAccountEmpty),
        (403, UpstreamError),
        (404, UpstreamRejected),
        (405, UpstreamError),
        (408, UpstreamTimeout),
        (413, UpstreamRejected),
        (422, UpstreamRejected),
        (429, UpstreamBusy),
        (500, UpstreamError),
        (502, UpstreamError),
        (503, UpstreamBusy),
        (504, UpstreamTimeout),
        (524, UpstreamTimeout),
        (529, UpstreamBusy),
    ],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>nginx</html>", b'"text"', b"[1]", b'{"error":null}', b"[" * 50_000, b"\xff"]
)
def test_the_status_decides_the_kind_whatever_the_body_is(status, kind, body):
    refusal = refuse(status, body)
    assert type(refusal) is kind
    assert refusal.details == {"upstream_status": status}
    assert refusal.message == kind.title


@pytest.mark.parametrize("recorded", refusals(), ids=lambda each: each.name)
def test_recorded_429_is_busy_and_keeps_our_account_out_of_the_text(recorded):
    busy = refuse(recorded.status, recorded.body)
    assert type(busy) is UpstreamBusy
    assert busy.details == {"upstream_status": 429, "provider": "Google"}
    assert busy.message == UpstreamBusy.title
    assert busy.retry_after_s == 5


def test_the_recorded_refusals_are_there():
    assert len(refusals()) == 3


def test_a_bad_request_keeps_the_provider_s_words_on_one_short_line():
    refusal = refuse(
        400, error(400, "acme/fake-1.0 is not\n a valid model ID " + "x" * 1000, error_type="invalid_request")
    )
    assert refusal.message.startswith("acme/fake-1.0 is not a valid model ID xxx")
    assert len(refusal.message) == 300
    assert refusal.details == {"upstream_status": 400, "error_type": "invalid_request"}


@pytest.mark.parametrize(
    "body",
    [
        error(400, "Too long", error_type="context_length_exceeded"),
        error(400, "This endpoint's maximum context length is 8192 tokens. However, you requested 9000."),
        error(400, "context_length_exceeded"),
    ],
)
def test_a_conversation_that_is_too_long_is_told_apart(body):
    refusal = refuse(400, body)
    assert type(refusal) is UpstreamRejected
    assert refusal.details["error_type"] == "context_length_exceeded"


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, "User not found."),
        (402, "This request requires more credits. You can only afford 30104."),
        (403, "Only management keys can perform this operation"),
        (404, "No endpoints found matching your data policy. Configure: https://openrouter.ai/settings/privacy"),
        (400, "Key sk-or-v1-0123 is disabled"),
        (500, "Internal Server Error at 10.0.0.7"),
    ],
)
def test_words_about_our_account_are_for_the_log_only(status, text):
    refusal = refuse(status, error(status, text))
    assert refusal.message == type(refusal).title
    assert text not in str(refusal.details)
    assert refusal.__notes__ == [f"upstream said: {text}"]


def test_moderation_names_its_reasons_and_nothing_of_the_input():
    flagged = {"reasons": ["violence", "self-harm"], "flagged_input": "the words", "provider_name": "OpenAI"}
    refusal = refuse(403, error(403, "Your input was flagged", **flagged))
    assert type(refusal) is UpstreamRejected
    assert refusal.message == "The request was refused by the provider's moderation: violence, self-harm"
    assert refusal.details == {"upstream_status": 403, "provider": "OpenAI"}


def test_moderation_without_reasons_is_still_the_request_s_fault():
    refusal = refuse(403, error(403, "Blocked", patterns=["ssn"]))
    assert refusal.message == "The request was refused by the provider's moderation"


def test_no_endpoints_keeps_its_words_and_its_availability():
    body = {
        "error": {
            "code": 404,
            "message": "No endpoints found that support tool use.",
            "availability": {"code": "no_endpoints"},
        }
    }
    refusal = refuse(404, body)
    assert refusal.message == "No endpoints found that support tool use."
    assert refusal.details == {"upstream_status": 404, "availability": "no_endpoints"}


@pytest.mark.parametrize(
    ("headers", "metadata", "expected"),
    [
        ({"Retry_After": "17"}, {}, 17),
        ({"Retry_After": "1.2"}, {}, 2),
        ({"Retry_After": "0"}, {}, 1),
        ({"Retry_After": "-3"}, {}, 1),
        ({"Retry_After": "999999999"}, {}, 86_400),
        ({"Retry_After": "soon"}, {}, 5),
        ({"Retry_After": "nan"}, {}, 5),
        ({"Retry_After": format_datetime(NOW.replace(minute=1), usegmt=True)}, {}, 60),
        ({"X_RateLimit_Reset": str(NOW_MS + 30_000)}, {}, 30),
        ({}, {"headers": {"X-RateLimit-Reset": str(NOW_MS + 4_100)}}, 5),
        ({}, {"headers": {"X-RateLimit-Reset": NOW_MS + 9_000}}, 9),
        ({}, {"headers": {"X-RateLimit-Reset": NOW_MS - 9_000}}, 1),
        ({"Retry_After": "2"}, {"headers": {"X-RateLimit-Reset": NOW_MS + 9_000}}, 2),
        ({}, {"headers": "none"}, 5),
    ],
)
@pytest.mark.parametrize("status", [429, 503, 529])
def test_busy_says_when_to_come_back(status, headers, metadata, expected):
    assert refuse(status, error(status, "Later", **metadata), **headers).retry_after_s == expected


def test_availability_may_say_when_to_come_back():
    body = {
        "error": {"code": 503, "message": "", "availability": {"code": "temporarily_unavailable", "retry_after": 12}}
    }
    assert refuse(503, body).retry_after_s == 12


@pytest.mark.parametrize(
    ("said", "kind", "status"),
    [
        ({"code": 429, "message": "x"}, UpstreamBusy, 429),
        ({"code": "429"}, UpstreamBusy, 429),
        ({"code": 400, "message": "Token limit reached"}, UpstreamRejected, 400),
        ({"code": "server_error"}, UpstreamError, 502),
        ({"code": "server_error", "metadata": {"error_type": "provider_overloaded"}}, UpstreamBusy, 529),
        ({"metadata": {"error_type": "timeout"}}, UpstreamTimeout, 504),
        ({"metadata": {"error_type": "invalid_image"}}, UpstreamRejected, 400),
        ({"metadata": {"error_type": "refusal"}}, UpstreamRejected, 403),
        ({"error_type": "rate_limit_exceeded", "http_status": 429}, UpstreamBusy, 429),
        ({"code": True}, UpstreamError, 502),
        ({"code": 10**400}, UpstreamError, 10**400),
        ({}, UpstreamError, 502),
        ("Something broke", UpstreamError, 502),
        (["odd"], UpstreamError, 502),
    ],
)
def test_an_error_after_200_is_the_one_it_would_have_been_before(said, kind, status):
    failure = failed_after_200(said)
    assert type(failure) is kind
    assert failure.details["upstream_status"] == status
