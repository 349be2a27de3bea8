"""What Firebase Auth says about a user, and what it says when it has nothing to say."""

from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from firebase_admin import auth, exceptions

from functions.privacy import sign_in
from shared.errors import Unavailable

CALLS = {
    "get_user": sign_in.find,
    "delete_user": sign_in.delete,
    "revoke_refresh_tokens": sign_in.revoke,
}


@pytest.mark.parametrize("name", CALLS)
def test_a_user_who_is_gone_already_is_no_failure(monkeypatch, name):
    def gone(*_, **__):
        raise auth.UserNotFoundError("no such user")

    monkeypatch.setattr(auth, name, gone)
    assert CALLS[name]("ada") is None


@pytest.mark.parametrize("name", CALLS)
def test_what_firebase_auth_refuses_can_be_tried_again(monkeypatch, name):
    def refuse(*_, **__):
        raise exceptions.ResourceExhaustedError("too many requests")

    monkeypatch.setattr(auth, name, refuse)
    with pytest.raises(Unavailable):
        CALLS[name]("ada")


def test_a_user_is_described_without_the_password(monkeypatch):
    user = SimpleNamespace(
        uid="ada",
        email="ada@example.com",
        email_verified=True,
        phone_number=None,
        display_name="Ada",
        photo_url=None,
        disabled=False,
        user_metadata=SimpleNamespace(creation_timestamp=1_772_000_000_500, last_sign_in_timestamp=None),
        custom_claims={"role": "admin"},
        provider_data=[],
        password_hash="secret",
        password_salt="salt",
    )
    monkeypatch.setattr(auth, "get_user", lambda *_, **__: user)
    found = sign_in.find("ada")
    assert found is not None
    assert found["created_at"] == datetime(2026, 2, 25, 6, 13, 20, 500_000, tzinfo=UTC)
    assert found["last_sign_in_at"] is None
    assert found["claims"] == {"role": "admin"}
    assert "secret" not in repr(found)
    assert "salt" not in repr(found)
