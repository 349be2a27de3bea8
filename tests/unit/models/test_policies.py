"""Who may ask which model: by plan, policy and price."""

from decimal import Decimal

import pytest

from functions.models.domain import PLANS, Defaults, Policy, as_plan, composed, may_ask, needed_plan
from shared.limits.policies import plan_limits
from tests.unit.models.entries import offer

BUILT_IN = Defaults()
PRO_UP_TO_TEN = Defaults(ceilings={"free": Decimal(1), "pro": Decimal(10), "enterprise": None})
NOBODY_ABOVE_TEN = Defaults(ceilings={"free": Decimal(1), "pro": Decimal(10), "enterprise": Decimal(10)})


def costing(usd_per_million):
    return offer(pricing={"prompt": "0", "completion": f"{Decimal(usd_per_million) / 1_000_000:f}"})


@pytest.mark.parametrize(
    ("usd_per_million", "policy", "defaults", "needed"),
    [
        ("0", Policy(), BUILT_IN, "free"),
        ("2.5", Policy(), BUILT_IN, "free"),
        ("5", Policy(), BUILT_IN, "free"),
        ("5.000001", Policy(), BUILT_IN, "pro"),
        ("600", Policy(), BUILT_IN, "pro"),
        ("1", Policy(), PRO_UP_TO_TEN, "free"),
        ("7", Policy(), PRO_UP_TO_TEN, "pro"),
        ("11", Policy(), PRO_UP_TO_TEN, "enterprise"),
        ("11", Policy(), NOBODY_ABOVE_TEN, None),
        ("600", Policy(min_plan="free"), BUILT_IN, "free"),
        ("0", Policy(min_plan="enterprise"), BUILT_IN, "enterprise"),
        ("11", Policy(min_plan="pro"), NOBODY_ABOVE_TEN, "pro"),
        ("0", Policy(enabled=False), BUILT_IN, None),
        ("0", Policy(enabled=False, min_plan="free"), BUILT_IN, None),
    ],
)
def test_a_model_takes_the_plan_that_its_policy_says_or_its_price(usd_per_million, policy, defaults, needed):
    found = needed_plan(costing(usd_per_million), policy, defaults)
    assert found == needed
    places = {plan: may_ask(plan, found) for plan in PLANS}
    assert places == {plan: needed is not None and PLANS.index(plan) >= PLANS.index(needed) for plan in PLANS}


def test_the_price_that_counts_is_the_highest_of_all_tiers():
    tiered = offer(
        pricing={"prompt": "0", "completion": "0.000004", "overrides": [{"utc_start": 8, "completion": "0.000006"}]}
    )
    assert needed_plan(tiered, Policy(), BUILT_IN) == "pro"


def test_an_unknown_plan_may_what_the_smallest_may():
    assert as_plan("platinum") == "free"
    assert may_ask("platinum", "free")
    assert not may_ask("platinum", "pro")


@pytest.mark.parametrize("plan", PLANS)
def test_the_plans_are_those_that_the_limits_know(plan):
    assert plan == "free" or plan_limits(plan) is not plan_limits("free")


@pytest.mark.parametrize(
    ("own", "of_all", "holds"), [(None, None, 20), (None, 35, 35), (50, 35, 50), (0, 35, 0), (None, 0, 0)]
)
def test_the_mark_up_is_the_models_own_or_the_operators_or_that_of_the_deployment(own, of_all, holds):
    made = composed(offer(), Policy(markup_percent=own), Defaults(markup_percent=of_all), markup_percent=20)
    assert made.markup_percent == holds


def test_what_operators_decided_comes_with_the_model():
    policy = Policy(default_answer_tokens=100, default_parameters={"temperature": 0.2}, fallbacks=("acme/two",))
    made = composed(offer(), policy, Defaults(), markup_percent=20)

    assert (made.default_answer_tokens, made.default_parameters) == (100, {"temperature": 0.2})
    assert made.fallbacks == ("acme/two",)


def test_anyone_gets_the_default_of_their_plan_and_then_the_stand_ins_each_once():
    decided = Defaults(default_models={"pro": "acme/pro"}, stand_ins=("acme/two", "acme/pro", "openai/gpt-4o-mini"))

    assert decided.for_anyone("pro") == ("acme/pro", "acme/two", "openai/gpt-4o-mini")
    assert decided.for_anyone("platinum") == ("openai/gpt-4o-mini", "acme/two", "acme/pro")
    assert Defaults().for_anyone("free") == ("openai/gpt-4o-mini", "google/gemini-2.5-flash")
