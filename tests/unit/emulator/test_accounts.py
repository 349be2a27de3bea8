"""Keys and their money: who is let in, what is left, and what can be afforded."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.openrouter.accounts import Accounts, preflight
from emulator.openrouter.errors import ApiError
from emulator.openrouter.money import PICO_PER_USD, pico_from_usd
from emulator.openrouter.pricing import read_price

KEY = "sk-or-v1-test"
PRICE = read_price({"prompt": "0.000001", "completion": "0.000002"})


class Clock:
    def __init__(self, year, month, day):
        self.time = datetime(year, month, day, tzinfo=UTC)

    def __call__(self):
        return self.time.timestamp()


@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        (None, "Missing Authentication header"),
        ("", "Missing Authentication header"),
        ("Bearer wrong", "User not found."),
        ("Bearer sk-or-v1-", "User not found."),
        ("Basic sk-or-v1-test", "User not found."),
    ],
)
def test_strangers_are_refused_as_the_real_api_words_it(authorization, message):
    with pytest.raises(ApiError) as refused:
        Accounts(Clock(2026, 11, 22)).authenticate(authorization)
    assert (refused.value.status, refused.value.message) == (401, message)


def test_a_key_of_the_right_shape_is_opened_with_1000_usd():
    accounts = Accounts(Clock(2026, 11, 22))
    account = accounts.authenticate(f"Bearer {KEY}")
    assert account.balance == 1000 * PICO_PER_USD
    assert accounts.authenticate(f"bearer {KEY}") is account


@given(st.lists(st.integers(0, 10**12), max_size=20), st.integers(0, 10**15))
def test_limit_remaining_is_the_grant_minus_every_charge(charges, balance):
    accounts = Accounts(Clock(2026, 11, 22))
    account = accounts.set_balance(KEY, balance, management=None)
    for charge in charges:
        accounts.charge(account, charge)
    assert account.balance == balance - sum(charges)
    assert account.used == sum(charges)


def test_usage_is_counted_by_day_week_and_month():
    clock = Clock(2026, 10, 31)  # a Saturday
    accounts = Accounts(clock)
    account = accounts.open(KEY)
    for month, day in ((10, 31), (11, 1), (11, 2), (11, 3)):
        clock.time = datetime(2026, month, day, tzinfo=UTC)
        accounts.charge(account, PICO_PER_USD)
    described = accounts.describe(account)
    assert [described[f"usage{span}"] for span in ("", "_monthly", "_weekly", "_daily")] == [4, 3, 2, 1]


def test_setting_a_balance_does_not_rewrite_what_was_used():
    accounts = Accounts(Clock(2026, 11, 22))
    account = accounts.open(KEY)
    accounts.charge(account, 5)
    accounts.set_balance(KEY, 100, management=None)
    assert (account.balance, account.used) == (100, 5)


def test_credits_are_for_management_keys_and_add_up_all_keys():
    accounts = Accounts(Clock(2026, 11, 22))
    user = accounts.set_balance(KEY, 3 * PICO_PER_USD, management=None)
    manager = accounts.set_balance(f"{KEY}-manager", 2 * PICO_PER_USD, management=True)
    accounts.charge(user, PICO_PER_USD)
    assert accounts.credits(manager) == {"total_credits": 5, "total_usage": 1}
    with pytest.raises(ApiError) as refused:
        accounts.credits(user)
    assert refused.value.status == 403


def _check(balance_usd, max_tokens=100, *, free=False):
    preflight(pico_from_usd(balance_usd), PRICE, prompt_tokens=1000, max_tokens=max_tokens, free=free)


def test_a_request_that_is_just_affordable_passes():
    _check("0.0012")


def test_a_request_that_is_too_dear_learns_how_many_tokens_it_can_afford():
    with pytest.raises(ApiError) as refused:
        _check("0.00115")
    assert refused.value.status == 402
    assert "You requested up to 100 tokens, but can only afford 75." in refused.value.message
    assert refused.value.metadata == {"provider_name": None}


def test_a_prompt_that_cannot_be_paid_is_refused_for_lack_of_credits():
    with pytest.raises(ApiError, match="Insufficient credits"):
        _check("0.0009")


def test_an_empty_balance_allows_free_models_and_a_negative_one_allows_nothing():
    _check("0", free=True)
    with pytest.raises(ApiError, match="Insufficient credits"):
        _check("-0.01", free=True)


@given(st.integers(0, 10**10), st.integers(1, 10**5), st.integers(1, 10**5))
def test_what_the_refusal_calls_affordable_is_affordable_and_one_more_is_not(balance, prompt, wanted):
    affordable = (balance - prompt * PRICE.prompt) // PRICE.completion

    def passes(max_tokens):
        try:
            preflight(balance, PRICE, prompt_tokens=prompt, max_tokens=max_tokens, free=False)
        except ApiError:
            return False
        return True

    assert passes(wanted) is (balance > 0 and 0 <= wanted <= affordable)
