"""Sessions from sign-in to sign-out, through the whole pipeline, in the eyes of a browser."""

import json
from datetime import datetime, timedelta

import pytest

from functions.access import service
from functions.access.domain import MAX_LIVE_SESSIONS
from shared import clients
from shared.clients import firestore_client, redis_client
from shared.identity import accounts, csrf, secret_text, session_cache, sessions, tokens
from shared.identity.caller import Caller, Proof
from shared.redis_link import Link
from shared.settings import settings
from tests.store.access.support import GOOD_KEY, KEYS, SESSIONS, ask

CURRENT = f"{SESSIONS}/current"
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


def elsewhere():
    """What another process knows: nothing but what Redis has."""
    sessions.forget_all()
    accounts.forget_all()


@pytest.fixture(params=["in this process", "by Redis", "by the database"])
def asked(request):
    """Who is asked for a session."""

    def forget(cookie):
        if request.param != "in this process":
            elsewhere()
        if request.param == "by the database":
            redis_client().delete(f"session:{secret_text.digest(cookie)}")

    return forget


# --- beginning -------------------------------------------------------------------------------------------------------


def test_a_sign_in_becomes_a_session(ada, clock, asked):
    cookie, opened = ada.open_session()
    asked(cookie)
    assert datetime.fromisoformat(opened["expires_at"]) == clock.now + 14 * DAY
    current = ada.ask_with(cookie, "GET", CURRENT)
    assert (current.status, current.json) == (200, opened)
    assert opened["csrf_token"] == csrf.token_of(cookie)


def test_the_cookie_is_for_our_pages_and_for_no_script(ada, monkeypatch):
    answer = ada.ask("POST", SESSIONS)
    set_cookie = answer.headers["Set-Cookie"]
    assert set_cookie.startswith("__session=cps_")
    attributes = {part.strip().lower() for part in set_cookie.split(";")[1:]}
    assert {"httponly", "samesite=lax", "path=/", f"max-age={14 * 86400}"} <= attributes
    assert not any(attribute.startswith("domain") for attribute in attributes)


def test_outside_the_emulator_the_cookie_goes_over_tls_only(ada, monkeypatch):
    assert "Secure" not in ada.ask("POST", SESSIONS).headers["Set-Cookie"]
    from functions.access import http

    monkeypatch.setattr(http, "settings", lambda: type("Deployed", (), {"in_emulator": False}))
    assert "Secure" in ada.ask("POST", SESSIONS).headers["Set-Cookie"]
    assert settings().in_emulator


def test_neither_the_cookie_nor_its_csrf_token_is_stored(ada):
    cookie, opened = ada.open_session()
    ada.ask_with(cookie, "GET", CURRENT)
    [(name, document)] = ada.documents("sessions").items()
    assert name == secret_text.digest(cookie)
    cached = redis_client().get(f"session:{name}")
    for secret in (cookie, cookie[4:], opened["csrf_token"]):
        assert secret not in json.dumps([document, cached, ada.events()], default=str)


def test_beginning_a_session_is_told_without_device_and_address(ada):
    ada.open_session(**{"User-Agent": "Secret/1.0", "X-Forwarded-For": "203.0.113.77"})
    [document] = ada.documents("sessions").values()
    assert (document["user_agent"], document["address"]) == ("Secret/1.0", "203.0.113.77")
    told = json.dumps(ada.events(), default=str)
    assert "user.session.created" in told
    assert "Secret/1.0" not in told
    assert "203.0.113.77" not in told


@pytest.mark.parametrize("age", [5 * 60 + 1, 3600])
def test_an_older_sign_in_is_not_enough(ada, clock, age):
    clock.move(age * SECOND)
    answer = ada.ask("POST", SESSIONS)
    assert (answer.status, answer.json["reason"]) == (401, "recent_sign_in_required")
    assert "Set-Cookie" not in answer.headers
    ada.sign_in()
    assert ada.ask("POST", SESSIONS).status == 201


def test_a_session_does_not_beget_sessions(ada):
    cookie, _ = ada.open_session()
    answer = ada.ask_with(cookie, "POST", SESSIONS)
    assert (answer.status, answer.json["reason"]) == (401, "recent_sign_in_required")


def test_a_request_sent_again_gets_the_same_session(ada):
    answers = [ada.ask("POST", SESSIONS, **{"Idempotency-Key": "once"}) for _ in range(2)]
    assert len({answer.cookie.value for answer in answers}) == 1
    assert answers[0].json == answers[1].json
    assert len(ada.documents("sessions")) == 1


def test_a_request_that_died_on_its_way_back_gets_the_same_session(ada, clock):
    ada.ask("GET", SESSIONS)
    caller = Caller(uid=ada.uid, proof=Proof.ID_TOKEN, proved_at=clock.now)

    def run():
        return service.open_session(
            caller, session_id="sess_again", seed=ada.uid, user_agent="", address="", now=clock.now
        )

    assert run() == run()
    assert len(ada.documents("sessions")) == 1
    assert ada.event_types().count("user.session.created") == 1


def test_of_too_many_sessions_those_seen_longest_ago_end(ada, clock):
    first, _ = ada.open_session()
    for _ in range(MAX_LIVE_SESSIONS - 1):
        clock.move(SECOND)
        ada.open_session()
    assert ada.ask_with(first, "GET", CURRENT).status == 200
    clock.move(SECOND)
    ada.open_session()
    assert ada.ask_with(first, "GET", CURRENT).json["reason"] == "revoked_session"
    assert len(ada.ask("GET", SESSIONS).json["items"]) == MAX_LIVE_SESSIONS


# --- using -----------------------------------------------------------------------------------------------------------


def test_a_session_ends_by_itself_after_fourteen_days(ada, clock, asked):
    cookie, _ = ada.open_session()
    clock.move(14 * DAY - SECOND)
    assert ada.ask_with(cookie, "GET", CURRENT).status == 200
    clock.move(SECOND)
    asked(cookie)
    answer = ada.ask_with(cookie, "GET", CURRENT)
    assert (answer.status, answer.json["reason"]) == (401, "expired_session")


FORGERIES = {
    "no token": {"X-CSRF-Token": ""},
    "another token": {"X-CSRF-Token": "0" * 64},
    "another origin": {"Origin": "https://evil.example"},
    "another site": {"Sec-Fetch-Site": "cross-site"},
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES.keys())
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [("POST", KEYS, GOOD_KEY), ("DELETE", CURRENT, None), ("POST", f"{SESSIONS}/revoke-all", None)],
)
def test_another_sites_page_changes_nothing_with_the_cookie(ada, forgery, method, path, body):
    cookie, _ = ada.open_session()
    answer = ada.ask_with(cookie, method, path, body, **forgery)
    assert (answer.status, answer.json["reason"]) == (403, "csrf")
    assert ada.documents("api_keys") == {}
    assert ada.ask_with(cookie, "GET", CURRENT).status == 200


def test_a_page_of_ours_changes_things_with_cookie_and_token(ada):
    cookie, _ = ada.open_session()
    answer = ada.ask_with(
        cookie, "POST", KEYS, GOOD_KEY, **{"Origin": "https://demo-craftpilot.web.app", "Sec-Fetch-Site": "same-origin"}
    )
    assert answer.status == 201


def test_reading_needs_no_csrf_token(ada, clock):
    cookie, _ = ada.open_session()
    assert ask(clock, "GET", CURRENT, Cookie=f"__session={cookie}").status == 200


def test_somebody_without_a_session_has_no_current_one(ada):
    for method in ("GET", "DELETE"):
        assert ada.ask(method, CURRENT).status == 404


def test_live_sessions_are_listed_newest_first_and_the_current_one_is_marked(ada, mallory, clock):
    mallory.open_session()
    cookies = []
    for agent in ("Phone", "Laptop", "Tablet"):
        cookies.append(ada.open_session(**{"User-Agent": agent})[0])
        clock.move(SECOND)
    ada.ask_with(cookies[2], "DELETE", CURRENT)
    listed = ada.ask_with(cookies[0], "GET", SESSIONS).json
    assert [(item["user_agent"], item["current"]) for item in listed["items"]] == [("Laptop", False), ("Phone", True)]
    assert listed["next_cursor"] is None
    assert [item["current"] for item in ada.ask("GET", SESSIONS).json["items"]] == [False, False]


def test_a_suspended_user_is_out_with_their_session_too(ada, clock):
    cookie, _ = ada.open_session()
    assert ada.ask_with(cookie, "GET", CURRENT).status == 200
    firestore_client().document(f"users/{ada.uid}").update({"status": "suspended"})
    clock.move(30 * SECOND)
    answer = ada.ask_with(cookie, "GET", CURRENT)
    assert (answer.status, answer.json["code"]) == (403, "account_suspended")


# --- ending ----------------------------------------------------------------------------------------------------------


def test_signing_out_ends_the_session_and_clears_the_cookie(ada, asked):
    cookie, _ = ada.open_session()
    answer = ada.ask_with(cookie, "DELETE", CURRENT)
    assert answer.status == 204
    assert (answer.cookie.value, answer.cookie["max-age"], answer.cookie["path"]) == ("", "0", "/")
    asked(cookie)
    after = ada.ask_with(cookie, "GET", CURRENT)
    assert (after.status, after.json["reason"]) == (401, "revoked_session")


def test_another_browser_is_signed_out_from_here(ada):
    here, _ = ada.open_session()
    there, opened = ada.open_session()
    answer = ada.ask_with(here, "DELETE", f"{SESSIONS}/{opened['id']}")
    assert (answer.status, answer.cookie) == (204, None)
    assert ada.ask_with(there, "GET", CURRENT).status == 401
    assert ada.ask_with(here, "GET", CURRENT).status == 200


def test_ending_the_current_session_by_its_id_clears_the_cookie_too(ada):
    cookie, opened = ada.open_session()
    assert ada.ask_with(cookie, "DELETE", f"{SESSIONS}/{opened['id']}").cookie.value == ""


def test_ending_a_session_twice_changes_nothing(ada):
    _, opened = ada.open_session()
    for _ in range(2):
        assert ada.ask("DELETE", f"{SESSIONS}/{opened['id']}").status == 204
    assert ada.event_types().count("user.session.revoked") == 1


def test_somebody_elses_session_is_not_there(ada, mallory):
    cookie, opened = ada.open_session()
    assert mallory.ask("DELETE", f"{SESSIONS}/{opened['id']}").status == 404
    assert ada.ask_with(cookie, "GET", CURRENT).status == 200


def test_an_ended_session_is_over_in_other_processes_within_a_minute(ada, clock, monkeypatch):
    """The other process read it from Redis at the last moment, and Redis was away when it was told of the end."""
    cookie, opened = ada.open_session()
    assert ada.ask_with(cookie, "GET", CURRENT).status == 200
    with monkeypatch.context() as one_process:
        one_process.setattr(session_cache, "block", lambda _: None)
        one_process.setattr(sessions._recent, "drop", lambda _: None)
        ada.ask("DELETE", f"{SESSIONS}/{opened['id']}")
    assert ada.ask_with(cookie, "GET", CURRENT).status == 200
    assert 0 < redis_client().ttl(f"session:{secret_text.digest(cookie)}") <= 30
    clock.move(30 * SECOND)
    redis_client().delete(f"session:{secret_text.digest(cookie)}")  # its thirty seconds are over, too
    assert ada.ask_with(cookie, "GET", CURRENT).status == 401


def test_redis_away_changes_nothing_but_who_is_asked(ada, monkeypatch):
    monkeypatch.setitem(clients._made, "redis_link", Link("redis://127.0.0.1:9/0"))
    monkeypatch.setattr(session_cache._Away, "until", 0.0)
    cookie, _ = ada.open_session()
    elsewhere()
    assert ada.ask_with(cookie, "GET", CURRENT).status == 200
    assert ada.ask_with(cookie, "DELETE", CURRENT).status == 204
    assert ada.ask_with(cookie, "GET", CURRENT).status == 401
    session_cache._Away.until = 0.0


def test_signing_out_everywhere_ends_every_session_and_every_token(ada, clock, firebase_auth, asked):
    clock.move(SECOND)
    cookies = [ada.open_session()[0] for _ in range(3)]
    answer = ada.ask_with(cookies[0], "POST", f"{SESSIONS}/revoke-all")
    assert (answer.status, answer.json["sessions_ended"]) == (200, 3)
    assert datetime.fromisoformat(answer.json["valid_since"]) == clock.now
    assert answer.cookie.value == ""
    assert ada.uid in firebase_auth.valid_after_s
    for cookie in cookies:
        asked(cookie)
        assert ada.ask_with(cookie, "GET", CURRENT).status == 401
    by_token = ada.ask("GET", SESSIONS)
    assert (by_token.status, by_token.json["reason"]) == (401, "revoked_token")
    assert ada.event_types().count("user.signed_out_everywhere") == 1


def test_after_signing_out_everywhere_one_can_sign_in_again(ada, clock, firebase_auth):
    ada.ask("POST", f"{SESSIONS}/revoke-all")
    clock.move(2 * SECOND)
    ada.sign_in()
    firebase_auth.valid_after_s.clear()  # it has the real clock
    assert ada.ask("POST", SESSIONS).status == 201


def test_a_token_refreshed_after_signing_out_everywhere_is_still_the_old_sign_in(ada, clock):
    ada.ask("POST", f"{SESSIONS}/revoke-all")
    clock.move(60 * SECOND)
    assert ada.ask("GET", SESSIONS).json["reason"] == "revoked_token"


def test_signing_out_everywhere_leaves_keys_alone(ada, clock):
    made = ada.make_key(scopes=["profile:read"])
    ada.ask("POST", f"{SESSIONS}/revoke-all")
    answer = ask(clock, "GET", SESSIONS, **{"X-API-Key": made["key"]})
    assert (answer.status, answer.json["code"]) == (403, "permission_denied"), "let in, but not to this"


def test_what_firebase_auth_did_not_hear_is_said_and_can_be_sent_again(ada, clock, monkeypatch, firebase_auth):
    from firebase_admin import auth, exceptions

    def away(*_, **__):
        raise exceptions.UnavailableError("no route")

    cookie, _ = ada.open_session()
    with monkeypatch.context() as network:
        network.setattr(auth, "revoke_refresh_tokens", away)
        assert ada.ask_with(cookie, "POST", f"{SESSIONS}/revoke-all").status == 503
    assert ada.ask_with(cookie, "GET", CURRENT).status == 401, "here it is over all the same"
    clock.move(SECOND)
    ada.sign_in()
    assert ada.ask("POST", f"{SESSIONS}/revoke-all").status == 200
    assert ada.uid in firebase_auth.valid_after_s
    assert tokens.CLOCK_SKEW < 60 * SECOND
