"""Redis dead, silent, back again: no request fails or waits for it."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.limits.shared_buckets import SharedBuckets
from shared.redis_link import TIMEOUT_S
from tests.store.limits.support import Mood, hundred, new_key, new_slot, wait_until

ADMISSIONS = 1000


class CountedCalls(SharedBuckets):
    """How often Redis was asked."""

    calls = 0

    def admit(self, buckets, slot):
        self.calls += 1
        return super().admit(buckets, slot)


@pytest.mark.parametrize("mood", [Mood.SILENT, Mood.DEAD])
def test_a_thousand_admissions_without_redis_ask_it_a_few_times_only(new_limiter, wire, mood):
    wire.become(mood)
    limiter = new_limiter(wire.url, timeout_s=TIMEOUT_S)
    limiter._shared = shared = CountedCalls(limiter._shared._link)
    began = time.monotonic()
    verdicts = [limiter.admit([hundred(f"{mood}-{number}")]) for number in range(ADMISSIONS)]
    took_s = time.monotonic() - began
    assert all(verdict.admitted for verdict in verdicts)
    assert took_s < 5
    assert shared.calls <= 1 + took_s / 0.5


def test_the_first_admission_of_a_silent_redis_is_over_within_its_time_out(new_limiter, wire):
    wire.become(Mood.SILENT)
    limiter = new_limiter(wire.url, timeout_s=TIMEOUT_S, pause_s=60)
    began = time.monotonic()
    assert limiter.admit([hundred(new_key())]).admitted
    assert time.monotonic() - began < 2
    assert not limiter._reachability.may_ask()


def test_limits_hold_in_the_process_while_redis_is_silent(new_limiter, wire, key):
    wire.become(Mood.SILENT)
    limiter = new_limiter(wire.url, timeout_s=TIMEOUT_S, pause_s=60)
    with ThreadPoolExecutor(16) as pool:
        verdicts = list(pool.map(lambda _: limiter.admit([hundred(key)]), range(400)))
    assert sum(verdict.admitted for verdict in verdicts) == 100


@pytest.mark.parametrize("mood", [Mood.SILENT, Mood.DEAD])
def test_redis_takes_over_again_with_what_it_had_counted(new_limiter, wire, mood):
    """In the middle of a load: every request gets an answer, before, while and after."""
    before, while_away = new_key(), new_key()
    limiter = new_limiter(wire.url, timeout_s=0.3, pause_s=0.1)
    for _ in range(100):
        assert limiter.admit([hundred(before)]).admitted
    assert not limiter.admit([hundred(before)]).admitted
    wire.become(mood)
    for _ in range(100):
        assert limiter.admit([hundred(while_away)]).admitted
    assert not limiter.admit([hundred(while_away)]).admitted
    wire.become(Mood.FORWARDS)
    wait_until(lambda: limiter.admit([hundred(while_away, 0)]).admitted)
    assert not limiter.admit([hundred(before)]).admitted


def test_a_connection_that_was_closed_while_idle_is_no_outage(new_limiter, wire, key, capfd):
    limiter = new_limiter(wire.url)
    assert limiter.admit([hundred(key)]).admitted
    wire.become(Mood.FORWARDS)  # breaks every connection
    assert limiter.admit([hundred(key)]).used_us[0] > 0
    assert wire.connections == 2
    assert capfd.readouterr().out == ""


def test_a_slot_taken_while_redis_was_away_counts_for_others_once_it_is_back(new_limiter, wire):
    slots = new_key()
    here = new_limiter(wire.url, timeout_s=0.3, renew_every_s=0.1, pause_s=0.05)
    elsewhere = new_limiter()
    wire.become(Mood.DEAD)
    mine = [new_slot(slots), new_slot(slots)]
    for slot in mine:
        assert here.admit([], slot).admitted
    probe = new_slot(slots)
    assert elsewhere.admit([], probe).admitted
    elsewhere.end(None, probe)
    wire.become(Mood.FORWARDS)

    def is_full():
        late = new_slot(slots)
        if elsewhere.admit([], late).admitted:
            elsewhere.end(None, late)
            return False
        return True

    wait_until(is_full)
    for slot in mine:
        here.end(None, slot)
    wait_until(lambda: not is_full())


def test_a_release_without_redis_fails_nobody(new_limiter, wire):
    slots = new_key()
    limiter = new_limiter(wire.url, timeout_s=TIMEOUT_S)
    mine = new_slot(slots)
    assert limiter.admit([], mine).admitted
    wire.become(Mood.DEAD)
    limiter.end(None, mine)
    assert mine not in limiter.held


def test_a_charge_without_redis_fails_nobody_and_counts_here(new_limiter, wire, key):
    limiter = new_limiter(wire.url, timeout_s=TIMEOUT_S, pause_s=60)
    wire.become(Mood.SILENT)
    limiter.charge(hundred(key, 100))
    assert not limiter.admit([hundred(key)]).admitted
