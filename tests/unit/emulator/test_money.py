"""Money of the stand-in: exact in both directions."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.openrouter.money import PICO_PER_USD, pico_from_usd, usd_number, usd_text


@given(st.integers(min_value=-8191 * PICO_PER_USD, max_value=8191 * PICO_PER_USD))
def test_the_json_number_of_an_amount_is_exact_below_8192_usd(pico):
    assert Decimal(repr(usd_number(pico))) * PICO_PER_USD == pico


@given(st.integers(min_value=0, max_value=10**30))
def test_whole_dollars_are_integers_however_many_there_are(dollars):
    assert usd_number(dollars * PICO_PER_USD) == dollars
    assert isinstance(usd_number(dollars * PICO_PER_USD), int)


@given(st.integers(min_value=0, max_value=10**20))
def test_text_and_amount_are_two_forms_of_the_same(pico):
    assert pico_from_usd(usd_text(pico)) == pico


def test_a_price_with_ten_decimals_keeps_all_of_them():
    assert pico_from_usd("0.0000002574") == 257_400


def test_an_amount_finer_than_a_pico_dollar_is_refused():
    with pytest.raises(ValueError, match="finer than 1e-12"):
        pico_from_usd("0.0000000000001")
