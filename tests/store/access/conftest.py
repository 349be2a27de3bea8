"""The access function in this process, with Firestore and Redis emulated; Firebase Auth is in memory."""

from types import SimpleNamespace

import pytest
from firebase_admin import auth

from shared.clock import utc_now
from shared.http import pipeline
from shared.identity import accounts, keys, last_use, sessions, tokens
from tests.store.access.support import Person, StandingClock


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch):
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", "127.0.0.1:9")
    for part in (accounts, keys, sessions, tokens, last_use):
        part.forget_all()


@pytest.fixture(autouse=True)
def _no_limits(monkeypatch):
    """How often one may ask is another test's matter."""
    endless = SimpleNamespace(headers={}, release=lambda: None, charge_tokens=lambda _: None)
    monkeypatch.setattr(pipeline, "admit", lambda **_: endless)


class FakeAuth:
    """Whom Firebase Auth has signed out since when, in seconds."""

    def __init__(self):
        self.valid_after_s = {}

    def get_user(self, uid, **_):
        return SimpleNamespace(disabled=False, tokens_valid_after_timestamp=self.valid_after_s.get(uid, 0) * 1000)

    def revoke_refresh_tokens(self, uid, **_):
        self.valid_after_s[uid] = int(utc_now().timestamp())


@pytest.fixture(autouse=True)
def firebase_auth(monkeypatch):
    found = FakeAuth()
    for name in ("get_user", "revoke_refresh_tokens"):
        monkeypatch.setattr(auth, name, getattr(found, name))
    return found


@pytest.fixture
def clock():
    return StandingClock()


@pytest.fixture
def ada(uid, clock):
    return Person(uid, clock)


@pytest.fixture
def mallory(uid, clock):
    """Somebody else with an account of their own."""
    return Person(f"{uid}-mallory", clock)
