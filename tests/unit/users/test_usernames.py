"""What a user name is: one spelling for each, nothing that looks like another, none that speaks for the product."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.users.domain import as_username, is_reserved, needs_reservation
from shared.identity.accounts import default_username


@pytest.mark.parametrize("name", ["bob", "a1b", "ada.lovelace", "x_y_z", "b" * 30, "a.b_c.d"])
def test_a_plain_name_is_taken_as_it_is(name):
    assert as_username(name) == name


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("Ada", "ada"),
        ("\uff21\uff24\uff21", "ada"),
        ("ﬁona", "fiona"),
        ("\u212aarl", "karl"),
        ("B①", None),
        ("ada²", "ada2"),
    ],
    ids=["capitals", "full width", "ligature", "kelvin sign", "too short", "superscript"],
)
def test_other_forms_of_the_same_letters_are_the_same_name(typed, meant):
    if meant is None:
        with pytest.raises(ValueError, match="3 to 30"):
            as_username(typed)
    else:
        assert as_username(typed) == meant


@pytest.mark.parametrize(
    "name",
    [
        "\u0430dmin",
        "groß",
        "\u0131stanbul",
        "naïve",
        "αλφα",
        "名前名",
        "zero\u200bwidth",
        "right\u202eleft",
        "e\u0301lan",
    ],
)
def test_what_only_looks_like_ascii_is_refused(name):
    with pytest.raises(ValueError, match="a-z, 0-9"):
        as_username(name)


@pytest.mark.parametrize(
    "name",
    [
        "ab",
        "b" * 31,
        "1abc",
        "_abc",
        ".abc",
        "abc.",
        "abc_",
        "a..b",
        "a__b",
        "a._b",
        "a b",
        "a-b",
        "a/b",
        "a@b",
        "a\nb",
    ],
)
def test_a_name_of_another_shape_is_refused(name):
    with pytest.raises(ValueError, match="must"):
        as_username(name)


@given(st.text(max_size=40))
def test_whatever_is_accepted_is_plain_and_stays_itself(text):
    try:
        name = as_username(text)
    except ValueError:
        return
    assert re.fullmatch(r"[a-z][a-z0-9._]{2,29}", name)
    assert as_username(name) == name
    assert as_username(name.upper()) == name


@pytest.mark.parametrize(
    "name",
    ["admin", "ad.min", "craft_pilot", "support", "admin1", "moderator99", "me0", "user_me", "user_abcdefghijkl"],
)
def test_a_name_that_speaks_for_others_is_reserved(name):
    assert is_reserved(as_username(name))


@pytest.mark.parametrize("name", ["bob", "adminton", "badmin", "users_friend", "userland"])
def test_a_name_that_only_contains_a_reserved_word_is_free(name):
    assert not is_reserved(as_username(name))


@given(st.text(min_size=1, max_size=64))
def test_a_default_name_is_valid_reserved_and_needs_no_reservation(uid):
    name = default_username(uid)

    assert as_username(name) == name
    assert is_reserved(name)
    assert not needs_reservation(name)


def test_a_chosen_name_needs_a_reservation():
    assert needs_reservation("bob")
