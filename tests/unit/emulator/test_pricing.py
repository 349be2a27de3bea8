"""Prices: recorded costs come out to the last digit, tiers and flat rates included."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.openrouter import catalogue
from emulator.openrouter.money import pico_from_usd, usd_text
from emulator.openrouter.pricing import Bill, Tokens, is_variable, read_price

# Costs of real generations: model, tokens, cost, cost of the prompt, cost of the completion.
RECORDED = [
    ("x-ai/grok-4", Tokens(687, 187, cached=679, reasoning=118), "0.00333825", "0.00053325", "0.002805"),
    ("openai/o3", Tokens(9, 104), "0.00085", "0.000018", "0.000832"),
    ("minimax/minimax-m2:free", Tokens(43, 10, reasoning=11), "0", "0", "0"),
    ("openai/gpt-5-mini", Tokens(17, 2177, reasoning=960), "0.00435825", "0.00000425", "0.004354"),
    ("anthropic/claude-sonnet-4.5", Tokens(43, 36, reasoning=13), "0.000669", "0.000129", "0.00054"),
    ("openai/gpt-4.1-mini", Tokens(23, 48), "0.000086", "0.0000092", "0.0000768"),
    ("z-ai/glm-4.6", Tokens(16, 2), "0.000014", "0.0000096", "0.0000044"),
    ("anthropic/claude-sonnet-4-5", Tokens(550, 15), "0.001875", "0.00165", "0.000225"),
    ("openai/gpt-5-mini", Tokens(37, 92, reasoning=64), "0.00019325", "0.00000925", "0.000184"),
    ("openai/gpt-4.1-mini", Tokens(8174, 30, web_searches=1), "0.0133176", "0.0032696", "0.000048"),
    ("google/gemini-3.6-flash", Tokens(30, 26, reasoning=25), "0.00024", "0.000045", "0.000195"),
    ("deepseek/deepseek-chat", Tokens(2317, 53), "0.0006509169", "0.0005963958", "0.0000545211"),
    ("google/gemini-2.5-flash-image-preview", Tokens(2, 1295, image=1290), "0.0387131", "0.0000006", "0.0387125"),
]


@pytest.mark.parametrize(("slug", "tokens", "cost", "prompt_cost", "completion_cost"), RECORDED)
def test_recorded_costs_come_out_exactly(slug, tokens, cost, prompt_cost, completion_cost):
    computed = _price(slug).cost(tokens)
    assert computed.total == pico_from_usd(cost)
    assert computed.prompt == pico_from_usd(prompt_cost)
    assert computed.completion == pico_from_usd(completion_cost)


def test_byok_costs_nothing_and_says_what_the_provider_takes():
    tokens = Tokens(326, 91)
    bill = Bill(tokens, _price("google/gemini-2.5-flash").cost(tokens), byok=True)
    usage = bill.usage(noisy=False)
    assert (usage["cost"], usage["is_byok"]) == (0, True)
    assert usage["cost_details"]["upstream_inference_cost"] == 0.0003253


def test_a_waived_bill_shows_no_cost_anywhere():
    tokens = Tokens(10, 10)
    usage = Bill(tokens, _price("openai/o3").cost(tokens), waived=True).usage(noisy=False)
    assert usage["cost"] == 0
    assert set(usage["cost_details"].values()) == {0}


def test_a_long_prompt_reaches_the_dearer_tier():
    price = _price("anthropic/claude-sonnet-4.5")
    assert price.cost(Tokens(199_999, 1)).total == pico_from_usd("0.600012")
    assert price.cost(Tokens(200_000, 1)).total == pico_from_usd("1.2000225")


def test_a_flat_rate_turn_always_costs_a_tenth_of_a_cent():
    assert _price("craftpilot/flat-rate").cost(Tokens(12_345, 6_789)).total == pico_from_usd("0.001")


def test_a_variable_price_is_never_multiplied():
    pricing = {"prompt": "-1", "completion": "-1"}
    assert is_variable(pricing)
    with pytest.raises(ValueError, match="variable price"):
        read_price(pricing)


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6))
def test_noise_moves_the_number_but_not_by_a_pico_dollar(prompt, completion, cached):
    tokens = Tokens(prompt, completion, cached=min(cached, prompt))
    bill = Bill(tokens, _price("openai/gpt-4o-mini").cost(tokens))
    exact, noisy = bill.usage(noisy=False)["cost"], bill.usage(noisy=True)["cost"]
    assert (noisy != exact) is (bill.charged > 0)
    assert round(Decimal(repr(noisy)), 12) == Decimal(usd_text(bill.charged))


def _price(slug):
    found = catalogue.find(slug)
    assert found is not None
    return found.model.price
