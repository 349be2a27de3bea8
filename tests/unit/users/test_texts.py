"""What a text about oneself may hold, what kind of image a file is, and who may act on whom."""

from datetime import timedelta

import pytest

from functions.users.domain import (
    MAGIC_BYTES,
    as_line,
    as_paragraphs,
    image_type,
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


PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR"
JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01"
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 "


@pytest.mark.parametrize(("content", "kind"), [(PNG, "image/png"), (JPEG, "image/jpeg"), (WEBP, "image/webp")])
def test_an_image_is_known_by_its_first_bytes(content, kind):
    assert image_type(content[:MAGIC_BYTES]) == kind


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", b"<svg xmlns=", b"<html><script>", b"RIFF\x24\x00\x00\x00WAVE", b"\x89PNG\n", b" " + PNG, b"MZ"],
)
def test_anything_else_is_no_image(content):
    assert image_type(content[:MAGIC_BYTES]) is None


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
