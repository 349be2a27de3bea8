"""The catalogue of the stand-in in a Firestore emulator; people and operators as in the tests of accounts."""

import pytest

from functions.models import service
from shared import breaker
from shared.breaker import breakers
from shared.clients import firestore_client, redis_client
from tests.store.models.support import headers_of, models_client
from tests.store.users.conftest import _closed_connections, auth, only_admins, operator, someone

__all__ = ["_closed_connections", "auth", "only_admins", "operator", "someone"]


@pytest.fixture(scope="session", autouse=True)
def _closed_breaker_link():
    yield
    breaker._redis().close()


@pytest.fixture(autouse=True)
def _catalogue(standin_process, firestore_emulator, no_limits):
    """Synchronised, with nothing decided about it by anybody, and with no circuit open."""
    _forget_decisions()
    service.sync()
    for key in redis_client().scan_iter("breaker:*"):
        redis_client().delete(key)
    breakers.cache_clear()
    yield
    _forget_decisions()
    service.sync()


def _forget_decisions():
    for reference in firestore_client().collection("model_policies").list_documents():
        reference.delete()
    service._catalogue.forget()


@pytest.fixture
def ask(someone):
    """Asks for the models as somebody, or as nobody for None; gives the answer."""

    def request(query="", *, as_=someone, **headers):
        return models_client().get(f"/api/v1/models{query}", headers={**(headers_of(as_) if as_ else {}), **headers})

    return request
