"""The rules of API keys and sessions."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.access.domain import (
    KEY_REMEMBERED,
    MAX_LIVE_SESSIONS,
    Key,
    KeyState,
    Session,
    credits_text,
    displaced,
    expiry_after_grace,
    month_of,
    successor_expiry,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)

KEY = Key(
    digest="d",
    id="key_1",
    uid="u",
    name="CI",
    hint="abcd",
    scopes=("chat:read",),
    allowed_models=None,
    monthly_limit_micro=None,
    budget_id="key_1",
    created_at=NOW,
    expires_at=NOW + 30 * DAY,
)


def session(number, last_seen_at=NOW):
    return Session(
        digest=f"d{number}",
        id=f"sess_{number:03}",
        uid="u",
        created_at=NOW,
        proved_at=NOW,
        expires_at=NOW + 14 * DAY,
        user_agent="Tests/1.0",
        address="198.51.100.7",
        last_seen_at=last_seen_at,
    )


def test_a_key_lives_until_the_moment_it_expires():
    assert KEY.state(NOW + 30 * DAY - timedelta(microseconds=1)) is KeyState.LIVE
    assert KEY.state(NOW + 30 * DAY) is KeyState.EXPIRED
    assert replace(KEY, expires_at=None).state(NOW + 10_000 * DAY) is KeyState.LIVE


def test_a_revoked_key_is_revoked_whatever_else_it_is():
    assert replace(KEY, revoked_at=NOW).state(NOW + 60 * DAY) is KeyState.REVOKED


def test_a_key_is_remembered_for_a_while_after_it_died():
    assert replace(KEY, expires_at=None).forgotten_at is None
    assert KEY.forgotten_at == NOW + 30 * DAY + KEY_REMEMBERED
    assert replace(KEY, revoked_at=NOW + DAY).forgotten_at == NOW + DAY + KEY_REMEMBERED


def test_a_successor_lives_as_long_as_the_key_it_replaces_was_meant_to():
    assert successor_expiry(KEY, NOW + 10 * DAY) == NOW + 40 * DAY
    assert successor_expiry(replace(KEY, expires_at=None), NOW) is None


@given(
    st.timedeltas(timedelta(0), DAY), st.none() | st.timedeltas(timedelta(0), 400 * DAY).map(lambda life: NOW + life)
)
def test_a_grace_never_prolongs_a_key(grace, expires_at):
    ends_at = expiry_after_grace(replace(KEY, expires_at=expires_at), NOW, grace)
    assert ends_at <= NOW + DAY
    assert expires_at is None or ends_at <= expires_at


def test_a_session_lives_until_it_expires_or_is_ended():
    one = session(1)
    assert one.is_live(NOW + 14 * DAY - HOUR)
    assert not one.is_live(NOW + 14 * DAY)
    assert not replace(one, revoked_at=NOW).is_live(NOW)


@given(st.integers(0, 2 * MAX_LIVE_SESSIONS))
def test_as_many_sessions_end_as_make_room_for_one_more(count):
    live = [session(number, NOW - number * HOUR) for number in range(count)]
    ended = displaced(live)
    assert len(live) - len(ended) + 1 == min(count + 1, MAX_LIVE_SESSIONS)
    kept = [each for each in live if each not in ended]
    assert all(each.last_seen_at < other.last_seen_at for each in ended for other in kept)


def test_months_are_told_apart():
    assert month_of(datetime(2026, 3, 31, 23, 59, 59, tzinfo=UTC)) == "2026-03"
    assert month_of(datetime(2026, 4, 1, tzinfo=UTC)) == "2026-04"


@pytest.mark.parametrize(
    ("micro", "text"), [(0, "0"), (1, "0.000001"), (1_500_000, "1.5"), (12_000_000, "12"), (10_000_000_000, "10000")]
)
def test_credits_are_told_exactly(micro, text):
    assert credits_text(micro) == text


@given(st.integers(0, 10**16))
def test_the_text_of_credits_is_their_exact_value(micro):
    assert Decimal(credits_text(micro)) * 1_000_000 == micro
