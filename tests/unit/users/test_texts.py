"""What a text about oneself may hold, and who may act on whom."""

from datetime import timedelta

import pytest

from functions.users.domain import (
    as_line,
    as_paragraphs,
    may_act_on,
    signed_in_recently,
    takes_power,
)
from shared.identity.permissions import Role
from tests.unit.users.people import NOW


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  Ada  ", "Ada"),
        ("Ade\u0301", "Ad\u00e9"),
        ("\u0628\u200c\u0628", "\u0628\u200c\u0628"),
        ("👩\u200d🚀 Ada", "👩\u200d🚀 Ada"),
    ],
    ids=["spaces", "composed", "persian joiner", "emoji joiner"],
)
def test_a_name_keeps_what_can_be_seen(typed, kept):
    assert as_line(typed) == kept


@pytest.mark.parametrize(
    "typed",
    ["", "   ", "a\nb", "a\tb", "a\x00b", "a\u202eb", "a\u200bb", "a\u2028b", "a\ufeffb", "a\ud800b", "a\U000e0041b"],
)
def test_a_name_holds_nothing_invisible(typed):
    with pytest.raises(ValueError, match="must not"):
        as_line(typed)


@pytest.mark.parametrize(
    "typed", ["\u200d", "\u200c\u200d", "\u3164", "\u2800 \u2800", "\u115f", "\ufe0f", "\u0301"], ids=ascii
)
def test_a_name_that_shows_nothing_is_no_name(typed):
    with pytest.raises(ValueError, match="must not hold"):
        as_line(typed)


def test_a_bio_may_have_lines_and_nothing_else_invisible():
    assert as_paragraphs("one\r\ntwo\n\nthree") == "one\ntwo\n\nthree"
    with pytest.raises(ValueError, match="invisible"):
        as_paragraphs("one\ttwo")


@pytest.mark.parametrize("operator", [Role.SUPPORT, Role.MODERATOR])
@pytest.mark.parametrize("target", [Role.SUPPORT, Role.MODERATOR, Role.ADMIN])
def test_operators_do_not_act_on_one_another(operator, target):
    assert not may_act_on(operator, target)


@pytest.mark.parametrize("target", list(Role))
def test_an_admin_may_act_on_everybody(target):
    assert may_act_on(Role.ADMIN, target)


def test_a_moderator_may_act_on_users():
    assert may_act_on(Role.MODERATOR, Role.USER)


ORDER = [Role.USER, Role.SUPPORT, Role.MODERATOR, Role.ADMIN]


@pytest.mark.parametrize("old", ORDER)
@pytest.mark.parametrize("new", ORDER)
def test_only_a_lesser_role_takes_power(old, new):
    assert takes_power(old, new) == (ORDER.index(new) < ORDER.index(old))


def test_a_sign_in_is_recent_for_five_minutes():
    assert signed_in_recently(NOW - timedelta(minutes=5), NOW)
    assert not signed_in_recently(NOW - timedelta(minutes=5, seconds=1), NOW)
    assert not signed_in_recently(None, NOW)
