"""What a request costs at most, and what a user is shown."""

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.credits.domain import MICRO_PER_CREDIT, credits_for_cost
from functions.models.domain import (
    IMAGE_TOKENS,
    PICO_USD_PER_USD,
    TOKENS_OF_A_THOUSAND_WORDS,
    Policy,
    answer_tokens,
    composed,
    decimal_text,
    everyday_price,
    highest_cost_pico_usd,
    in_credits,
    offer_from_upstream,
    per_million,
)
from functions.models.domain import Defaults as AllDefaults
from tests.unit.models.entries import model, offer, priced

PRICES = st.decimals(min_value=0, max_value="0.001", places=12).map(lambda price: f"{price:f}")


@st.composite
def pricings(draw):
    kinds = st.fixed_dictionaries({"prompt": PRICES, "completion": PRICES})
    tier = st.fixed_dictionaries({"min_prompt_tokens": st.integers(1, 200_000)}, optional={"prompt": PRICES})
    night = st.fixed_dictionaries(
        {"utc_start": st.integers(0, 23), "utc_end": st.integers(0, 23)}, optional={"completion": PRICES}
    )
    return {**draw(kinds), "request": draw(PRICES), "overrides": draw(st.lists(tier | night, max_size=4))}


@given(pricings(), st.integers(0, 128_000), st.integers(1, 16_384), st.data())
def test_no_tier_ever_costs_more_than_the_bound(pricing, prompt_tokens, written, data):
    offered = offer_from_upstream(priced(**pricing))
    assert offered is not None
    asked = composed(offered, Policy(), AllDefaults(), markup_percent=20)
    bound = highest_cost_pico_usd(asked, prompt_tokens=prompt_tokens, answer_tokens=written)

    kind = data.draw(st.sampled_from([pricing, *({**pricing, **override} for override in pricing["overrides"])]))
    read = data.draw(st.integers(0, prompt_tokens))
    cost = Decimal(kind["prompt"]) * read + Decimal(kind["completion"]) * written + Decimal(kind["request"])
    assert cost * PICO_USD_PER_USD <= bound


def test_a_prompt_costs_no_more_than_the_model_reads():
    most = highest_cost_pico_usd(model(), prompt_tokens=10**9, answer_tokens=0)
    assert most == highest_cost_pico_usd(model(), prompt_tokens=128_000, answer_tokens=0) == 128_000 * 1_000_000


def test_a_fraction_of_a_pico_dollar_is_rounded_up():
    tiny = replace(model(), prompt_usd=Decimal("1e-13"), completion_usd=Decimal(0))
    assert highest_cost_pico_usd(tiny, prompt_tokens=1, answer_tokens=0) == 1


def test_an_image_costs_its_own_price_and_the_tokens_it_counts_as():
    priced_images = replace(model(context_length=10_000_000), image_usd=Decimal("0.001"))

    cost = highest_cost_pico_usd(priced_images, prompt_tokens=100, answer_tokens=0, images=2)

    assert cost == (100 + 2 * IMAGE_TOKENS) * 1_000_000 + 2 * 10**9


def test_images_of_the_family_that_counts_them_highest_are_covered():
    mini = model("openai/gpt-4o-mini")
    eight_tiles = 2_833 + 8 * 5_667
    assert highest_cost_pico_usd(mini, prompt_tokens=0, answer_tokens=0, images=1) >= eight_tiles * 1_000_000


def test_prices_of_many_digits_lose_none():
    exact = replace(model(), prompt_usd=Decimal("0.123456789012345678901234"), completion_usd=Decimal(0))
    cost = highest_cost_pico_usd(exact, prompt_tokens=99_999, answer_tokens=0)
    assert cost == -(-123456789012345678901234 * 99_999 // 10**12)


def test_an_answer_is_as_long_as_asked_within_what_the_model_can_do():
    assert answer_tokens(model(), 100) == 100
    assert answer_tokens(model(), 10**6) == 16_384
    assert answer_tokens(model(), None) == 2048
    short = model(policy=Policy(max_answer_tokens=512, default_answer_tokens=1024))
    assert (answer_tokens(short, None), answer_tokens(short, 4000)) == (512, 512)


def test_operators_cannot_make_a_model_write_more_than_it_can():
    assert model(policy=Policy(max_answer_tokens=10**6)).max_answer_tokens == 16_384


@pytest.mark.parametrize(
    ("usd", "markup", "words"),
    [
        ("0.00000015", 20, "0.24012"),
        ("0.00000015", 0, "0.2001"),
        ("0.0000002574", 25, "0.4292145"),
        ("0", 20, "0"),
        ("0.001", 50, "2001"),
    ],
)
def test_a_thousand_words_cost_exactly_what_their_tokens_do_with_the_mark_up(usd, markup, words):
    assert decimal_text(in_credits(Decimal(usd), markup, times=TOKENS_OF_A_THOUSAND_WORDS)) == words


@given(PRICES, st.integers(0, 1000), st.integers(1, 100_000))
def test_what_is_shown_is_what_the_ledger_takes_but_for_its_last_digit(usd, markup, tokens):
    shown = in_credits(Decimal(usd), markup, times=tokens)
    taken = credits_for_cost(int(Decimal(usd) * tokens * PICO_USD_PER_USD), markup)
    assert 0 <= taken - shown * MICRO_PER_CREDIT < 1


def test_the_price_of_everyday_is_that_of_a_short_prompt_at_the_dearest_hour():
    tiers = [
        {"min_prompt_tokens": 200_000, "prompt": "0.9"},
        {"utc_start": 8, "utc_end": 20, "completion": "0.000005"},
        {"utc_start": 0, "utc_end": 6, "completion": "0.000001"},
    ]
    usual = everyday_price(offer(pricing={"prompt": "0.000001", "completion": "0.000002", "overrides": tiers}))

    assert (usual.prompt_usd, usual.completion_usd) == (Decimal("0.000001"), Decimal("0.000005"))


@pytest.mark.parametrize(
    ("value", "text"), [("0.15000000", "0.15"), ("12", "12"), ("100", "100"), ("1E+3", "1000"), ("0E-9", "0")]
)
def test_prices_are_shown_without_exponents_and_empty_digits(value, text):
    assert decimal_text(Decimal(value)) == text


def test_a_price_for_a_million_is_exact():
    assert decimal_text(per_million(Decimal("0.0000002574"))) == "0.2574"
