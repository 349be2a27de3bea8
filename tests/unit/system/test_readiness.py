"""Readiness: every dependency is asked at once, none for long, and only a required one makes the service unready."""

import threading
from datetime import UTC, datetime

import pytest

from functions.system import readiness
from functions.system.readiness import _Check, check
from functions.system.schemas import DependencyState, Readiness
from shared.errors import Unavailable

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def _forget() -> None:
    readiness._remembered.clear()
    readiness._under_way.clear()
    readiness._pool().shutdown(wait=False)
    readiness._pool.cache_clear()


@pytest.fixture(autouse=True)
def _nothing_remembered():
    _forget()
    yield
    _forget()


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


def test_what_hangs_is_asked_once_and_takes_no_thread_from_what_answers(ask, monkeypatch):
    monkeypatch.setattr(readiness, "REMEMBERED_S", -1.0)
    released, asked = threading.Event(), []

    def hang() -> None:
        asked.append(1)
        released.wait()

    try:
        for patience_s in (*[0.005] * 11, 0.5):  # what answers has time to do so at the end, on a busy machine too
            monkeypatch.setattr(readiness, "PATIENCE_S", patience_s)
            found = ask(cache=(False, hang), database=(False, fine))
    finally:
        released.set()
    assert [one.state for one in found.dependencies] == [DependencyState.DOWN, DependencyState.UP]
    assert len(asked) == 1


def test_what_hung_is_asked_again_once_it_has_answered(ask, monkeypatch):
    monkeypatch.setattr(readiness, "PATIENCE_S", 0.05)
    monkeypatch.setattr(readiness, "REMEMBERED_S", -1.0)
    released = threading.Event()
    assert ask(cache=(False, released.wait)).dependencies[0].state is DependencyState.DOWN
    released.set()
    readiness._under_way["cache"].result(timeout=5)
    assert ask(cache=(False, fine)).dependencies[0].state is DependencyState.UP


def test_while_one_waits_for_what_hangs_the_others_get_what_was_found_before(ask, monkeypatch):
    ask(cache=(False, fine))
    monkeypatch.setattr(readiness, "REMEMBERED_S", -1.0)
    released, begun = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        released.wait()

    waiting = threading.Thread(target=lambda: ask(cache=(False, hang)))
    waiting.start()
    try:
        assert begun.wait(5)
        assert check(now=NOW).status == "ready", "and at once: the other thread still asks"
        assert waiting.is_alive()
    finally:
        released.set()
        waiting.join()
