"""Every error there is can be told in every dialect, and what only operators may know stays inside."""

import json
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import AppError, FieldError, InternalError, InvalidRequest, NotFound, RateLimited, UpstreamError
from shared.http.dialects import Callable, OpenAI, Problem
from shared.trace import Trace

ROOT = Path(__file__).parents[3]
TRACE = Trace("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")
DIALECTS = [Problem(), OpenAI(), Callable()]
# https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto, with HTTP status as its comments map them
CALLABLE_CODES = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "UNAUTHENTICATED": 401,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
}


def every_error() -> list[type[AppError]]:
    """The whole tree, with what the capabilities and the adapters add to it."""
    for folder in ("shared", "functions"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            import_module(module.removesuffix(".__init__"))
    found, left = [], [AppError]
    while left:
        error = left.pop()
        found.append(error)
        left.extend(error.__subclasses__())
    return found


def made(error: type[AppError]) -> AppError:
    """One of this class, whatever its constructor wants."""
    instance = error.__new__(error)
    AppError.__init__(instance, "What happened.", fields=[FieldError("name", "is missing")])
    return instance


ERRORS = every_error()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: type(dialect).__name__)
def test_every_error_can_be_told_in_every_dialect(error, dialect):
    status, body = dialect.error(made(error), TRACE)
    assert 400 <= status <= 599
    told = json.dumps(body)
    assert TRACE.trace_id in told
    assert error.code in told or isinstance(dialect, OpenAI), "OpenAI has codes of its own for some"
    assert "What happened." in told


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_a_problem_of_rfc_9457(error):
    status, body = Problem().error(made(error), TRACE)
    assert status == error.status == body["status"]
    assert body["title"] == error.title
    assert body["type"].startswith("https://")
    assert body["errors"] == [{"field": "name", "message": "is missing"}]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_has_the_status_that_firebase_clients_expect_with_its_code(error):
    status, body = Callable().error(made(error), TRACE)
    assert CALLABLE_CODES[body["error"]["status"]] == status


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_an_object_that_openai_clients_read(error):
    _, body = OpenAI().error(made(error), TRACE)
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["param"] == "name"
    assert body["error"]["type"].endswith(("_error", "_quota"))


def test_a_code_always_has_the_same_status():
    statuses: dict[str, set[int]] = {}
    for error in ERRORS:
        statuses.setdefault(error.code, set()).add(error.status)
    assert {code: found for code, found in statuses.items() if len(found) > 1} == {}


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda dialect: type(dialect).__name__)
def test_what_only_operators_may_know_is_not_told(dialect):
    error = UpstreamError(
        "The model failed.", upstream_status=418, upstream_code="teapot", provider="Acme", fault="f-1", allow="GET"
    )
    told = json.dumps(dialect.error(error, TRACE))
    for secret in ("418", "teapot", "Acme", "f-1", "allow"):
        assert secret not in told


@pytest.mark.parametrize("dialect", [Problem(), Callable()], ids=lambda dialect: type(dialect).__name__)
def test_what_helps_the_caller_is_told(dialect):
    told = json.dumps(dialect.error(InvalidRequest(max_bytes=1024), TRACE))
    assert '"max_bytes": 1024' in told


def test_details_do_not_replace_what_every_problem_says():
    error = NotFound("Not here.", type="x", status=200, code="fine", title="y", detail="z", trace_id="t")
    status, body = Problem().error(error, TRACE)
    assert (status, body["status"], body["code"], body["detail"]) == (404, 404, "not_found", "Not here.")
    assert body["trace_id"] == TRACE.trace_id
    assert Callable().error_object(error, TRACE)["details"]["code"] == "not_found"


def test_an_error_without_a_message_says_its_title():
    assert RateLimited().message == RateLimited.title
    assert InternalError().message == "Something went wrong on our side"


def test_a_callable_body_is_unwrapped_and_its_answer_wrapped():
    assert json.loads(Callable().unwrap(b'{"data": {"a": [1, "\xc3\xa4"]}}')) == {"a": [1, "ä"]}
    assert json.loads(Callable().wrap('{"b":1}')) == {"result": {"b": 1}}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"data"', b"{}", b'{"Data": 1}', b"\xff", b"[" * 10_000])
def test_a_callable_body_without_data_is_refused(body):
    with pytest.raises(InvalidRequest):
        Callable().unwrap(body)


@pytest.mark.parametrize("depth", [*range(900, 1010, 3), 10_000])
def test_a_callable_body_of_any_depth_is_read_or_refused(depth):
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        body = b'{"data":' + opening * depth + b"1" + closing * depth + b"}"
        try:
            unwrapped = Callable().unwrap(body)
        except InvalidRequest:
            continue
        assert unwrapped.count(b"1") == 1


@given(st.binary(max_size=200))
def test_any_bytes_in_place_of_a_callable_body_are_read_or_refused(body):
    try:
        unwrapped = Callable().unwrap(body)
    except InvalidRequest:
        return
    assert "data" in json.loads(body)
    assert json.dumps(json.loads(unwrapped)) == json.dumps(json.loads(body)["data"])


def test_a_refused_streaming_callable_is_told_in_a_frame():
    said = Callable().error_answer(NotFound("There is no such conversation."), TRACE, to_stream=True)
    assert (said.status, said.content_type) == (200, "text/event-stream; charset=utf-8")
    assert said.body.endswith("\n\n")
    error = json.loads(said.body.removeprefix("data: "))["error"]
    assert (error["status"], error["message"]) == ("NOT_FOUND", "There is no such conversation.")


def test_a_refused_plain_callable_is_told_by_its_status():
    said = Callable().error_answer(NotFound(), TRACE, to_stream=False)
    assert (said.status, json.loads(said.body)["error"]["status"]) == (404, "NOT_FOUND")


def test_a_refused_stream_of_events_is_told_by_its_status():
    said = Problem().error_answer(NotFound(), TRACE, to_stream=True)
    assert (said.status, said.content_type) == (404, "application/problem+json")
