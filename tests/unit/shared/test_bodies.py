"""What a body may be: everything else is refused with what to mend, and never breaks anything."""

import json
from io import BytesIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http.dialects import Callable, OpenAI
from tests.unit.shared.exchange import chunked_request, request
from tests.unit.shared.things import MAX_BODY_BYTES, Things


def refusal(body: bytes) -> dict[str, Any]:
    """The problem that this body is answered with; the handler must not have run."""
    things = Things()
    response = things.ask(request("POST", "/open", body))
    assert response.status_code == 400
    assert response.content_type == "application/problem+json"
    assert things.calls == []
    problem: dict[str, Any] = response.get_json(force=True)
    assert problem["code"] == "invalid_request"
    return problem


def fields_of(problem: dict[str, Any]) -> list[str]:
    return [item["field"] for item in problem["errors"]]


NOT_JSON = {
    "nothing": b"",
    "half an object": b'{"name": ',
    "two documents": b'{"name": "a"}{"name": "b"}',
    "a trailing comma": b'{"name": "a",}',
    "single quotes": b"{'name': 'a'}",
    "bytes that are no text": b"\xff\xfe\x00",
    "a string that is no UTF-8": b'{"name": "\xff"}',
    "a string cut inside a character": b'{"name": "\xc3"}',
    "half a surrogate pair": b'{"name": "\\ud800"}',
    "a surrogate in UTF-8": b'{"name": "\xed\xa0\x80"}',
    "a line feed in a string": b'{"name": "a\nb"}',
    "NaN": b'{"name": "a", "weight": NaN}',
    "infinity": b'{"name": "a", "weight": -Infinity}',
    "a number of 5,000 digits": b'{"name": "a", "count": ' + b"9" * 5000 + b"}",
    "10,000 brackets": b"[" * 10_000 + b"]" * 10_000,
    "10,000 brackets in a field": b'{"name": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
    "5,000 objects": b'{"name":' * 5_000 + b"1" + b"}" * 5_000,
    "10,000 opening brackets": b"[" * 10_000,
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_what_is_not_json_is_refused_as_that(body):
    problem = refusal(body)
    assert "not valid JSON" in problem["detail"]
    assert fields_of(problem) == ["body"]


@pytest.mark.parametrize("body", [b"[]", b'["name"]', b"null", b"1", b'"name"', b"true"])
def test_json_that_is_no_object_is_refused_as_that(body):
    assert fields_of(refusal(body)) == ["body"]


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (b"{}", ["name"]),
        (b'{"name": null}', ["name"]),
        (b'{"name": 1}', ["name"]),
        (b'{"name": "a", "count": "1"}', ["count"]),
        (b'{"name": "a", "count": 1.5}', ["count"]),
        (b'{"name": "a", "count": 1e400}', ["count"]),
        (b'{"name": "a", "count": true}', ["count"]),
        (b'{"name": "a", "nmae": 1}', ["nmae"]),
        (b'{"name": "a", "parts": [{"text": "x"}, {"text": 5}, {}]}', ["parts[1].text", "parts[2].text"]),
        (b'{"name": 1, "count": "x", "weight": []}', ["name", "count", "weight"]),
    ],
)
def test_every_wrong_field_is_named_by_its_path(body, fields):
    problem = refusal(body)
    assert fields_of(problem) == fields
    assert all(field in problem["detail"] for field in fields)
    assert all(item["message"] for item in problem["errors"])


def test_what_was_sent_is_not_sent_back():
    assert "hunter2" not in str(refusal(b'{"name": {"password": "hunter2"}}'))


def test_no_more_than_twenty_problems_are_named():
    body = b'{"name": "a", "parts": [' + b",".join([b"{}"] * 1000) + b"]}"
    assert len(refusal(body)["errors"]) == 20


def test_of_a_field_that_is_there_twice_the_last_one_counts():
    things = Things()
    assert things.ask(request("POST", "/open", b'{"name": "a", "name": "b"}')).status_code == 200
    assert things.calls[0].body.name == "b"
    assert fields_of(refusal(b'{"name": "a", "name": 1}')) == ["name"]


def test_a_body_may_have_just_the_size_that_is_allowed():
    name = b"x" * (MAX_BODY_BYTES - len(b'{"name":""}'))
    body = b'{"name":"' + name + b'"}'
    for sent in (request("POST", "/open", body), chunked_request("/open", [body])):
        assert Things().ask(sent).status_code == 200


@pytest.mark.parametrize("chunked", [False, True], ids=["with its length declared", "in chunks without a length"])
def test_a_body_over_the_limit_is_refused(chunked):
    body = b'{"name":"' + b"x" * MAX_BODY_BYTES + b'"}'
    things = Things()
    response = things.ask(chunked_request("/open", [body]) if chunked else request("POST", "/open", body))
    assert response.status_code == 413
    problem = response.get_json(force=True)
    assert (problem["code"], problem["max_bytes"]) == ("payload_too_large", MAX_BODY_BYTES)
    assert [error["field"] for error in problem["errors"]] == ["body"]
    assert things.calls == []


def test_a_body_that_says_it_is_too_large_is_not_read():
    asked = request("POST", "/open", b"x" * (MAX_BODY_BYTES + 1))
    Things().ask(asked)
    assert len(asked.environ["wsgi.input"].read()) == MAX_BODY_BYTES + 1


def test_of_a_body_without_a_length_no_more_is_read_than_the_limit():
    asked = chunked_request("/open", [b"x" * (10 * MAX_BODY_BYTES)])
    Things().ask(asked)
    assert len(asked.environ["wsgi.input"].read()) >= 9 * MAX_BODY_BYTES - 1


def test_a_query_is_read_by_its_types():
    things = Things()
    assert things.ask(request("GET", "/open", query="limit=3&unknown=1")).get_json()["name"] == "xxx"
    assert things.calls[0].query.limit == 3


@pytest.mark.parametrize("query", ["limit=x", "limit=", "limit=%ff", "limit=%ed%a0%80", "limit=1e9", "limit=1.5"])
def test_a_wrong_query_parameter_is_named(query):
    response = Things().ask(request("GET", "/open", query=query))
    assert response.status_code == 400
    assert fields_of(response.get_json(force=True)) == ["limit"]


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_the_other_dialects_refuse_the_same(body):
    refused = Things(OpenAI()).ask(request("POST", "/open", body))
    assert refused.status_code == 400
    assert refused.get_json()["error"]["type"] == "invalid_request_error"
    refused = Things(Callable()).ask(request("POST", "/open", b'{"data":' + body + b"}"))
    assert refused.status_code == 400
    assert refused.get_json()["error"]["status"] == "INVALID_ARGUMENT"


@given(st.binary(max_size=300))
def test_any_bytes_are_taken_or_refused(body):
    for dialect in (None, OpenAI(), Callable()):
        assert Things(dialect).ask(request("POST", "/open", body)).status_code in {200, 400}


@given(
    st.dictionaries(
        st.sampled_from(["name", "count", "weight", "parts", "other"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
            lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
            max_leaves=10,
        ),
    )
)
def test_any_document_is_taken_or_refused(document):
    response = Things().ask(request("POST", "/open", json.dumps(document).encode()))
    assert response.status_code in {200, 400}
    if response.status_code == 400:
        assert response.get_json(force=True)["errors"]


class NotABody(BytesIO):
    """What a server gives for chunks that are none, or after its client has gone."""

    def read(self, *_: Any) -> bytes:
        raise RuntimeError("Invalid chunk size: b'zz'")


def test_a_body_that_the_server_cannot_read_is_its_senders_fault(logged):
    asked = chunked_request("/open", [])
    asked.environ["wsgi.input"] = NotABody()
    response = Things().ask(asked)
    assert (response.status_code, response.get_json(force=True)["code"]) == (400, "invalid_request")
    assert [record["severity"] for record in logged()] == ["INFO", "INFO"]


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/page", 200), ("DELETE", "/things/t1", 204)])
def test_what_nobody_wants_to_read_the_framework_does_not_read_either(method, path, status):
    """It reads what is left of a request before it answers, all of it into memory, unless the answer is a stream."""
    response = Things().ask(chunked_request(path, [b"x" * (2 * MAX_BODY_BYTES)], method=method))
    assert (response.status_code, response.is_streamed) == (status, True)
    assert "Content-Length" not in response.headers
    assert response.get_data() == (b"<p>hello" if status == 200 else b"")


def test_a_preflight_with_a_body_is_answered_unread():
    asked = request("OPTIONS", "/open", b"x" * (1024 * 1024 + 1))
    assert Things().ask(asked).is_streamed


def test_what_was_read_to_its_end_is_answered_in_one_piece():
    for body, status in ((b'{"name": "a"}', 200), (b"{}", 400)):
        response = Things().ask(chunked_request("/open", [body]))
        assert (response.status_code, response.is_streamed) == (status, False)
