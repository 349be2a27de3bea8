"""Store tests talk to a Firestore emulator and a Redis that are already running; the stand-in they start themselves."""

import os
import subprocess
import sys
import time
import uuid

import pytest
from google.cloud import firestore

from shared.breaker import breakers
from shared.clients import firestore_client, openrouter, redis_client, redis_link
from shared.settings import settings
from tests.processes import free_port
from tests.store.chat.support import NoLimits, Standin


@pytest.fixture(scope="session", autouse=True)
def firestore_emulator():
    """The emulator's address. A test run without one fails at once instead of waiting for a database."""
    host = os.environ.get("FIRESTORE_EMULATOR_HOST")
    if not host:
        pytest.exit("The store tests need a Firestore emulator: set FIRESTORE_EMULATOR_HOST=host:port.", returncode=2)
    os.environ.setdefault("GCLOUD_PROJECT", "demo-craftpilot")
    os.environ.setdefault("FUNCTIONS_EMULATOR", "true")
    _wake_up()
    yield host
    redis_link().close()


def _wake_up():
    """The first write of a cold emulator takes seconds; no test's deadline should pay for that."""
    batch = firestore_client().batch()
    batch.set(firestore_client().document("test_notes/awake"), {"at": firestore.SERVER_TIMESTAMP})
    batch.commit(timeout=60)


@pytest.fixture
def uid():
    """A user of this test alone, so that tests need not clean up after each other."""
    return f"user-{uuid.uuid4().hex}"


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
    from functions.models import service as models
    from functions.openai_api import service as openai_api

    assert models.sync() > 10
    assert openai_api.sync_embedding_models() > 1
    return standin_process


@pytest.fixture
def standin(catalogue, monkeypatch):
    """The model provider as it was at first, and no memory of what failed in another test."""
    from functions.chat import generation_log

    for key in redis_client().scan_iter("breaker:*"):
        redis_client().delete(key)
    breakers.cache_clear()
    monkeypatch.setitem(generation_log._away, "until", 0.0)
    catalogue.reset()
    return catalogue


@pytest.fixture
def no_limits(monkeypatch):
    """Everybody is below every limit in this process: limits have tests of their own."""
    from shared.http import pipeline

    monkeypatch.setattr(pipeline, "admit", lambda **_: NoLimits())
