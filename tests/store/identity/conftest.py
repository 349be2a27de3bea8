"""The way in, with Firestore and Redis emulated; tokens are unsigned, as in the Auth emulator."""

import pytest

from shared.identity import accounts, keys, last_use, sessions, tokens


@pytest.fixture(autouse=True)
def _nothing_remembered(monkeypatch):
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", "127.0.0.1:9")
    for part in (accounts, keys, sessions, tokens, last_use):
        part.forget_all()
