"""The script in Redis: like the reference model, one call, all or nothing, and nothing left behind."""

import pytest
from hypothesis import HealthCheck, settings

from shared.limits.gcra import Bucket, fits
from shared.limits.policies import Policy
from shared.limits.shared_buckets import SharedBuckets
from shared.redis_link import CommandRefused, Script
from tests.store.limits.support import TWO, MovableTime, hundred, new_key, new_slot, patient_link
from tests.unit.limits.limits_machine import HOUR_S, LimitsMachine

LEASE_S = 5 * HOUR_S


class RedisLimits(SharedBuckets):
    lease_us = LEASE_S * 1_000_000

    def __init__(self, prefix):
        self.link = patient_link()
        super().__init__(self.link, lease_s=LEASE_S)
        self.time = MovableTime(prefix)

    def charge(self, bucket):
        self.end(bucket, None)

    def release(self, slot):
        self.end(None, slot)

    def advance(self, us):
        self.time.advance(us)

    def close(self):
        self.time.close()
        self.link.close()


class RedisMachine(LimitsMachine):
    def make(self):
        return RedisLimits(self.prefix)


TestTheScriptAgainstTheModel = RedisMachine.TestCase
TestTheScriptAgainstTheModel.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.fixture
def link():
    found = patient_link()
    yield found
    found.close()


@pytest.fixture
def buckets(link):
    return SharedBuckets(link)


def test_what_one_bucket_refuses_takes_nothing_from_the_others(buckets, store):
    full, other, slots = new_key(), new_key(), new_key()
    buckets.end(hundred(full, 100), None)
    for _ in range(5):
        assert not buckets.admit([hundred(other), hundred(full)], new_slot(slots)).admitted
    assert store.exists(other, slots) == 0


def test_what_the_slots_refuse_takes_nothing_from_the_buckets(buckets, store, key):
    slots = new_key()
    for _ in range(TWO.slots):
        assert buckets.admit([], new_slot(slots)).admitted
    assert not buckets.admit([hundred(key)], new_slot(slots)).admitted
    assert store.exists(key) == 0
    assert store.zcard(slots) == TWO.slots


def test_nothing_outlives_the_time_it_means_something(buckets, store, key):
    slots = new_key()
    minute = Policy("minute", 60)
    buckets.admit([Bucket(key, minute, 30)], new_slot(slots))
    assert 28_000 < store.pttl(key) <= 30_000
    assert 28_000 < store.pttl(slots) <= 30_000
    buckets.end(Bucket(key, minute, 10**9), None)
    assert 298_000 < store.pttl(key) <= 300_000


def test_asking_without_taking_stores_nothing(buckets, store, key):
    assert buckets.admit([hundred(key, 0)], None).admitted
    assert store.exists(key) == 0


def test_a_redis_that_has_forgotten_the_script_learns_it_again(buckets, store, key):
    assert buckets.admit([hundred(key)], None).admitted
    store.script_flush()
    verdict = buckets.admit([hundred(key)], None)
    assert verdict.admitted
    assert verdict.used_us[0] > 0


def test_an_error_of_a_script_is_not_taken_for_a_forgotten_one(link):
    with pytest.raises(CommandRefused, match="nowhere"):
        link.run(Script("error('nowhere')"), [], [])


def test_a_key_of_another_kind_is_an_error_and_no_admission(buckets, store, key):
    store.lpush(key, "x")
    with pytest.raises(CommandRefused):
        buckets.admit([hundred(key)], None)
    store.delete(key)


def test_the_time_of_the_request_is_that_of_redis(buckets, store, key):
    seconds, microseconds = store.time()
    buckets.admit([hundred(key)], None)
    empty_at_us = int(store.get(key))
    taken_at_us = empty_at_us - hundred(key).cost_us
    assert 0 <= taken_at_us - (seconds * 1_000_000 + microseconds) < 60_000_000


def test_microseconds_stay_whole_numbers(buckets, store, key):
    """A double written carelessly would read 1.8e+15."""
    policy = Policy("odd", 7, 61)
    for _ in range(5):
        verdict = buckets.admit([Bucket(key, policy)], None)
        assert store.get(key).isdigit()
        assert fits([Bucket(key, policy)], verdict.used_us, None, 0)


def test_a_released_slot_is_free_at_once(buckets):
    slots = new_key()
    mine, theirs = new_slot(slots), new_slot(slots)
    assert buckets.admit([], mine).admitted
    assert buckets.admit([], theirs).admitted
    assert not buckets.admit([], new_slot(slots)).admitted
    buckets.end(None, mine)
    assert buckets.admit([], new_slot(slots)).admitted


def test_a_bucket_is_charged_and_a_slot_freed_in_one_call(buckets, key):
    slots = new_key()
    mine, other = new_slot(slots), new_slot(slots)
    buckets.admit([], mine)
    buckets.admit([], other)
    buckets.end(hundred(key, 100), mine)
    assert not buckets.admit([hundred(key)], None).admitted
    assert buckets.admit([], new_slot(slots)).slots_in_use == 1


def test_a_renewal_brings_back_a_slot_that_redis_has_forgotten(buckets, store):
    slots = new_key()
    mine = new_slot(slots)
    buckets.admit([], mine)
    store.delete(slots)
    buckets.renew([mine])
    assert store.zrange(slots, 0, -1) == [mine.id]
    assert store.pttl(slots) > 0
