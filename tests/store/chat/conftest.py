"""The chat function in this process: Firestore and Redis emulated, the model provider its stand-in on a real socket."""

from datetime import timedelta

import pytest

from tests.store.chat.support import User, give, wsgi_client


@pytest.fixture(scope="session")
def chat_client(catalogue):
    from functions.chat.http import routes

    return wsgi_client(routes)


@pytest.fixture
def poor_user(standin, chat_client, uid, no_limits):
    """A user without any credits."""
    return User(uid, chat_client)


@pytest.fixture
def user(poor_user):
    give(poor_user.uid, 1000)
    return poor_user


@pytest.fixture
def past_lease(monkeypatch):
    """Let a sweep take every running generation whose producer is silent for dead at once."""
    from functions.chat import service

    monkeypatch.setattr(service, "SILENT_FOR", timedelta(0))
