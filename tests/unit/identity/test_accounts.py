"""Whom an account lets in, and how long a process may believe what it read of one."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import AccountSuspended, Unauthenticated, Unavailable
from shared.identity import accounts
from shared.identity.accounts import Standing, Status, default_username
from shared.identity.permissions import Role

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
ACTIVE = {"role": "user", "status": "active", "plan": "free"}


def test_standing_is_read_once_in_thirty_seconds(database):
    database.stored["users/u"] = {**ACTIVE, "role": "support", "plan": "pro"}
    for second in range(30):
        standing = accounts.get_standing("u", now=NOW + second * SECOND)
        assert (standing.role, standing.plan) == (Role.SUPPORT, "pro")
    assert database.read == ["users/u"]


def test_a_suspension_is_felt_within_thirty_seconds(database):
    database.stored["users/u"] = dict(ACTIVE)
    accounts.get_standing("u", now=NOW).admit(proved_at=NOW)
    database.stored["users/u"]["status"] = "suspended"
    accounts.get_standing("u", now=NOW + 29 * SECOND).admit(proved_at=NOW)
    with pytest.raises(AccountSuspended):
        accounts.get_standing("u", now=NOW + 30 * SECOND).admit(proved_at=NOW)


@pytest.mark.parametrize("look_again", [lambda: accounts.forget("u"), accounts.forget_all])
def test_what_was_forgotten_is_read_again(database, look_again):
    database.stored["users/u"] = dict(ACTIVE)
    accounts.get_standing("u", now=NOW)
    database.stored["users/u"]["role"] = "admin"
    look_again()
    assert accounts.get_standing("u", now=NOW).role is Role.ADMIN


def test_a_fresh_look_believes_nothing_and_is_remembered(database):
    database.stored["users/u"] = dict(ACTIVE)
    accounts.get_standing("u", now=NOW)
    database.stored["users/u"]["role"] = "admin"
    assert accounts.get_standing("u", now=NOW).role is Role.USER
    assert accounts.get_standing("u", now=NOW, fresh=True).role is Role.ADMIN
    assert accounts.get_standing("u", now=NOW).role is Role.ADMIN


def test_without_the_database_only_what_is_known_gets_in(database):
    database.stored["users/known"] = dict(ACTIVE)
    accounts.get_standing("known", now=NOW)
    database.down = True
    accounts.get_standing("known", now=NOW + 29 * SECOND)
    for uid, later in (("known", 30 * SECOND), ("unknown", 0 * SECOND)):
        with pytest.raises(Unavailable):
            accounts.get_standing(uid, now=NOW + later)


def test_an_account_that_is_not_there_was_deleted(database):
    with pytest.raises(Unauthenticated) as refusal:
        accounts.get_standing("u", now=NOW)
    assert refusal.value.details["reason"] == "account_deleted"


@pytest.mark.parametrize(
    "document",
    [{**ACTIVE, "status": "frozen"}, {**ACTIVE, "role": "root"}, {"role": "user"}, {}],
    ids=["a status nobody knows", "a role nobody knows", "no status", "nothing"],
)
def test_a_document_that_cannot_be_understood_opens_no_door(database, document):
    database.stored["users/u"] = document
    with pytest.raises(Unavailable):
        accounts.get_standing("u", now=NOW)


@pytest.mark.parametrize("status", [Status.SUSPENDED, Status.ERASING])
@given(role=st.sampled_from(Role))
def test_only_an_active_account_lets_anybody_in(status, role):
    with pytest.raises((AccountSuspended, Unauthenticated)):
        Standing(role=role, status=status).admit(proved_at=NOW)


def test_what_was_proved_before_a_sign_out_everywhere_does_not_hold():
    standing = Standing(valid_since=NOW)
    standing.admit(proved_at=NOW)
    standing.admit(proved_at=None)
    with pytest.raises(Unauthenticated) as refusal:
        standing.admit(proved_at=NOW - timedelta(microseconds=1))
    assert refusal.value.details["reason"] == "revoked_token"


@given(st.text(min_size=1, max_size=128).filter(lambda text: text.isprintable()))
def test_a_default_user_name_is_reserved_and_always_the_same(uid):
    name = default_username(uid)
    assert name.startswith(accounts.RESERVED_USERNAME_PREFIX)
    assert name.isascii()
    assert name == name.lower()
    assert len(name) == len("user_") + 12
    assert name == default_username(uid)


def test_default_user_names_differ():
    assert len({default_username(f"user-{number}") for number in range(10_000)}) == 10_000


def test_a_tombstone_does_not_name_its_user():
    assert "user-1" not in accounts.tombstone_id("user-1")
    assert accounts.tombstone_id("user-1") != accounts.tombstone_id("user-2")
