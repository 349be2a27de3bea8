"""API keys: what has their form, what a look-up costs, and what a scan with made-up ones gets."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RateLimited, Unauthenticated, Unavailable
from shared.identity import keys, secret_text
from shared.identity.permissions import Permission
from shared.identity.recent import Recent

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ADDRESS = "198.51.100.7"
KEY = keys.new_key("a seed")


def stored(**changes):
    return {
        "uid": "user-1",
        "id": "key_1",
        "scopes": ["chat:read", "chat:write"],
        "allowed_models": None,
        "monthly_limit_micro": None,
        "budget_id": "key_1",
        "expires_at": None,
        "revoked_at": None,
        "last_used_at": None,
        **changes,
    }


def path_of(key):
    return f"api_keys/{secret_text.digest(key)}"


def look_up(key=KEY, now=NOW, **options):
    return keys.get_valid(key, address=ADDRESS, now=now, **options)


def reason_of(key=KEY, now=NOW):
    with pytest.raises(Unauthenticated) as refusal:
        look_up(key, now)
    return refusal.value.details["reason"]


def test_a_new_key_has_the_form_and_no_two_are_alike():
    made = {keys.new_key() for _ in range(1000)}
    assert len(made) == 1000
    for key in made:
        assert len(key) == len("cp_live_") + 32 + 6
        assert keys.is_well_formed(key)


def test_the_same_seed_makes_the_same_key():
    assert keys.new_key("a seed") == KEY != keys.new_key("another seed")
    assert keys.is_well_formed(KEY)


@given(st.integers(8, 45), st.sampled_from(secret_text.ALPHABET))
def test_one_wrong_character_is_noticed(place, character):
    wrong = KEY[:place] + character + KEY[place + 1 :]
    assert keys.is_well_formed(wrong) == (wrong == KEY)


@given(st.text(max_size=60) | st.from_regex(r"cp_live_[0-9A-Za-z]{38}", fullmatch=True))
def test_what_is_made_up_has_no_form(text):
    """One in 57 billion would; Hypothesis does not find it."""
    assert not keys.is_well_formed(text)


BAD_FORM = {
    "a wrong checksum": KEY[:-1] + ("0" if KEY[-1] != "0" else "1"),
    "a short key": KEY[:-1],
    "a long key": KEY + "0",
    "another prefix": KEY.replace("cp_live_", "cp_test_"),
    "a line break at the end": KEY + "\n",
    "digits of another script": KEY[:8] + "٣" + KEY[9:],
    "nothing": "",
    "very much": "cp_live_" + "x" * 100_000,
}


@pytest.mark.parametrize("text", BAD_FORM.values(), ids=BAD_FORM.keys())
def test_what_has_not_the_form_costs_no_read_and_counts_against_its_address(database, suspicion, text):
    assert reason_of(text) == "invalid_key"
    assert database.read == []
    assert len(suspicion.failed) == 1


def test_a_key_is_read_once_in_thirty_seconds(database, suspicion):
    database.stored[path_of(KEY)] = stored(allowed_models=["a/b"], monthly_limit_micro=5)
    for second in range(30):
        found = look_up(now=NOW + second * SECOND)
    assert (found.uid, found.grant.id, found.grant.budget_id) == ("user-1", "key_1", "key_1")
    assert found.grant.scopes == {Permission.CHAT_READ, Permission.CHAT_WRITE}
    assert (found.grant.allowed_models, found.grant.monthly_limit_micro) == ({"a/b"}, 5)
    assert database.read == [path_of(KEY)]
    assert suspicion.failed == []


def test_a_revoked_key_is_dead_within_thirty_seconds(database):
    database.stored[path_of(KEY)] = stored()
    look_up()
    database.stored[path_of(KEY)]["revoked_at"] = NOW
    look_up(now=NOW + 29 * SECOND)
    assert reason_of(now=NOW + 30 * SECOND) == "revoked_key"


def test_a_key_that_this_process_forgets_is_dead_at_once(database):
    database.stored[path_of(KEY)] = stored()
    look_up()
    database.stored[path_of(KEY)]["revoked_at"] = NOW
    keys.forget(secret_text.digest(KEY))
    assert reason_of() == "revoked_key"


def test_a_fresh_look_believes_nothing(database):
    database.stored[path_of(KEY)] = stored()
    look_up()
    database.stored[path_of(KEY)]["revoked_at"] = NOW
    with pytest.raises(Unauthenticated):
        look_up(fresh=True)


def test_a_key_ends_at_its_very_moment_also_when_it_is_remembered(database):
    database.stored[path_of(KEY)] = stored(expires_at=NOW + 10 * SECOND)
    look_up(now=NOW + timedelta(seconds=9, microseconds=999_999))
    assert reason_of(now=NOW + 10 * SECOND) == "expired_key"


def test_a_dead_key_is_nobodys_failed_sign_in(database, suspicion):
    """A program that was forgotten keeps sending it; that must not shut out everybody behind its address."""
    database.stored[path_of(KEY)] = stored(revoked_at=NOW)
    reason_of()
    assert suspicion.failed == []


def test_scopes_that_no_key_can_have_are_worth_nothing(database):
    database.stored[path_of(KEY)] = stored(scopes=["users:manage", "keys:manage", "chat:read", "made:up"])
    assert look_up().grant.scopes == {Permission.CHAT_READ}


def test_a_scan_leaves_nothing_behind_but_its_count(database, suspicion, uses, monkeypatch):
    known = Recent[keys.ApiKey](size=10, keep=keys.KEY_KEPT)
    monkeypatch.setattr(keys, "_recent", known)
    for number in range(100):
        assert reason_of(keys.new_key(f"scan {number}")) == "invalid_key"
    assert len(database.read) == 100
    assert suspicion.failed == [ADDRESS] * 100
    assert len(known) == 0
    assert uses.written == []


def test_an_address_that_guesses_is_refused_before_anything_is_read(database, suspicion):
    database.stored[path_of(KEY)] = stored()
    suspicion.suspicious.add(ADDRESS)
    with pytest.raises(RateLimited):
        look_up()
    assert database.read == []


def test_who_is_known_does_not_suffer_from_a_neighbour_who_guesses(database, suspicion):
    database.stored[path_of(KEY)] = stored()
    look_up()
    suspicion.suspicious.add(ADDRESS)
    look_up()


def test_without_the_database_an_unknown_key_gets_nobody_in(database):
    database.down = True
    with pytest.raises(Unavailable):
        look_up()


def test_a_use_is_written_once_an_hour(database, uses):
    database.stored[path_of(KEY)] = stored()
    found = look_up()
    for minutes in (0, 1, 59, 60, 61):
        keys.note_use(KEY, found, now=NOW + timedelta(minutes=minutes))
    assert uses.written == [(path_of(KEY), "last_used_at")] * 2


def test_a_use_that_another_process_wrote_is_not_written_again(database, uses):
    database.stored[path_of(KEY)] = stored(last_used_at=NOW - timedelta(minutes=30))
    keys.note_use(KEY, look_up(), now=NOW)
    assert uses.written == []
