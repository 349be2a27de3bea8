"""The chat function in this process: Firestore and Redis emulated, the model provider its stand-in on a real socket."""

import os
import socket
import subprocess
import sys
import time
import uuid
from datetime import timedelta

import pytest

from shared.clients import openrouter
from shared.settings import settings
from tests.store.chat.support import Standin, User, give, wsgi_client


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def standin_process():
    port = free_port()
    command = [sys.executable, "-m", "emulator.openrouter", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    standin = Standin(f"http://127.0.0.1:{port}")
    os.environ["OPENROUTER_BASE_URL"] = f"{standin.url}/api/v1"
    os.environ["OPENROUTER_API_KEY"] = f"sk-or-v1-{uuid.uuid4().hex}"
    os.environ.setdefault("FIREBASE_AUTH_EMULATOR_HOST", "127.0.0.1:9")
    settings.cache_clear()
    for _ in range(100):
        try:
            standin.requests()
            break
        except OSError:
            time.sleep(0.1)
    yield standin
    openrouter().close()
    process.terminate()
    process.wait(timeout=10)


@pytest.fixture(scope="session")
def catalogue(standin_process, firestore_emulator):
    from functions.chat import models

    assert models.sync() > 10
    return standin_process


@pytest.fixture
def standin(catalogue):
    catalogue.reset()
    return catalogue


@pytest.fixture(scope="session")
def chat_client(catalogue):
    from functions.chat.http import routes

    return wsgi_client(routes)


@pytest.fixture
def poor_user(standin, chat_client, uid):
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
