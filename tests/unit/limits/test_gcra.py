"""The arithmetic of the limits against exact fractions."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from shared.limits.gcra import Bucket, Slot, bucket_standing, fits, slot_standing
from shared.limits.policies import Concurrency, Policy

POLICIES = st.builds(Policy, st.just("any"), st.integers(1, 100_000), st.integers(1, 3600))
SIXTY = Policy("sixty", 60)
TWO = Concurrency("two", 2)
SECOND_US = 1_000_000


def bucket(policy, cost=1):
    return Bucket("key", policy, cost)


@given(policy=POLICIES, units=st.integers(0, 200_000), cost=st.integers(0, 100_000))
def test_a_request_fits_exactly_when_its_units_fit_into_the_quota(policy, units, cost):
    cost = min(cost, policy.quota)
    admitted = fits([bucket(policy, cost)], [units * policy.interval_us], None, 0)
    assert admitted is (units + max(cost, 1) <= policy.quota)


@given(policy=POLICIES, used_us=st.integers(0, 10**11), cost=st.integers(0, 100_000))
def test_a_refused_request_passes_after_exactly_the_time_it_was_told(policy, used_us, cost):
    asked = bucket(policy, min(cost, policy.quota))
    if fits([asked], [used_us], None, 0):
        return
    wait_s = bucket_standing(asked, used_us, admitted=False).wait_s
    assert fits([asked], [max(used_us - wait_s * SECOND_US, 0)], None, 0)
    assert not fits([asked], [used_us - (wait_s - 1) * SECOND_US], None, 0)


@given(policy=POLICIES, used_us=st.integers(0, 10**11), cost=st.integers(0, 100_000))
def test_what_remains_is_what_could_still_be_taken_one_by_one(policy, used_us, cost):
    asked = bucket(policy, min(cost, policy.quota))
    admitted = fits([asked], [used_us], None, 0)
    after_us = used_us + asked.cost_us if admitted else used_us
    room = policy.quota - Fraction(after_us, policy.interval_us)
    assert bucket_standing(asked, used_us, admitted=admitted).remaining == max(room.__floor__(), 0)


@given(policy=POLICIES, used_us=st.integers(0, 10**9))
def test_the_reset_is_when_the_quota_is_whole_or_when_the_next_one_passes(policy, used_us):
    asked = bucket(policy)
    if not fits([asked], [used_us], None, 0):
        return
    standing = bucket_standing(asked, used_us, admitted=True)
    assert standing.reset_s is not None
    later_us = max(used_us + policy.interval_us - standing.reset_s * SECOND_US, 0)
    if standing.remaining:
        assert later_us == 0
    else:
        assert fits([asked], [later_us], None, 0)
        assert not fits([asked], [used_us + policy.interval_us - (standing.reset_s - 1) * SECOND_US], None, 0)


def test_an_idle_caller_may_use_the_whole_quota_at_once_and_then_one_a_second():
    used_us = 0
    for _ in range(60):
        assert fits([bucket(SIXTY)], [used_us], None, 0)
        used_us += SIXTY.interval_us
    assert not fits([bucket(SIXTY)], [used_us], None, 0)
    assert fits([bucket(SIXTY)], [used_us - SECOND_US], None, 0)


def test_one_bucket_without_room_refuses_the_whole_request():
    assert not fits([bucket(SIXTY), bucket(SIXTY)], [0, SIXTY.burst_us], None, 0)


def test_a_taken_slot_is_not_taken_twice():
    slot = Slot("slots", "mine", TWO)
    assert fits([], [], slot, 1)
    assert not fits([], [], slot, 2)


def test_a_cost_of_nothing_passes_while_anything_is_left_and_takes_nothing():
    assert fits([bucket(SIXTY, 0)], [SIXTY.burst_us - SIXTY.interval_us], None, 0)
    assert not fits([bucket(SIXTY, 0)], [SIXTY.burst_us], None, 0)
    assert bucket_standing(bucket(SIXTY, 0), 0, admitted=True).remaining == 60


def test_a_debt_leaves_nothing_and_says_when_it_is_paid():
    standing = bucket_standing(bucket(SIXTY, 0), SIXTY.burst_us + 9 * SECOND_US, admitted=False)
    assert (standing.remaining, standing.wait_s, standing.reset_s) == (0, 10, 10)


def test_a_policy_that_would_have_admitted_a_refused_request_tells_no_wait():
    standing = bucket_standing(bucket(SIXTY), 30 * SECOND_US, admitted=False)
    assert (standing.remaining, standing.wait_s, standing.reset_s) == (30, 0, 30)


def test_slots_tell_what_is_left_of_them():
    slot = Slot("slots", "mine", TWO)
    assert slot_standing(slot, 0, admitted=True).remaining == 1
    assert slot_standing(slot, 1, admitted=False).remaining == 1
    assert slot_standing(slot, 1, admitted=False).wait_s == 0
    full = slot_standing(slot, 2, admitted=False)
    assert (full.remaining, full.wait_s > 0, full.reset_s) == (0, True, None)


def test_more_slots_in_use_than_there_are_leave_none_and_not_less():
    """A caller whose plan became smaller while they ran."""
    assert slot_standing(Slot("slots", "mine", TWO), 5, admitted=False).remaining == 0
