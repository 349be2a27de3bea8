"""The limits of one process: like the reference model, in bounded memory, exact among threads."""

import time
from concurrent.futures import ThreadPoolExecutor

from hypothesis import settings

from shared.limits.gcra import Bucket, Slot
from shared.limits.held_slots import HeldSlots
from shared.limits.local_buckets import LocalBuckets
from shared.limits.policies import Concurrency, Policy
from tests.unit.limits.limits_machine import LimitsMachine

HUNDRED = Policy("hundred", 100, window_s=86_400)
NOW_US = 1_800_000_000_000_000


def no_renewal(slots):
    """Leases mean nothing here."""


def new_local(**options):
    held = HeldSlots(no_renewal, every_s=0.01)
    return LocalBuckets(held, **options), held


class LocalLimits:
    lease_us = None

    def __init__(self):
        self.local, self.held = new_local()
        self.now_us = NOW_US

    def admit(self, buckets, slot):
        return self.local.admit(buckets, slot, now_us=self.now_us)

    def charge(self, bucket):
        self.local.charge(bucket, now_us=self.now_us)

    def release(self, slot):
        self.held.drop(slot)

    def advance(self, us):
        self.now_us += us

    def close(self):
        """There is nothing to close."""


class LocalMachine(LimitsMachine):
    def make(self):
        return LocalLimits()


TestLocalLimitsAgainstTheModel = LocalMachine.TestCase
TestLocalLimitsAgainstTheModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_eight_hundred_hits_of_many_threads_on_a_limit_of_hundred_pass_hundred():
    local, _ = new_local()
    with ThreadPoolExecutor(16) as pool:
        verdicts = list(pool.map(lambda _: local.admit([Bucket("k", HUNDRED)], None, now_us=NOW_US), range(800)))
    assert sum(verdict.admitted for verdict in verdicts) == 100


def test_a_slot_is_given_to_one_of_many_threads():
    local, held = new_local()
    one = Concurrency("one", 1)
    slots = [Slot("slots", str(number), one) for number in range(50)]
    with ThreadPoolExecutor(16) as pool:
        verdicts = list(pool.map(lambda slot: local.admit([], slot, now_us=NOW_US), slots))
    assert sum(verdict.admitted for verdict in verdicts) == 1
    assert held.count("slots") == 1
    for slot in slots:
        held.drop(slot)


def test_a_flood_of_callers_does_not_fill_the_memory():
    local, _ = new_local(max_buckets=100)
    for number in range(1000):
        local.admit([Bucket(f"caller-{number}", HUNDRED)], None, now_us=NOW_US)
    assert len(local._empty_at_us) == 100


def test_the_flood_forgets_those_first_that_were_away_longest():
    local, _ = new_local(max_buckets=2)
    busy = Bucket("busy", HUNDRED, 100)
    assert local.admit([busy], None, now_us=NOW_US).admitted
    local.admit([Bucket("other", HUNDRED)], None, now_us=NOW_US)
    local.charge(busy, now_us=NOW_US)
    local.admit([Bucket("third", HUNDRED)], None, now_us=NOW_US)
    assert not local.admit([busy], None, now_us=NOW_US).admitted


def test_asking_without_taking_keeps_nothing():
    local, _ = new_local()
    local.admit([Bucket("k", HUNDRED, 0)], None, now_us=NOW_US)
    assert len(local._empty_at_us) == 0


def wait_until(holds):
    give_up_at = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.005)


def test_held_slots_are_renewed_until_they_are_dropped_and_the_thread_ends_with_the_last():
    renewed: list[list[Slot]] = []
    held = HeldSlots(renewed.append, every_s=0.005)
    slot = Slot("slots", "mine", Concurrency("one", 1))
    held.add(slot)
    wait_until(lambda: len(renewed) > 2)
    assert renewed[0] == [slot]
    assert held.drop(slot)
    assert not held.drop(slot)
    wait_until(lambda: held._thread is None)
    held.add(slot)
    seen = len(renewed)
    wait_until(lambda: len(renewed) > seen)
    held.drop(slot)


def test_a_slot_added_twice_is_held_once():
    _, held = new_local()
    slot = Slot("slots", "mine", Concurrency("one", 1))
    held.add(slot)
    held.add(slot)
    assert held.count("slots") == 1
    assert held.drop(slot)
    assert held.count("slots") == 0
