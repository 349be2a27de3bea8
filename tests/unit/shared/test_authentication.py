"""Nobody gets in without a token that holds, and nothing happens before one is seen."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.auth import authenticate
from shared.errors import Unauthenticated
from tests.unit.shared.exchange import NOW, PROJECT, UNSIGNED, bearer, chunked_request, claims, request, token
from tests.unit.shared.things import MAX_BODY_BYTES, Things

BODY = b'{"name": "chair"}'
EXPIRED = int(NOW.timestamp()) - 60

REFUSED = {
    "no header": ({}, "missing_token"),
    "empty header": ({"Authorization": ""}, "missing_token"),
    "another scheme": ({"Authorization": "Basic dXNlcjpwYXNz"}, "bad_scheme"),
    "a token without a scheme": ({"Authorization": token()}, "bad_scheme"),
    "a scheme without a token": ({"Authorization": "Bearer   "}, "bad_scheme"),
    "garbage": ({"Authorization": "Bearer garbage"}, "invalid_token"),
    "dots": ({"Authorization": "Bearer .."}, "invalid_token"),
    "not base64": ({"Authorization": "Bearer a.b.c"}, "invalid_token"),
    "a very long token": ({"Authorization": f"Bearer {'x' * 9000}"}, "invalid_token"),
    "an array for a payload": ({"Authorization": f"Bearer {token([])}"}, "invalid_token"),
    "an array for a header": ({"Authorization": f"Bearer {token(header=[])}"}, "invalid_token"),
    "brackets without end": ({"Authorization": f"Bearer {token(header=b'[' * 5000)}"}, "invalid_token"),
    "an expired token": (bearer(exp=EXPIRED), "expired_token"),
    "a token that never expires": (bearer(exp=None), "expired_token"),
    "an expiry that is no number": (bearer(exp="tomorrow"), "expired_token"),
    "another project": (bearer(aud="other-project"), "invalid_token"),
    "several projects": (bearer(aud=[PROJECT, "other-project"]), "invalid_token"),
    "another project's issuer": (bearer(iss="https://securetoken.google.com/other-project"), "invalid_token"),
    "a session cookie": (bearer(iss=f"https://session.firebase.google.com/{PROJECT}"), "invalid_token"),
    "nobody": (bearer(sub=""), "invalid_token"),
    "no subject": (bearer(sub=None), "invalid_token"),
    "a number for a subject": (bearer(sub=7), "invalid_token"),
    "a subject with a slash": (bearer(sub="user-1/conversations"), "invalid_token"),
    "a subject of dots": (bearer(sub=".."), "invalid_token"),
    "a subject that Firestore reserves": (bearer(sub="__user__"), "invalid_token"),
    "a subject that cannot be written": (bearer(sub="\ud800"), "invalid_token"),
}


@pytest.mark.parametrize(("headers", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_a_token_that_does_not_hold_is_refused_with_its_reason(headers, reason):
    things = Things()
    response = things.ask(request("POST", "/mine", BODY, headers=headers))
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert response.get_json(force=True)["reason"] == reason
    assert things.calls == []


def test_a_token_that_holds_names_the_caller():
    things = Things()
    response = things.ask(request("POST", "/mine", BODY, headers=bearer()))
    assert response.status_code == 201
    assert response.get_json() == {"name": "chair", "by": "user-1"}
    assert [call.caller.uid for call in things.calls] == ["user-1"]


def test_the_scheme_is_read_in_any_case():
    headers = {"Authorization": f"bEaReR {token()}"}
    assert Things().ask(request("POST", "/mine", BODY, headers=headers)).status_code == 201


def test_a_clock_that_is_a_few_seconds_off_is_forgiven():
    headers = bearer(exp=int(NOW.timestamp()) - 5)
    assert Things().ask(request("POST", "/mine", BODY, headers=headers)).status_code == 201


def test_a_stranger_learns_nothing_about_the_body():
    for body in (b"{", b'{"name": 1}', b"x" * (MAX_BODY_BYTES + 1)):
        assert Things().ask(request("POST", "/mine", body)).status_code == 401


def test_a_strangers_body_is_not_even_read():
    asked = chunked_request("/mine", [b"x" * 1000])
    Things().ask(asked)
    assert len(asked.environ["wsgi.input"].read()) == 1000


def test_a_route_for_anyone_takes_no_notice_of_a_token():
    things = Things()
    response = things.ask(request("POST", "/open", BODY, headers={"Authorization": "Bearer garbage"}))
    assert response.status_code == 200
    assert things.calls[0].signed_in is None


def test_a_token_is_never_repeated(logged):
    unusable = token(claims(exp=EXPIRED))
    response = Things().ask(request("POST", "/mine", BODY, headers={"Authorization": f"Bearer {unusable}"}))
    assert unusable.split(".")[1] not in response.get_data(as_text=True)
    assert unusable.split(".")[1] not in json.dumps(logged())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)
)
PAYLOADS = JSON | st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("iss", "aud", "sub", "exp", "iat", "auth_time", "firebase", "user_id"), JSON)
).map(lambda changes: {**claims(), **changes})
HEADERS = JSON | st.fixed_dictionaries({}, optional={"alg": JSON, "typ": JSON, "kid": JSON})


@given(PAYLOADS, HEADERS)
def test_a_made_up_token_is_refused_or_names_somebody_of_this_project(payload, header):
    made_up = token(payload if payload is not None else b"null", header)
    try:
        caller = authenticate(f"Bearer {made_up}", now=NOW)
    except Unauthenticated:
        return
    assert payload["aud"] == PROJECT
    assert payload["sub"] == caller.uid != ""
    assert "/" not in caller.uid


@given(st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()) | st.text(max_size=60))
def test_any_text_in_place_of_a_token_is_refused(text):
    for header in (text, f"Bearer {text}", f"Bearer {text}.{text}.", f"Bearer {token(header=UNSIGNED)}{text}.{text}"):
        with pytest.raises(Unauthenticated):
            authenticate(header, now=NOW)
