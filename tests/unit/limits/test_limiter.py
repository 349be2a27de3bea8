"""Who decides when Redis fails, comes back, and fails again."""

import json

import pytest

from shared import metrics
from shared.limits.gcra import Bucket, Slot, Verdict
from shared.limits.limiter import Limiter, Reachability
from shared.limits.policies import Concurrency, Policy
from shared.limits.shared_buckets import SharedBuckets
from shared.redis_link import LinkFailed

TEN = Policy("ten", 10, window_s=86_400)
ONE = Concurrency("one", 1)
PAUSE_S = 0.5


class FakeShared(SharedBuckets):
    """Redis as the limiter sees it: it answers, or it does not."""

    def __init__(self):
        self.is_there = True
        self.calls = []

    def _called(self, *call):
        self.calls.append(call)
        if not self.is_there:
            raise LinkFailed("away")

    def admit(self, buckets, slot):
        self._called("admit", slot, *(bucket.key for bucket in buckets))
        return Verdict(admitted=True, used_us=(0,) * len(buckets))

    def renew(self, slots):
        self._called("renew", *(slot.id for slot in slots))

    def end(self, charge, slot):
        self._called("end", charge and (charge.key, charge.cost), slot and slot.id)


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def shared():
    return FakeShared()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def limiter(shared, clock):
    return Limiter(shared, reachability=Reachability(pause_s=PAUSE_S, monotonic=clock), renew_every_s=0.01)


def admit(limiter, key="k", slot=None, cost=1):
    return limiter.admit([Bucket(key, TEN, cost)], slot, now_us=0).admitted


def log_lines(capfd):
    return [json.loads(line)["message"] for line in capfd.readouterr().out.splitlines()]


def test_redis_decides_while_it_answers(limiter, shared):
    assert all(admit(limiter) for _ in range(20))
    assert len(shared.calls) == 20


def test_without_redis_this_process_decides_by_the_same_policies(limiter, shared):
    shared.is_there = False
    assert [admit(limiter) for _ in range(11)] == [True] * 10 + [False]


def test_a_dead_redis_is_asked_once_per_pause_and_not_by_every_request(limiter, shared, clock):
    shared.is_there = False
    for _ in range(50):
        admit(limiter)
    assert len(shared.calls) == 1
    clock.now += PAUSE_S
    for _ in range(50):
        admit(limiter)
    assert len(shared.calls) == 2


def test_redis_takes_over_again_when_it_is_back(limiter, shared, clock):
    shared.is_there = False
    while admit(limiter):
        pass
    shared.is_there = True
    assert not admit(limiter)
    clock.now += PAUSE_S
    assert admit(limiter)
    assert admit(limiter)


def test_only_one_asks_while_nobody_knows_whether_redis_is_back(clock):
    reachability = Reachability(pause_s=PAUSE_S, monotonic=clock)
    reachability.failed(LinkFailed("away"))
    assert not reachability.may_ask()
    clock.now += PAUSE_S
    assert [reachability.may_ask() for _ in range(5)] == [True, False, False, False, False]
    reachability.answered()
    assert all(reachability.may_ask() for _ in range(5))


def test_each_change_of_state_is_one_log_line(limiter, shared, clock, capfd):
    shared.is_there = False
    for _ in range(30):
        admit(limiter)
        clock.now += PAUSE_S / 2
    assert log_lines(capfd) == ["rate limits are local: Redis does not answer"]
    shared.is_there = True
    clock.now += PAUSE_S
    for _ in range(3):
        admit(limiter)
    assert log_lines(capfd) == ["rate limits are shared again"]


def test_every_local_decision_is_counted(limiter, shared, monkeypatch):
    counted: list[str] = []
    monkeypatch.setattr(metrics, "count", counted.append)
    admit(limiter)
    assert counted == []
    shared.is_there = False
    for _ in range(3):
        admit(limiter)
    assert counted == ["limits_local_total"] * 3


def test_a_charge_is_local_while_redis_is_away(limiter, shared):
    shared.is_there = False
    limiter.charge(Bucket("k", TEN, 10_000))
    assert not limiter.admit([Bucket("k", TEN)]).admitted


def test_a_slot_taken_locally_is_free_for_the_next_at_once(limiter, shared):
    shared.is_there = False
    mine = Slot("slots", "mine", ONE)
    assert admit(limiter, slot=mine)
    assert not admit(limiter, "other", slot=Slot("slots", "theirs", ONE))
    limiter.end(None, mine)
    theirs = Slot("slots", "theirs", ONE)
    assert admit(limiter, "other", slot=theirs)
    limiter.end(None, theirs)


def test_a_slot_of_redis_still_counts_here_when_redis_goes_away(limiter, shared):
    mine = Slot("slots", "mine", ONE)
    assert admit(limiter, slot=mine)
    shared.is_there = False
    assert not admit(limiter, slot=Slot("slots", "theirs", ONE))
    limiter.end(None, mine)


def test_a_slot_is_released_once_however_often_it_is_said(limiter, shared):
    mine = Slot("slots", "mine", ONE)
    admit(limiter, slot=mine)
    for _ in range(3):
        limiter.end(None, mine)
    assert [call for call in shared.calls if call[0] == "end"] == [("end", None, "mine")]


def test_a_slot_released_while_it_was_being_renewed_is_released_again():
    """The renewal has put back what the release took away."""

    class Slow(FakeShared):
        def renew(self, slots):
            super().renew(slots)
            slow_limiter.end(None, slots[0])

    shared = Slow()
    slow_limiter = Limiter(shared)
    mine = Slot("slots", "mine", ONE)
    slow_limiter.held.add(mine)
    slow_limiter._renew([mine])
    assert [call[0] for call in shared.calls] == ["renew", "end", "end"]


def test_a_refused_request_holds_no_slot(limiter, shared):
    shared.is_there = False
    limiter.charge(Bucket("k", TEN, 10_000))
    mine = Slot("slots", "mine", ONE)
    assert not limiter.admit([Bucket("k", TEN)], mine).admitted
    assert mine not in limiter.held
