"""The thread that keeps running generations alive: as long as there are any, whatever happened to the one before."""

import threading
from collections.abc import Iterator

import pytest

from functions.chat import generation_log, watch
from shared.redis_link import LinkFailed


@pytest.fixture
def refreshed(monkeypatch) -> Iterator[list[str]]:
    """The generations that were kept alive, in the order of their first time."""
    seen: list[str] = []

    def refresh(generation_ids: list[str]) -> set[str]:
        if not seen:
            seen.append("nobody: Redis was away")
            raise LinkFailed("away")
        seen.extend(each for each in generation_ids if each not in seen)
        return {each for each in generation_ids if each.endswith("stop")}

    monkeypatch.setattr(generation_log, "refresh", refresh)
    monkeypatch.setattr(watch, "INTERVAL_S", 0.01)
    yield seen
    thread = watch._thread
    if thread is not None:
        thread.join(5)


def test_a_generation_is_kept_alive_and_hears_a_stop_also_after_redis_was_away(refreshed):
    stopped = threading.Event()
    watch.watch("gen_stop", stopped.set)
    try:
        assert stopped.wait(5)
    finally:
        watch.unwatch("gen_stop")
    assert refreshed == ["nobody: Redis was away", "gen_stop"]


def test_a_thread_that_could_not_be_started_does_not_leave_the_next_generation_unwatched(refreshed, monkeypatch):
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            watch.watch("gen_first", lambda: None)
    watch.unwatch("gen_first")
    stopped = threading.Event()
    watch.watch("gen_second_stop", stopped.set)
    try:
        assert stopped.wait(5)
    finally:
        watch.unwatch("gen_second_stop")
    assert "gen_second_stop" in refreshed
