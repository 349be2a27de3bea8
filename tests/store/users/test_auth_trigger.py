"""The account of somebody who signs up, when Firebase Auth tells of it before the first request comes."""

from importlib import import_module
from threading import Event
from types import SimpleNamespace

import pytest

from shared import deployment
from shared.deployment import FUNCTIONS, Function
from shared.errors import Unavailable
from shared.identity import accounts
from tests.store.users.support import ME, Somebody

NAME = "on_user_creating"


@pytest.fixture
def trigger(monkeypatch):
    """The module, also where the function is not deployed."""
    monkeypatch.setitem(FUNCTIONS, NAME, Function("triggers.auth", deployment._SHORT))
    return import_module("triggers.auth")


def sign_up(uid, **fields):
    usual = {"email": None, "email_verified": None, "display_name": None, "photo_url": None}
    return SimpleNamespace(data=SimpleNamespace(uid=uid, **(usual | fields)))


def test_a_sign_up_opens_the_account_once_and_the_first_request_finds_it(trigger, auth, uid):
    fired = sign_up(uid, email="ada@example.com", email_verified=True, display_name="Ada")

    trigger._on_user_creating(fired)
    trigger._on_user_creating(fired)
    answer = Somebody(uid).request("GET", ME)

    assert (answer.json["email"], answer.json["email_verified"]) == ("ada@example.com", True)
    assert answer.json["display_name"] == "Ada"
    assert [event["type"] for event in Somebody(uid).events()] == ["user.registered"]


def test_a_database_that_is_away_does_not_refuse_the_sign_up(trigger, auth, uid, monkeypatch):
    def away(*_, **__):
        raise Unavailable

    with monkeypatch.context() as patched:
        patched.setattr(accounts, "get_or_open", away)
        trigger._on_user_creating(sign_up(uid))

    assert Somebody(uid).request("GET", ME).status_code == 200


def test_a_slow_database_does_not_hold_the_sign_up(trigger, auth, uid, monkeypatch, capfd):
    goes_on = Event()
    monkeypatch.setattr(trigger, "PATIENCE_S", 0.05)
    monkeypatch.setattr(accounts, "get_or_open", lambda *_, **__: goes_on.wait(10))

    trigger._on_user_creating(sign_up(uid))

    goes_on.set()
    assert "account is opened later" in capfd.readouterr().out
