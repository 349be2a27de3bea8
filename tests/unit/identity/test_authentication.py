"""Nobody gets in without exactly one credential that holds, and nothing else that a request says counts."""

import base64
import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import AccountSuspended, PermissionDenied, Unauthenticated
from shared.identity import csrf, keys, secret_text, sessions, tokens
from shared.identity.authentication import Presented, authenticate
from shared.identity.caller import Proof
from shared.identity.permissions import Permission, Role
from tests.unit.shared.exchange import NOW, PROJECT, UNSIGNED, bearer, chunked_request, claims, request, token
from tests.unit.shared.things import MAX_BODY_BYTES, Things

BODY = b'{"name": "chair"}'
SECOND = timedelta(seconds=1)
NOW_S = int(NOW.timestamp())
EXPIRED = NOW_S - 60
KEY = keys.new_key("a seed")
COOKIE = sessions.new_cookie("a seed")
ACTIVE = {"role": "user", "status": "active", "plan": "free"}


@pytest.fixture(autouse=True)
def stored(database):
    """One user with an account, a key and a session."""
    database.stored |= {
        "users/user-1": dict(ACTIVE),
        f"api_keys/{secret_text.digest(KEY)}": {
            "uid": "user-1",
            "id": "key_1",
            "scopes": ["chat:write"],
            "allowed_models": None,
            "monthly_limit_micro": None,
            "budget_id": "key_1",
            "expires_at": None,
            "revoked_at": None,
            "last_used_at": None,
        },
        f"sessions/{secret_text.digest(COOKIE)}": {
            "uid": "user-1",
            "id": "sess_1",
            "proved_at": NOW - 60 * SECOND,
            "expires_at": NOW + sessions.LIFETIME,
            "last_seen_at": NOW,
            "revoked_at": None,
        },
    }
    return database.stored


# --- ID tokens -------------------------------------------------------------------------------------------------------

REFUSED = {
    "no header": ({}, "missing_token"),
    "empty header": ({"Authorization": ""}, "missing_token"),
    "a header of spaces": ({"Authorization": "   "}, "missing_token"),
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
    "a token that never expires": (bearer(exp=None), "invalid_token"),
    "an expiry that is no number": (bearer(exp="tomorrow"), "invalid_token"),
    "an expiry that is not to be compared": (bearer(exp=float("nan")), "invalid_token"),
    "an expiry at the end of all days": (bearer(exp=float("inf")), "invalid_token"),
    "an expiry beyond all calendars": (bearer(exp=10**40), "invalid_token"),
    "an expiry that is true": (bearer(exp=True), "invalid_token"),
    "issued in the future": (bearer(iat=NOW_S + 60), "invalid_token"),
    "issued never": (bearer(iat=None), "invalid_token"),
    "signed in in the future": (bearer(auth_time=NOW_S + 60), "invalid_token"),
    "signed in never": (bearer(auth_time=None), "invalid_token"),
    "signed in before all time": (bearer(auth_time=-1), "invalid_token"),
    "signed in at no number": (bearer(auth_time=float("nan")), "invalid_token"),
    "another project": (bearer(aud="other-project"), "invalid_token"),
    "several projects": (bearer(aud=[PROJECT, "other-project"]), "invalid_token"),
    "another project's issuer": (bearer(iss="https://securetoken.google.com/other-project"), "invalid_token"),
    "another issuer": (bearer(iss=f"https://evil.example/{PROJECT}"), "invalid_token"),
    "no issuer": (bearer(iss=None), "invalid_token"),
    "a foreign project in all": (
        bearer(aud="other-project", iss="https://securetoken.google.com/other-project"),
        "invalid_token",
    ),
    "a custom token": (
        bearer(aud="https://identitytoolkit.googleapis.com/google.identity.identitytoolkit.v1.IdentityToolkit"),
        "invalid_token",
    ),
    "a session cookie of Firebase": (bearer(iss=f"https://session.firebase.google.com/{PROJECT}"), "invalid_token"),
    "a tenant's token": (bearer(firebase={"tenant": "tenant-1"}), "invalid_token"),
    "nobody": (bearer(sub=""), "invalid_token"),
    "no subject": (bearer(sub=None), "invalid_token"),
    "a number for a subject": (bearer(sub=7), "invalid_token"),
    "a very long subject": (bearer(sub="x" * 129), "invalid_token"),
    "a subject with a slash": (bearer(sub="user-1/conversations"), "invalid_token"),
    "a subject of dots": (bearer(sub=".."), "invalid_token"),
    "a subject that Firestore reserves": (bearer(sub="__user__"), "invalid_token"),
    "a subject that cannot be written": (bearer(sub="\ud800"), "invalid_token"),
    "no key of ours": ({"X-API-Key": "sk-or-v1-x"}, "invalid_key"),
    "an empty key": ({"X-API-Key": ""}, "invalid_key"),
    "a made-up key as bearer": ({"Authorization": "Bearer cp_live_x"}, "invalid_key"),
    "a token in the place of a key": ({"X-API-Key": token()}, "invalid_key"),
    "no cookie of ours": ({"Cookie": "__session=user-1"}, "invalid_session"),
    "an ID token as a cookie": ({"Cookie": f"__session={token()}"}, "invalid_session"),
    "a key as a cookie": ({"Cookie": f"__session={KEY}"}, "invalid_session"),
    "a session in another cookie": ({"Cookie": f"session={COOKIE}"}, "missing_token"),
    "a token and a key": ({**bearer(), "X-API-Key": KEY}, "several_credentials"),
    "two tokens": ({"Authorization": f"Bearer {token()}, Bearer {token()}"}, "several_credentials"),
    "two keys": ({"X-API-Key": f"{KEY},{KEY}"}, "several_credentials"),
    "a token and an empty key": ({**bearer(), "X-API-Key": ""}, "several_credentials"),
}


@pytest.mark.parametrize(("headers", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_what_does_not_hold_is_refused_with_its_reason(headers, reason):
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
    [call] = things.calls
    assert (call.caller.uid, call.caller.proof, call.caller.role) == ("user-1", Proof.ID_TOKEN, Role.USER)
    assert call.caller.proved_at == NOW - 300 * SECOND
    assert (call.caller.session_id, call.caller.key, call.caller.csrf_token) == (None, None, None)


def test_the_scheme_is_read_in_any_case():
    headers = {"Authorization": f"bEaReR {token()}"}
    assert Things().ask(request("POST", "/mine", BODY, headers=headers)).status_code == 201


def test_a_clock_that_is_a_few_seconds_off_is_forgiven():
    for changes in ({"exp": NOW_S - 5}, {"iat": NOW_S + 5, "auth_time": NOW_S + 5}):
        assert Things().ask(request("POST", "/mine", BODY, headers=bearer(**changes))).status_code == 201


def test_a_token_that_was_good_a_moment_ago_still_expires():
    text = f"Bearer {token(claims(exp=NOW_S + 20))}"
    authenticate(Presented(authorization=(text,)), now=NOW)
    authenticate(Presented(authorization=(text,)), now=NOW + 30 * SECOND)
    with pytest.raises(Unauthenticated) as refusal:
        authenticate(Presented(authorization=(text,)), now=NOW + 31 * SECOND)
    assert refusal.value.details["reason"] == "expired_token"


def test_a_role_in_a_token_gives_nothing():
    text = f"Bearer {token(claims(role='admin', admin=True, plan='enterprise', status='active'))}"
    caller = authenticate(Presented(authorization=(text,)), now=NOW)
    assert (caller.role, caller.plan) == (Role.USER, "free")


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


SPOOFED = {
    "a user id": {"X-User-Id": "user-1"},
    "the old gateway's mark": {
        "X-Auth-Processed": "true",
        "X-User-Id": "user-1",
        "X-User-Role": "ADMIN",
        "X-User-Email": "a@example.com",
    },
    "its other header": {"Firebase-Token": token()},
    "a proxy's user": {"X-Forwarded-User": "user-1", "Remote-User": "user-1", "X-Authenticated-User": "user-1"},
    "Google's own proxy": {
        "X-Goog-Authenticated-User-Id": "accounts.google.com:user-1",
        "X-Goog-IAP-JWT-Assertion": "x",
    },
    "the callables' own": {"X-Callable-Context-Auth": json.dumps({"uid": "user-1"})},
    "a proxy's token": {"Proxy-Authorization": f"Bearer {token()}", "X-Forwarded-Authorization": f"Bearer {token()}"},
    "a token in the query": {"X-Original-URL": f"/mine?access_token={token()}"},
}


@pytest.mark.parametrize("headers", SPOOFED.values(), ids=SPOOFED.keys())
def test_a_header_that_names_a_user_lets_nobody_in(headers):
    things = Things()
    response = things.ask(request("POST", "/mine", BODY, headers=headers, query=f"uid=user-1&access_token={token()}"))
    assert (response.status_code, things.calls) == (401, [])


@pytest.mark.parametrize("headers", SPOOFED.values(), ids=SPOOFED.keys())
def test_a_header_that_names_a_user_makes_nobody_another(stored, headers):
    stored["users/user-2"] = dict(ACTIVE)
    things = Things()
    things.ask(request("POST", "/mine", BODY, headers={**headers, **bearer(sub="user-2", user_id="user-1")}))
    assert [(call.caller.uid, call.caller.role) for call in things.calls] == [("user-2", Role.USER)]


CREDENTIALS = {
    "a token": (bearer(exp=EXPIRED), bearer(exp=EXPIRED)["Authorization"].split(".")[1]),
    "a key": ({"X-API-Key": keys.new_key("unknown")}, keys.new_key("unknown")),
    "a cookie": ({"Cookie": f"__session={sessions.new_cookie('unknown')}"}, sessions.new_cookie("unknown")),
}


@pytest.mark.parametrize(("headers", "secret"), CREDENTIALS.values(), ids=CREDENTIALS.keys())
def test_a_credential_is_never_repeated(logged, headers, secret):
    response = Things().ask(request("POST", "/mine", BODY, headers=headers))
    assert response.status_code == 401
    assert secret not in response.get_data(as_text=True)
    assert secret not in json.dumps(logged())


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
        sign_in = tokens.verify(made_up, now=NOW)
    except Unauthenticated:
        return
    assert payload["aud"] == PROJECT
    assert payload["iss"].endswith(PROJECT)
    assert payload["sub"] == sign_in.person.uid != ""
    assert "/" not in sign_in.person.uid
    assert sign_in.signed_in_at <= NOW + 10 * SECOND


@given(st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()) | st.text(max_size=60))
def test_any_text_in_place_of_a_credential_is_refused(text):
    made_up = f"{text}.{text}.", f"{token(header=UNSIGNED)}{text}.{text}"
    for header in (text, f"Bearer {text}", *(f"Bearer {each}" for each in made_up)):
        with pytest.raises(Unauthenticated):
            authenticate(Presented(authorization=(header,)), now=NOW)
    for shown in (Presented(api_key=(text,)), Presented(session_cookie=text)):
        with pytest.raises(Unauthenticated):
            authenticate(shown, now=NOW)


# --- one credential, whichever ---------------------------------------------------------------------------------------

ONE_OF_EACH = {
    Proof.ID_TOKEN: Presented(authorization=(f"Bearer {token()}",)),
    Proof.API_KEY: Presented(api_key=(KEY,)),
    Proof.SESSION: Presented(session_cookie=COOKIE),
}


@pytest.mark.parametrize(("proof", "presented"), ONE_OF_EACH.items(), ids=ONE_OF_EACH.keys())
def test_each_kind_of_credential_names_its_user_and_its_standing(stored, proof, presented):
    stored["users/user-1"] |= {"role": "support", "plan": "pro"}
    caller = authenticate(presented, now=NOW)
    assert (caller.uid, caller.proof, caller.role, caller.plan) == ("user-1", proof, Role.SUPPORT, "pro")


def test_a_key_may_come_as_bearer_too():
    caller = authenticate(Presented(authorization=(f"Bearer {KEY}",)), now=NOW)
    assert caller.proof is Proof.API_KEY
    assert caller.key is not None
    assert caller.key.id == "key_1"
    assert caller.proved_at is None


def test_a_key_allows_its_scopes_and_not_its_owners_role(stored):
    stored["users/user-1"]["role"] = "admin"
    caller = authenticate(Presented(api_key=(KEY,)), now=NOW)
    assert [permission for permission in Permission if caller.may(permission)] == [Permission.CHAT_WRITE]


@pytest.mark.parametrize("proof", ONE_OF_EACH)
@pytest.mark.parametrize(("status", "error"), [("suspended", AccountSuspended), ("erasing", Unauthenticated)])
def test_no_credential_of_a_shut_account_holds(stored, proof, status, error):
    stored["users/user-1"] |= {"status": status, "role": "admin"}
    with pytest.raises(error):
        authenticate(ONE_OF_EACH[proof], now=NOW)


@pytest.mark.parametrize("proof", [Proof.API_KEY, Proof.SESSION])
def test_no_key_and_no_session_outlives_its_account(stored, proof):
    del stored["users/user-1"]
    with pytest.raises(Unauthenticated) as refusal:
        authenticate(ONE_OF_EACH[proof], now=NOW)
    assert refusal.value.details["reason"] == "account_deleted"


@pytest.mark.parametrize("proof", [Proof.ID_TOKEN, Proof.SESSION])
def test_a_sign_out_everywhere_ends_what_was_proved_before(stored, proof):
    stored["users/user-1"]["valid_since"] = NOW
    with pytest.raises(Unauthenticated) as refusal:
        authenticate(ONE_OF_EACH[proof], now=NOW)
    assert refusal.value.details["reason"] == "revoked_token"


def test_a_sign_out_everywhere_leaves_keys_alone(stored):
    stored["users/user-1"]["valid_since"] = NOW
    assert authenticate(ONE_OF_EACH[Proof.API_KEY], now=NOW).uid == "user-1"


def test_a_cookie_beside_a_header_does_not_count():
    """A browser sends it along whether its page wants it or not."""
    with pytest.raises(Unauthenticated) as refusal:
        authenticate(Presented(authorization=("Bearer nonsense",), session_cookie=COOKIE), now=NOW)
    assert refusal.value.details["reason"] == "invalid_token"
    caller = authenticate(Presented(api_key=(KEY,), session_cookie="nonsense", changes_state=True), now=NOW)
    assert (caller.proof, caller.session_id) == (Proof.API_KEY, None)


def test_a_session_changes_something_only_with_its_csrf_token():
    reading = authenticate(Presented(session_cookie=COOKIE), now=NOW)
    assert (reading.session_id, reading.proved_at) == ("sess_1", NOW - 60 * SECOND)
    assert reading.csrf_token == csrf.token_of(COOKIE)
    for shown in (None, "guess"):
        with pytest.raises(PermissionDenied) as refusal:
            authenticate(Presented(session_cookie=COOKIE, changes_state=True, csrf_token=shown), now=NOW)
        assert refusal.value.details["reason"] == "csrf"
    changing = Presented(session_cookie=COOKIE, changes_state=True, csrf_token=reading.csrf_token)
    assert authenticate(changing, now=NOW) == reading


@pytest.mark.parametrize("proof", [Proof.ID_TOKEN, Proof.API_KEY])
def test_what_no_browser_sends_by_itself_needs_no_csrf_token(proof):
    shown = {
        Proof.ID_TOKEN: Presented(
            authorization=(f"Bearer {token()}",), changes_state=True, origin="https://any.example"
        ),
        Proof.API_KEY: Presented(api_key=(KEY,), changes_state=True, sec_fetch_site="cross-site"),
    }[proof]
    assert authenticate(shown, now=NOW).uid == "user-1"


def test_a_csrf_token_does_not_show_in_a_log_of_the_caller():
    caller = authenticate(Presented(session_cookie=COOKIE), now=NOW)
    assert csrf.token_of(COOKIE) not in repr(caller)


def test_credentials_that_hold_ask_nothing_a_second_time(database):
    for presented in ONE_OF_EACH.values():
        authenticate(presented, now=NOW)
    database.read.clear()
    for presented in ONE_OF_EACH.values():
        authenticate(presented, now=NOW + 29 * SECOND)
    assert database.read == []


def test_who_is_turned_away_has_written_nothing(stored, uses, redis_dictionary):
    before = json.dumps(stored, default=str, sort_keys=True)
    for headers, _ in REFUSED.values():
        Things().ask(request("POST", "/mine", BODY, headers=headers))
    assert json.dumps(stored, default=str, sort_keys=True) == before
    assert (uses.written, redis_dictionary.texts) == ([], {})
