"""What every answer has in common: its trace, no place in a cache, its one line in the log, and no secrets."""

import json

import pytest

from shared.http.dialects import Callable, OpenAI
from shared.http.pipeline import HEALTH_PROBE
from shared.settings import settings
from tests.unit.shared.exchange import bearer, request
from tests.unit.shared.things import SECRET, Things

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01"}

EVERY_KIND = {
    "a document": ("GET", "/open", 200),
    "nothing": ("DELETE", "/things/t_1", 204),
    "a page": ("GET", "/page", 200),
    "a stream": ("GET", "/stream", 200),
    "a refusal": ("POST", "/mine", 400),
    "an unknown path": ("GET", "/nowhere", 404),
    "an unsafe id": ("DELETE", "/things/..", 404),
    "an unknown method": ("PATCH", "/open", 405),
    "a method of no standard": ("BREW", "/open", 405),
    "a limit": ("GET", "/limited", 429),
    "a failure": ("GET", "/broken", 500),
    "a failure further up": ("GET", "/upstream", 502),
    "a preflight": ("OPTIONS", "/mine", 204),
}
KINDS = pytest.mark.parametrize(("method", "path", "status"), EVERY_KIND.values(), ids=EVERY_KIND.keys())


@KINDS
def test_every_answer_stays_out_of_caches_and_names_its_trace(method, path, status):
    response = Things().ask(request(method, path, headers={**bearer(), **TRACEPARENT}))
    assert response.status_code == status
    assert "no-store" in response.headers["Cache-Control"]
    assert "private" in response.headers["Cache-Control"]
    assert response.headers["X-Request-Id"] == TRACE_ID
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert "Origin" in response.headers["Vary"]


@KINDS
def test_every_request_is_one_line_in_the_log_with_its_trace(logged, method, path, status):
    response = Things().ask(request(method, path, headers={**bearer(), **TRACEPARENT}))
    response.close()
    requests = [record for record in logged() if record["message"] == "request"]
    assert [(record["status"], record["method"]) for record in requests] == [(status, method)]
    assert requests[0]["logging.googleapis.com/trace"].endswith(TRACE_ID)
    assert requests[0]["capability"] == "things"
    assert requests[0]["severity"] == ("ERROR" if status >= 500 else "INFO")


def test_the_log_names_the_route_and_not_what_stood_in_its_place(logged):
    Things().ask(request("DELETE", "/things/t_private"))
    [record] = logged()
    assert record["route"] == "/things/{thing_id}"
    assert "t_private" not in json.dumps(record)


def test_the_log_does_not_name_the_user(logged):
    Things().ask(request("POST", "/mine", b'{"name": "secret-chair"}', headers=bearer(sub="user-of-the-log")))
    [record] = logged()
    assert record["uid_hash"]
    assert "user-of-the-log" not in json.dumps(record)
    assert "secret-chair" not in json.dumps(record)


@pytest.mark.parametrize("path", [HEALTH_PROBE])
def test_the_health_probe_is_answered_before_anything_else(path, logged, monkeypatch):
    monkeypatch.delenv("GCLOUD_PROJECT")
    settings.cache_clear()
    for method in ("GET", "POST", "HEAD"):
        response = Things().ask(request(method, path, b"{", headers={"Authorization": "garbage"}))
        assert (response.status_code, response.get_data()) == (200, b"ok")
        assert "no-store" in response.headers["Cache-Control"]
    assert logged() == []


def test_a_page_keeps_its_own_type():
    response = Things().ask(request("GET", "/page"))
    assert response.content_type == "text/html; charset=utf-8"
    assert response.get_data() == b"<p>hello"


def test_an_answer_of_nothing_has_no_body():
    response = Things().ask(request("DELETE", "/things/t_1"))
    assert (response.status_code, response.get_data()) == (204, b"")


def test_a_method_that_is_not_allowed_is_answered_with_those_that_are():
    response = Things().ask(request("DELETE", "/open"))
    assert response.status_code == 405
    assert response.headers["Allow"] == "GET, POST"
    assert "allow" not in response.get_json(force=True)


def test_a_limit_says_when_to_come_back():
    assert Things().ask(request("GET", "/limited")).headers["Retry-After"] == "7"


@pytest.mark.parametrize("dialect", [None, OpenAI(), Callable()], ids=["problem", "openai", "callable"])
def test_the_text_of_an_unexpected_error_stays_inside_and_its_trace_goes_out(dialect, logged):
    response = Things(dialect).ask(request("GET", "/broken", headers=TRACEPARENT))
    assert response.status_code == 500
    told = response.get_data(as_text=True)
    assert SECRET not in told
    assert "ValueError" not in told
    assert TRACE_ID in told
    errors = [record for record in logged() if record["message"] == "unexpected error"]
    assert len(errors) == 1
    assert SECRET in errors[0]["stack_trace"]
    assert errors[0]["logging.googleapis.com/trace"].endswith(TRACE_ID)


def test_an_expected_error_does_not_tell_what_only_operators_may_know():
    response = Things().ask(
        request("GET", "/upstream", headers=TRACEPARENT)
    )  # a trace by chance holds a 418 now and then
    assert response.get_json(force=True)["detail"] == "The model failed."
    assert SECRET not in response.get_data(as_text=True)
    assert "418" not in response.get_data(as_text=True)


def test_two_requests_on_one_thread_do_not_share_a_trace(logged):
    things = Things()
    first = things.ask(request("GET", "/open", headers=TRACEPARENT)).headers["X-Request-Id"]
    second = things.ask(request("GET", "/open")).headers["X-Request-Id"]
    assert first == TRACE_ID != second
    traces = [record["logging.googleapis.com/trace"].rsplit("/", 1)[1] for record in logged()]
    assert traces == [first, second]


@pytest.mark.parametrize("value", ["garbage", f"00-{'0' * 32}-00f067aa0ba902b7-01", "00-\u00e4"])
def test_a_malformed_trace_is_not_repeated(value):
    request_id = Things().ask(request("GET", "/open", headers={"traceparent": value})).headers["X-Request-Id"]
    assert len(request_id) == 32
    assert request_id not in value
