"""Accounts with the Firestore emulator, Redis and the storage emulator; Firebase Auth is in memory."""

import pytest
from google.cloud.firestore_v1.base_query import FieldFilter

from functions.users import preferences_cache
from shared.clients import firestore_client
from shared.identity.permissions import Role
from shared.settings import settings
from tests.store.users.support import Somebody, open_account
from tests.unit.users.fake_auth import FakeAuth


@pytest.fixture(autouse=True)
def auth(monkeypatch):
    monkeypatch.setenv("FIREBASE_AUTH_EMULATOR_HOST", "127.0.0.1:9")
    fake = FakeAuth()
    fake.install(monkeypatch)
    return fake


@pytest.fixture(scope="session", autouse=True)
def _closed_connections():
    yield
    preferences_cache._link(settings().redis_url).close()


@pytest.fixture
def someone(auth) -> Somebody:
    somebody = open_account(email="ada@example.com", display_name="Ada")
    auth.add(somebody.uid, "ada@example.com")
    return somebody


@pytest.fixture
def operator(auth):
    """Makes operators: a role gives one."""

    def make(role: Role) -> Somebody:
        somebody = open_account(role)
        auth.add(somebody.uid)
        return somebody

    return make


@pytest.fixture
def only_admins():
    """Makes these the only admins there are. Afterwards nobody is one."""
    yield _appoint
    _appoint()


def _appoint(*people: Somebody) -> None:
    users = firestore_client().collection("users")
    for found in users.where(filter=FieldFilter("role", "==", Role.ADMIN.value)).get():
        users.document(found.id).update({"role": Role.USER.value})
    for somebody in people:
        somebody.set(role=Role.ADMIN.value)
