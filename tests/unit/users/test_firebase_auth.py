"""Firebase Auth is made to agree with the account: role claim, disabled, revoked; nothing else is touched."""

from datetime import UTC, datetime, timedelta

import pytest

from functions.users import firebase_auth
from shared.errors import Unavailable
from shared.identity.permissions import Role
from tests.unit.users.fake_auth import FakeAuth
from tests.unit.users.people import person


@pytest.fixture
def auth(monkeypatch):
    fake = FakeAuth()
    fake.install(monkeypatch)
    return fake


def test_the_role_becomes_a_claim_and_other_claims_stay(auth):
    auth.add("user-1").custom_claims = {"beta": True}

    firebase_auth.align(person(role=Role.SUPPORT))

    assert auth.records["user-1"].custom_claims == {"beta": True, "role": "support"}


def test_a_user_has_no_role_claim(auth):
    auth.add("user-1").custom_claims = {"role": "admin", "beta": True}

    firebase_auth.align(person(role=Role.USER))

    assert auth.records["user-1"].custom_claims == {"beta": True}


@pytest.mark.parametrize(("status", "disabled"), [("suspended", True), ("active", False)])
def test_who_is_suspended_gets_no_new_tokens(auth, status, disabled):
    auth.add("user-1").disabled = not disabled

    firebase_auth.align(person(status=status))

    assert auth.records["user-1"].disabled is disabled


def test_an_ended_sign_in_revokes_refresh_tokens_once(auth):
    auth.add("user-1")
    user = person(valid_since=datetime.now(UTC) - timedelta(seconds=1))

    firebase_auth.align(user)
    firebase_auth.align(user)

    assert auth.changes == ["revoked"]


def test_what_agrees_already_is_left_alone(auth):
    auth.add("user-1").custom_claims = {"role": "admin"}

    firebase_auth.align(person(role=Role.ADMIN))

    assert auth.changes == []


def test_an_account_without_a_sign_in_is_no_error(auth):
    firebase_auth.align(person(role=Role.ADMIN))

    assert auth.changes == []


def test_a_silent_firebase_auth_is_said_by_name(auth):
    auth.down = True

    with pytest.raises(Unavailable, match="send it again"):
        firebase_auth.align(person())
    with pytest.raises(Unavailable, match="Firebase Auth"):
        firebase_auth.find_uid("ada@example.com")


def test_an_address_finds_its_user_or_nobody(auth):
    auth.add("user-1", "ada@example.com")

    assert firebase_auth.find_uid("Ada@example.com") == "user-1"
    assert firebase_auth.find_uid("bob@example.com") is None
