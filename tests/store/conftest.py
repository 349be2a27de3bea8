"""Store tests talk to a Firestore emulator that is already running; nothing else is needed."""

import os
import uuid

import pytest
from google.cloud import firestore

from shared.clients import firestore_client


@pytest.fixture(scope="session", autouse=True)
def firestore_emulator():
    """The emulator's address. A test run without one fails at once instead of waiting for a database."""
    host = os.environ.get("FIRESTORE_EMULATOR_HOST")
    if not host:
        pytest.exit("The store tests need a Firestore emulator: set FIRESTORE_EMULATOR_HOST=host:port.", returncode=2)
    os.environ.setdefault("GCLOUD_PROJECT", "demo-craftpilot")
    os.environ.setdefault("FUNCTIONS_EMULATOR", "true")
    _wake_up()
    return host


def _wake_up():
    """The first write of a cold emulator takes seconds; no test's deadline should pay for that."""
    batch = firestore_client().batch()
    batch.set(firestore_client().document("test_notes/awake"), {"at": firestore.SERVER_TIMESTAMP})
    batch.commit(timeout=60)


@pytest.fixture
def uid():
    """A user of this test alone, so that tests need not clean up after each other."""
    return f"user-{uuid.uuid4().hex}"
