"""Counters of several processes are one number."""

import pytest

from shared import metrics
from tests.store.limits.support import python_process, wait_until

COUNT = """
import sys
from shared import metrics
metrics.count("tests_total", 2, process="any")
print("counted", flush=True)
"""


@pytest.fixture(autouse=True)
def _own_counters(monkeypatch, key):
    monkeypatch.setattr(metrics, "_by_pid", {})
    monkeypatch.setattr(metrics, "KEY", key)
    yield
    metrics._counters().close()


def count_elsewhere(key):
    code = COUNT.replace("from shared import metrics\n", f"from shared import metrics\nmetrics.KEY = {key!r}\n")
    with python_process(code) as process:
        assert process.stdout.readline().strip() == "counted"
        assert process.wait(timeout=30) == 0


def test_all_processes_are_summed_also_those_that_have_ended(key):
    count_elsewhere(key)
    count_elsewhere(key)
    metrics.count("tests_total", 3, process="any")
    assert metrics.render() == '# TYPE tests_total counter\ntests_total{process="any"} 7\n'


def test_showing_the_numbers_again_does_not_change_them():
    metrics.count("tests_total")
    assert metrics.render() == metrics.render() == "# TYPE tests_total counter\ntests_total 1\n"


def test_the_thread_saves_and_ends(monkeypatch, key, store):
    monkeypatch.setattr(metrics, "SAVE_EVERY_S", 0.01)
    metrics.count("tests_total", 5)
    counters = metrics._counters()
    wait_until(lambda: counters._thread is None)
    assert store.hgetall(key) == {"tests_total": "5"}


def test_what_could_not_be_saved_is_saved_later(store, key):
    metrics.count("tests_total", 2)
    store.set(key, "not a hash")
    counters = metrics._counters()
    with pytest.raises(Exception, match="WRONGTYPE"):
        counters.save()
    store.delete(key)
    metrics.count("tests_total", 2)
    counters.save()
    assert store.hgetall(key) == {"tests_total": "4"}
    store.delete(key)
