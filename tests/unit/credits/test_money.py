"""Credits, micro-credits and what a provider's cost is in them."""

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from functions.credits.domain import MICRO_PER_CREDIT, NEVER_MS, credits_for_cost, credits_text

PICO_USD_PER_CREDIT = 10**9  # a credit is 0.001 USD


@pytest.mark.parametrize(
    ("cost_pico_usd", "markup_percent", "micro"),
    [
        (0, 20, 0),
        (1, 0, 1),
        (1_000, 0, 1),
        (1_000, 20, 2),
        (1_001, 0, 2),
        (PICO_USD_PER_CREDIT, 0, MICRO_PER_CREDIT),
        (PICO_USD_PER_CREDIT, 20, 1_200_000),
        (10**12, 20, 1_200 * MICRO_PER_CREDIT),
    ],
)
def test_cost_in_usd_becomes_credits_with_markup_rounded_up(cost_pico_usd, markup_percent, micro):
    assert credits_for_cost(cost_pico_usd, markup_percent) == micro


@given(cost=st.integers(0, 10**15), markup=st.integers(0, 500))
def test_charge_is_never_below_cost_plus_markup_nor_a_whole_micro_credit_above(cost, markup):
    exact = Fraction(cost * (100 + markup), 100 * 1_000)
    assert 0 <= credits_for_cost(cost, markup) - exact < 1


@given(cost=st.integers(0, 10**15), more=st.integers(0, 10**9), markup=st.integers(0, 500))
def test_higher_cost_never_charges_less(cost, more, markup):
    assert credits_for_cost(cost + more, markup) >= credits_for_cost(cost, markup)


@pytest.mark.parametrize(("cost", "markup"), [(-1, 0), (1, -1)])
def test_negative_cost_or_markup_is_a_mistake(cost, markup):
    with pytest.raises(ValueError, match="never negative"):
        credits_for_cost(cost, markup)


@pytest.mark.parametrize(
    ("micro", "text"),
    [(0, "0"), (1, "0.000001"), (-1, "-0.000001"), (1_500_000, "1.5"), (12_000_000, "12"), (-2_340_000, "-2.34")],
)
def test_credits_are_written_as_plain_decimals(micro, text):
    assert credits_text(micro) == text


@given(st.integers(-(10**20), 10**20))
@example(-999_999)
def test_written_credits_read_back_exactly(micro):
    assert Decimal(credits_text(micro)) * MICRO_PER_CREDIT == micro


def test_never_is_exact_as_a_javascript_number():
    assert float(NEVER_MS) == NEVER_MS < 2**53
