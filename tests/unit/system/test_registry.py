"""The service registry: every deployed function, from the table that deploys it, with what was heard of it."""

import time
from typing import Any

import pytest

from functions.system import registry
from functions.system.schemas import Kind, Service, State
from shared import presence
from shared.deployment import FUNCTIONS
from shared.presence import GONE_AFTER_S, Instance
from shared.redis_link import LinkFailed


@pytest.fixture
def heard(monkeypatch) -> dict[str, list[Instance]]:
    """What was heard of functions; nothing until a test says so."""
    said: dict[str, list[Instance]] = {}
    monkeypatch.setattr(presence, "instances", lambda names: {name: said.get(name, []) for name in names})
    return said


def instance(**changes: Any) -> Instance:
    whole = {"revision": "chat-00007", "heard_at": time.time(), "requests": 5, "failures": 0, **changes}
    return Instance(**{"last_request_failed": False, **whole})


def service(name: str) -> Service:
    return {one.name: one for one in registry.services().items}[name]


@pytest.mark.usefixtures("heard")
def test_every_function_of_the_deployment_is_listed_once_in_its_order():
    everywhere = [name for name, function in FUNCTIONS.items() if not function.only_with]
    assert [one.name for one in registry.services().items] == everywhere


@pytest.mark.parametrize(
    ("name", "kind", "trigger"),
    [
        ("chat", Kind.HTTP, None),
        ("chat_send", Kind.CALLABLE, None),
        ("sweep", Kind.SCHEDULE, "every 1 minutes"),
        ("on_event_created", Kind.EVENT, "google.cloud.firestore.document.v1.created events/{event_id}"),
        ("on_chat_event", Kind.EVENT, "google.cloud.pubsub.topic.v1.messagePublished chat-events"),
        ("on_user_creating", Kind.EVENT, "providers/cloud.auth/eventTypes/user.beforeCreate"),
    ],
)
def test_a_function_says_what_starts_it(heard, name, kind, trigger):
    heard[name] = [instance()]
    found = service(name)
    assert (found.kind, found.trigger) == (kind, trigger)
    assert (found.memory_mb, found.concurrency) == (
        FUNCTIONS[name].options.memory_mb,
        FUNCTIONS[name].options.concurrency,
    )


@pytest.mark.usefixtures("heard")
def test_a_capability_lists_its_routes():
    routes = {(route.method, route.path) for route in service("credits").routes}
    assert routes == {("GET", "/api/v1/credits"), ("GET", "/api/v1/credits/entries")}


def test_a_function_that_reports_is_serving(heard):
    heard["chat"] = [instance(), instance(requests=7)]
    found = service("chat")
    assert (found.state, found.instances, found.requests, found.version) == (State.SERVING, 2, 12, "chat-00007")


def test_a_function_whose_newest_work_went_wrong_is_failing(heard):
    heard["chat"] = [instance(), instance(failures=1, last_request_failed=True)]
    assert service("chat").state is State.FAILING


def test_a_function_that_was_not_heard_of_for_a_minute_is_idle(heard):
    heard["chat"] = [instance(heard_at=time.time() - GONE_AFTER_S - 1, last_request_failed=True)]
    found = service("chat")
    assert (found.state, found.instances) == (State.IDLE, 0)
    assert found.last_heard_at is not None
    assert service("credits").last_heard_at is None


def test_without_redis_the_state_is_unknown_and_the_rest_is_told(monkeypatch):
    def refuse(_: list[str]) -> None:
        raise LinkFailed("away")

    monkeypatch.setattr(presence, "instances", refuse)
    found = service("chat")
    assert found.state is State.UNKNOWN
    assert found.routes
