"""Privacy jobs against the Firestore emulator, Redis and the storage emulator; Firebase Auth is in memory."""

import os
import uuid
from collections.abc import Iterator

import pytest
from google.cloud import firestore

from shared import clients
from tests.store.privacy.support import Clock, FakeAuth, World


@pytest.fixture(autouse=True, scope="session")
def _storage_emulator(firestore_emulator):
    if not os.environ.get("STORAGE_EMULATOR_HOST"):
        pytest.exit("The privacy tests need a storage emulator: set STORAGE_EMULATOR_HOST.", returncode=2)


@pytest.fixture
def world(monkeypatch) -> Iterator[World]:
    """A database of the test's own: a look at everything takes no time, and a sweep finds the test's jobs only."""
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", "127.0.0.1:9")
    auth = FakeAuth()
    auth.install(monkeypatch)
    project = f"demo-privacy-{uuid.uuid4().hex[:12]}"
    client = firestore.Client(project=project)
    monkeypatch.setitem(clients._made, "firestore", client)
    monkeypatch.setitem(clients._made, "firestore_database", f"projects/{project}/databases/(default)")
    yield World(Clock(), auth)
    client.close()
