"""The table of limits: what must hold in every row."""

import re

import pytest

from shared.limits.policies import FAILED_LINKS, FAILED_SIGN_INS, LimitClass, Policy, address_policy, plan_limits

PLANS = ("free", "pro", "enterprise")
BY_ADDRESS_ALONE = (LimitClass.PUBLIC, LimitClass.WEBHOOK)
OF_CALLERS = [limit_class for limit_class in LimitClass if limit_class not in BY_ADDRESS_ALONE]


def every_policy():
    for plan in PLANS:
        limits = plan_limits(plan)
        yield from limits.by_user.values()
        yield from limits.by_key.values()
        yield limits.tokens
    for limit_class in LimitClass:
        yield address_policy(limit_class, signed_in=True)
    yield FAILED_SIGN_INS
    yield FAILED_LINKS


def test_every_quota_comes_back_in_exactly_its_window():
    """A remainder would make the advertised window a lie by some microseconds."""
    for policy in every_policy():
        assert policy.burst_us == policy.window_s * 1_000_000


def test_every_name_can_stand_in_a_header_and_in_a_key():
    for policy in every_policy():
        assert re.fullmatch(r"[a-z_-]+", policy.name)


def test_one_name_is_one_window():
    """Two policies of one name would share a bucket; plans differ in the quota alone."""
    windows: dict[str, set[int]] = {}
    for policy in every_policy():
        windows.setdefault(policy.name, set()).add(policy.window_s)
    assert [name for name, found in windows.items() if len(found) > 1] == []


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("limit_class", OF_CALLERS)
def test_every_caller_is_limited_in_every_class(plan, limit_class):
    assert limit_class in plan_limits(plan).by_user


@pytest.mark.parametrize("plan", PLANS)
def test_one_key_gets_less_than_its_owner(plan):
    limits = plan_limits(plan)
    assert set(limits.by_key) == {LimitClass.READ, LimitClass.FOLLOW, LimitClass.WRITE, LimitClass.GENERATE}
    assert all(policy.quota < limits.by_user[limit_class].quota for limit_class, policy in limits.by_key.items())


@pytest.mark.parametrize("limit_class", [LimitClass.READ, LimitClass.WRITE, LimitClass.GENERATE])
def test_a_dearer_plan_allows_more_and_an_address_carries_several_of_the_dearest(limit_class):
    free, pro, enterprise = (plan_limits(plan).by_user[limit_class].quota for plan in PLANS)
    assert free < pro < enterprise
    assert address_policy(limit_class, signed_in=True).quota >= 4 * enterprise


def test_a_dearer_plan_allows_more_tokens_and_generations():
    free, pro, enterprise = map(plan_limits, PLANS)
    assert free.tokens.quota < pro.tokens.quota < enterprise.tokens.quota
    assert free.generations.slots < pro.generations.slots < enterprise.generations.slots
    assert free.followers.slots < pro.followers.slots < enterprise.followers.slots


def test_an_unknown_plan_is_the_free_one():
    assert plan_limits("platinum") is plan_limits("free")


def test_without_a_caller_everything_but_signing_in_counts_as_public():
    public = address_policy(LimitClass.PUBLIC, signed_in=False)
    for limit_class in (LimitClass.READ, LimitClass.WRITE, LimitClass.GENERATE):
        assert address_policy(limit_class, signed_in=False) is public
    assert address_policy(LimitClass.SIGN_IN, signed_in=False) is address_policy(LimitClass.SIGN_IN, signed_in=True)


def test_a_quota_that_does_not_divide_its_window_still_gives_exactly_the_quota():
    seven = Policy("seven", 7, 60)
    assert seven.burst_us == 7 * seven.interval_us
    assert 60_000_000 - seven.burst_us < 7
