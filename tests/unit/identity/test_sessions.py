"""Sessions: where they are looked for, how long an ended one can live on, and requests forged from other sites."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import PermissionDenied, RateLimited, Unauthenticated, Unavailable
from shared.identity import csrf, secret_text, session_cache, sessions
from shared.identity.authentication import Presented

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ADDRESS = "198.51.100.7"
COOKIE = sessions.new_cookie("a seed")
DIGEST = secret_text.digest(COOKIE)
PATH = f"sessions/{DIGEST}"
CACHED = f"session:{DIGEST}"


def stored(**changes):
    return {
        "uid": "user-1",
        "id": "sess_1",
        "created_at": NOW,
        "proved_at": NOW - 60 * SECOND,
        "expires_at": NOW + sessions.LIFETIME,
        "user_agent": "Tests/1.0",
        "address": ADDRESS,
        "last_seen_at": NOW,
        "revoked_at": None,
        **changes,
    }


def look_up(cookie=COOKIE, now=NOW, **options):
    return sessions.get_valid(cookie, address=ADDRESS, now=now, **options)


def reason_of(cookie=COOKIE, now=NOW):
    with pytest.raises(Unauthenticated) as refusal:
        look_up(cookie, now)
    return refusal.value.details["reason"]


def test_no_two_cookies_are_alike_but_those_of_one_seed():
    assert len({sessions.new_cookie() for _ in range(1000)}) == 1000
    assert sessions.new_cookie("a seed") == COOKIE != sessions.new_cookie("another seed")


@given(st.text(max_size=80))
def test_what_is_no_cookie_of_ours_costs_no_read(text):
    assert reason_of(text) == "invalid_session"


def test_what_is_no_cookie_of_ours_asks_nobody(database, redis_dictionary, suspicion):
    for text in ("cps_short", COOKIE + "x", COOKIE[:-1] + "-", "cps_" + "x" * 100_000):
        assert reason_of(text) == "invalid_session"
    assert (database.read, redis_dictionary.asked, suspicion.asked) == ([], 0, [])


def test_a_session_is_read_once_and_then_remembered_here_and_in_redis(database, redis_dictionary):
    database.stored[PATH] = stored()
    found = [look_up(now=NOW + second * SECOND) for second in range(30)]
    assert {(each.id, each.uid, each.proved_at) for each in found} == {("sess_1", "user-1", NOW - 60 * SECOND)}
    assert database.read == [PATH]
    sessions.forget_all()  # another process
    assert look_up() == found[0]
    assert database.read == [PATH], "Redis had it"
    assert redis_dictionary.kept_s[CACHED] <= 30


def test_redis_holds_no_cookie_and_no_more_than_it_needs(database, redis_dictionary):
    database.stored[PATH] = stored()
    look_up()
    text = redis_dictionary.texts[CACHED]
    assert set(json.loads(text)) == {"id", "uid", "proved_at", "expires_at", "revoked_at", "last_seen_at"}
    assert COOKIE not in f"{CACHED}{text}"


def test_an_ended_session_is_over_for_other_processes_when_theirs_lapses(database):
    database.stored[PATH] = stored()
    look_up()
    database.stored[PATH]["revoked_at"] = NOW
    session_cache.block(DIGEST)  # what the process that ended it told Redis
    assert look_up(now=NOW + 29 * SECOND).id == "sess_1"
    assert reason_of(now=NOW + 30 * SECOND) == "revoked_session"


def test_an_ended_session_is_over_here_at_once(database):
    database.stored[PATH] = stored()
    look_up()
    database.stored[PATH]["revoked_at"] = NOW
    sessions.forget(DIGEST)
    assert reason_of() == "revoked_session"


def test_a_process_that_read_it_just_before_cannot_bring_it_back(database, redis_dictionary):
    session_cache.block(DIGEST)
    session_cache.keep(DIGEST, {"id": "sess_1"})
    assert session_cache.find(DIGEST) is None


def test_without_redis_the_database_is_asked_and_redis_left_alone_for_a_while(database, redis_dictionary):
    database.stored[PATH] = stored()
    redis_dictionary.away = True
    for _ in range(5):
        assert look_up().id == "sess_1"
        sessions.forget_all()
    assert database.read == [PATH] * 5
    assert redis_dictionary.asked == 1


def test_an_end_is_told_to_redis_even_when_it_was_away_a_moment_ago(redis_dictionary):
    redis_dictionary.away = True
    session_cache.find(DIGEST)
    redis_dictionary.away = False
    session_cache.block(DIGEST)
    assert redis_dictionary.texts[CACHED] == "blocked"


@pytest.mark.parametrize("text", ["", "null", "[]", "{", '{"id": "sess_1"}', '{"proved_at": 7}', "\ud800"])
def test_what_redis_cannot_mean_is_read_from_the_database(database, redis_dictionary, text):
    database.stored[PATH] = stored()
    redis_dictionary.texts[CACHED] = text
    assert look_up().id == "sess_1"


def test_a_fresh_look_believes_neither_this_process_nor_redis(database):
    database.stored[PATH] = stored()
    look_up()
    database.stored[PATH]["revoked_at"] = NOW
    with pytest.raises(Unauthenticated):
        look_up(fresh=True)


def test_a_session_ends_at_its_very_moment_also_when_it_is_remembered(database):
    database.stored[PATH] = stored(expires_at=NOW + 10 * SECOND)
    look_up(now=NOW + 9 * SECOND)
    assert reason_of(now=NOW + 10 * SECOND) == "expired_session"


def test_a_scan_is_counted_and_then_refused_before_anything_is_read(database, suspicion, redis_dictionary, uses):
    for number in range(20):
        assert reason_of(sessions.new_cookie(f"scan {number}")) == "invalid_session"
    assert suspicion.failed == [ADDRESS] * 20
    assert (redis_dictionary.texts, uses.written) == ({}, [])
    suspicion.suspicious.add(ADDRESS)
    database.read.clear()
    with pytest.raises(RateLimited):
        look_up()
    assert database.read == []


def test_without_the_database_an_unknown_session_gets_nobody_in(database):
    database.down = True
    with pytest.raises(Unavailable):
        look_up()


# --- forged requests -------------------------------------------------------------------------------------------------

TOKEN = csrf.token_of(COOKIE)


def forged(**shown):
    with pytest.raises(PermissionDenied) as refusal:
        csrf.refuse_forged(Presented(**{"csrf_token": TOKEN, **shown}), COOKIE)
    return refusal.value.details["reason"]


@pytest.mark.parametrize(
    "shown",
    [None, "", TOKEN[:-1], TOKEN + "0", TOKEN.upper() + " ", "0" * 64, "é" * 64, csrf.token_of(sessions.new_cookie())],
    ids=["none", "empty", "short", "long", "a space", "zeros", "not ASCII", "another session's"],
)
def test_a_csrf_token_that_is_not_the_sessions_is_refused(shown):
    assert forged(csrf_token=shown) == "csrf"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        "",
        "https://demo-craftpilot.web.app.evil.example",
        "http://demo-craftpilot.web.app",
        "https://demo-craftpilot.web.app:8443",
        "http://[::1",
    ],
)
def test_a_strange_origin_is_refused_even_with_the_token(origin):
    assert forged(origin=origin) == "csrf"


@pytest.mark.parametrize("site", ["cross-site", "Cross-Site", " cross-site "])
def test_what_the_browser_calls_cross_site_is_refused_even_with_the_token(site):
    assert forged(sec_fetch_site=site) == "csrf"


@pytest.mark.parametrize("origin", [None, "https://demo-craftpilot.web.app", "http://localhost:5000"])
@pytest.mark.parametrize("site", [None, "same-origin", "same-site", "none"])
def test_a_page_of_ours_with_the_token_may(origin, site):
    csrf.refuse_forged(Presented(csrf_token=TOKEN, origin=origin, sec_fetch_site=site), COOKIE)


def test_the_csrf_token_does_not_tell_the_cookie():
    assert COOKIE not in TOKEN
    assert csrf.token_of(COOKIE) == TOKEN
