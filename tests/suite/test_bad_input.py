"""What attackers and broken clients send, at the real front door: a clear error of the right class, nothing written."""

import http.client
import json
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tests.suite.support import Suite, User, request, sign_up

ME = "/api/v1/users/me"


def raw(url: str, method: str, path: str, headers: dict[str, str] | None = None, body: bytes | None = None):
    """A request whose path and headers are sent as they are."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
        connection.request(method, path, body=body, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


def function_of(suite: Suite, name: str) -> tuple[str, str]:
    """Where a function listens, and what stands before every path there."""
    address = f"{suite.functions}/{name}"
    return address, urlsplit(address).path


@pytest.fixture
def bearer(newcomer: User) -> dict[str, str]:
    return {"Authorization": f"Bearer {newcomer.token}"}


@pytest.mark.parametrize(
    "headers",
    [
        {"X-User-Id": "seed-admin"},
        {
            "X-Auth-Processed": "true",
            "X-User-Id": "seed-admin",
            "X-User-Role": "ADMIN",
            "X-User-Email": "a@example.com",
        },
        {"X-Firebase-Uid": "seed-admin", "X-Authenticated-User": "seed-admin"},
        {"Cookie": "session=seed-admin; uid=seed-admin"},
        {"X-Forwarded-User": "seed-admin", "Remote-User": "seed-admin"},
    ],
    ids=["a user id", "the old gateway's mark", "other names for it", "cookies", "a proxy's headers"],
)
def test_headers_that_name_a_user_let_nobody_in(suite, headers):
    status, _, body = raw(suite.hosting, "GET", ME, headers)
    assert (status, json.loads(body)["code"]) == (401, "unauthenticated")


def test_headers_that_name_another_user_change_nothing_for_somebody_signed_in(newcomer):
    answer = newcomer.api("GET", ME, **{"X-User-Id": "seed-admin", "X-User-Role": "ADMIN", "X-Auth-Processed": "true"})
    assert answer.status == 200
    assert answer.json["uid"] == newcomer.uid
    assert answer.json["role"] == "user"


def test_a_key_and_a_token_together_are_refused(newcomer):
    answer = newcomer.api("GET", ME, **{"X-API-Key": "cp_live_" + "x" * 38})
    assert (answer.status, answer.json["reason"]) == (401, "several_credentials")


@pytest.mark.parametrize("field", ["role", "status", "plan", "credits", "uid", "valid_since", "created_at", "email"])
def test_nobody_can_give_themselves_a_field_that_is_not_theirs_to_set(newcomer, field):
    before = newcomer.api("GET", ME).json
    answer = newcomer.api("PATCH", ME, {field: "admin"})
    assert answer.status == 400
    assert [problem["field"] for problem in answer.json["errors"]] == [field]
    assert newcomer.api("GET", ME).json == before


PATHS = {
    "a path upwards": "/api/v1/conversations/../admin/users",
    "an encoded path upwards": "/api/v1/conversations/..%2f..%2fusers%2fme",
    "a doubly encoded one": "/api/v1/conversations/%252e%252e%252fusers",
    "double slashes": "/api/v1//users//me",
    "upper case": "/API/V1/USERS/ME",
    "an encoded slash in an id": "/api/v1/conversations/conv_1%2fmessages",
    "a NUL in an id": "/api/v1/conversations/conv_1%00",
    "a line break in an id": "/api/v1/conversations/conv_1%0d%0aX-Injected:%201",
    "a very long id": "/api/v1/conversations/" + "x" * 3000,
    "a slash at the end": "/api/v1/users/me/",
    "a semicolon": "/api/v1/users/me;admin=true",
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())
def test_a_path_that_is_none_of_ours_is_not_found(suite, bearer, path):
    address, before = function_of(suite, "users" if "users" in path.lower() else "chat")
    status, headers, body = raw(address, "GET", before + path, bearer)
    assert status == 404
    assert "X-Injected" not in headers
    if body:
        assert b"seed-" not in body


@pytest.mark.parametrize(
    "headers",
    [{"X-HTTP-Method-Override": "DELETE"}, {"X-Method-Override": "DELETE"}, {"X-HTTP-Method": "DELETE"}],
    ids=lambda headers: next(iter(headers)),
)
def test_the_method_cannot_be_overridden(newcomer, headers):
    assert newcomer.api("POST", f"{ME}?_method=DELETE", {}, **headers).status == 405
    assert newcomer.api("GET", ME, **headers).status == 200


@pytest.mark.parametrize("method", ["TRACE", "PROPFIND", "BREW"])
def test_a_method_that_no_route_has_is_refused(suite, bearer, method):
    address, before = function_of(suite, "users")
    status, _, _ = raw(address, method, before + ME, bearer)
    assert status in {400, 404, 405, 501}


BODIES = {
    "nothing": b"",
    "no JSON": b"content=hello",
    "half of it": b'{"display_name": "A',
    "invalid UTF-8": b'{"display_name": "\xff\xfe"}',
    "a lone surrogate": b'{"display_name": "\\ud800"}',
    "NaN": b'{"display_name": NaN}',
    "an array": b"[]",
    "a string": b'"display_name"',
    "deep": b"[" * 10_000 + b"]" * 10_000,
    "deep objects": b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    "a wrong type": b'{"display_name": {"$ne": null}}',
    "a field nobody knows": b'{"is_admin": true}',
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_a_bad_body_is_named_and_changes_nothing(suite, newcomer, bearer, body):
    before = newcomer.api("GET", ME).json
    address, prefix = function_of(suite, "users")
    status, headers, said = raw(address, "PATCH", prefix + ME, {**bearer, "Content-Type": "application/json"}, body)
    assert status == 400, said
    assert headers["Content-Type"] == "application/problem+json"
    assert json.loads(said)["errors"]
    assert newcomer.api("GET", ME).json == before


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://demo-craftpilot.web.app.evil.example"])
def test_a_strange_origin_is_given_no_leave(suite, bearer, origin):
    address, prefix = function_of(suite, "users")
    status, headers, _ = raw(
        address, "OPTIONS", prefix + ME, {"Origin": origin, "Access-Control-Request-Method": "GET"}
    )
    assert "Access-Control-Allow-Origin" not in headers
    status, headers, _ = raw(address, "GET", prefix + ME, {**bearer, "Origin": origin})
    assert status == 200, "a browser keeps the answer from the page; the token is still its user's"
    assert "Access-Control-Allow-Origin" not in headers
    assert "Access-Control-Allow-Credentials" not in headers


def test_nothing_is_written_for_who_is_not_let_in(suite):
    """A stranger with a token of another project leaves no account behind."""
    somebody = sign_up(suite)
    head, _, signature = somebody.token.rpartition(".")
    for headers in ({}, {"Authorization": f"Bearer {head[:-3]}.{signature}"}, {"X-User-Id": somebody.uid}):
        assert raw(suite.hosting, "GET", ME, headers)[0] == 401
    document = request("GET", f"{suite.firestore}/users/{somebody.uid}", Authorization="Bearer owner")
    assert document.status == 404
