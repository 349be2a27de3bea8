"""Ids say what they name, cannot be guessed, and never lead out of their place in a path."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ids import is_safe_id, new_id


def test_an_id_says_what_it_names_and_is_safe():
    made = new_id("msg")
    assert re.fullmatch(r"msg_[A-Za-z0-9]{22}", made)
    assert is_safe_id(made)


def test_ids_do_not_repeat():
    assert len({new_id("x") for _ in range(2000)}) == 2000


@pytest.mark.parametrize("value", ["a", "msg_1", "a.b", "2026-01-01", "user@example.com", "consumer:evt_1", "x" * 128])
def test_plain_names_are_safe(value):
    assert is_safe_id(value)


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a/b", "../a", "a b", "a\n", "\na", "__name__", "%2e%2e", "ä", "a\x00", "x" * 129]
)
def test_names_that_could_lead_elsewhere_are_not_safe(value):
    assert not is_safe_id(value)


@given(st.text())
def test_a_safe_id_is_one_step_of_a_path(value):
    if is_safe_id(value):
        assert value.isascii()
        assert value not in {".", ".."}
        assert not set(value) & set("/\\?#% \t\r\n\x00")
