"""Readiness: every dependency is asked at once, none for long, and only a required one makes the service unready."""

import threading
from datetime import UTC, datetime

import pytest

from functions.system import readiness
from functions.system.readiness import _Check, check
from functions.system.schemas import DependencyState, Readiness
from shared.errors import Unavailable

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _nothing_remembered():
    readiness._remembered.clear()
    yield
    readiness._remembered.clear()


@pytest.fixture
def ask(monkeypatch):
    """Check these dependencies: name → whether it is required, and what asking it does."""

    def checked(**dependencies) -> Readiness:
        checks = [
            _Check(name, required=required, without_it="Less works.", ask=asking)
            for name, (required, asking) in dependencies.items()
        ]
        monkeypatch.setattr(readiness, "_CHECKS", tuple(checks))
        return check(now=NOW)

    return checked


def fine() -> None:
    """Answer at once."""


def broken() -> None:
    raise OSError("refused")


def test_all_up_is_ready(ask):
    found = ask(database=(True, fine), cache=(False, fine))
    assert found.status == "ready"
    assert [one.state for one in found.dependencies] == [DependencyState.UP, DependencyState.UP]
    assert all(one.latency_ms >= 0 for one in found.dependencies)


def test_without_something_optional_it_is_degraded_and_says_what_is_missed(ask):
    found = ask(database=(True, fine), cache=(False, broken))
    assert found.status == "degraded"
    assert {one.name: one.state for one in found.dependencies}["cache"] is DependencyState.DOWN
    assert found.dependencies[1].without_it == "Less works."


def test_without_something_required_it_is_not_ready_and_names_it(ask):
    with pytest.raises(Unavailable, match="database did not answer"):
        ask(database=(True, broken), cache=(False, fine))


def test_a_dependency_that_hangs_is_down_and_holds_nobody_up(ask, monkeypatch):
    monkeypatch.setattr(readiness, "PATIENCE_S", 0.05)
    released = threading.Event()
    try:
        found = ask(database=(True, fine), cache=(False, released.wait))
    finally:
        released.set()
    assert {one.name: one.state for one in found.dependencies} == {
        "database": DependencyState.UP,
        "cache": DependencyState.DOWN,
    }


def test_whoever_asks_often_gets_the_same_answer(ask):
    asked = []
    ask(database=(True, lambda: asked.append(1)))
    for _ in range(5):
        check(now=NOW)
    assert len(asked) == 1
