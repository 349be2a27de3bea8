"""What may be attached, what it is by its first bytes, and how much of a prompt it can become."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from functions.chat.uploads import domain, schemas
from functions.chat.uploads.domain import Attachment, State, Upload
from functions.models.domain import MOST_IMAGE_TOKENS
from shared import storage
from shared.file_types import MAGIC_BYTES, file_type

NOW = datetime(2026, 3, 1, tzinfo=UTC)
CONTENT = {
    "image/png": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(40),
    "image/jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01" + bytes(40),
    "image/webp": b"RIFF\x24\x00\x00\x00WEBPVP8 " + bytes(40),
    "image/gif": b"GIF89a" + bytes(40),
    "application/pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(40),
}


def said(content_type: str, size_bytes: int) -> Upload:
    return Upload(
        id="upl_1",
        name="a",
        content_type=content_type,
        size_bytes=size_bytes,
        state=State.OPEN,
        conversation_id=None,
        created_at=NOW,
    )


def flaw(content_type: str, content: bytes) -> str | None:
    return domain.flaw(
        said(content_type, len(content)), content_type=content_type, size_bytes=len(content), content=content
    )


def attachment(name: str = "a", content_type: str = "text/plain", size_bytes: int = 1) -> Attachment:
    return Attachment("upl_1", name, content_type, size_bytes, domain.kind_of(content_type), None)


# What a file is


@pytest.mark.parametrize(("kind", "content"), CONTENT.items())
def test_a_file_is_known_by_its_first_bytes(kind, content):
    assert file_type(content[:MAGIC_BYTES]) == kind


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<svg xmlns=",
        b"<html><script>",
        b"RIFF\x24\x00\x00\x00WAVE",
        b"\x89PNG\n",
        b" " + CONTENT["image/png"],
        b"MZ",
        b"GIF90a",
        b"\n%PDF-1.7",
    ],
)
def test_anything_else_is_nothing_we_know(content):
    assert file_type(content[:MAGIC_BYTES]) is None


@given(st.binary(max_size=64))
def test_the_first_bytes_decide_whatever_follows(rest):
    for kind, content in CONTENT.items():
        assert file_type((content[:MAGIC_BYTES] + rest)[:MAGIC_BYTES]) == kind


@pytest.mark.parametrize(("kind", "content"), CONTENT.items())
def test_a_file_is_fit_only_as_what_it_is(kind, content):
    assert flaw(kind, content) is None
    for other in set(CONTENT) - {kind}:
        problem = flaw(other, content)
        assert problem is not None
        assert other in problem


@pytest.mark.parametrize("content", CONTENT.values(), ids=CONTENT)
@pytest.mark.parametrize("text_type", get_args(domain.TextType))
def test_no_image_and_no_pdf_passes_for_a_text(content, text_type):
    assert flaw(text_type, content) is not None


@pytest.mark.parametrize(
    "content",
    [
        b"caf\xe9",
        "utf-16 text".encode("utf-16"),
        b"a\x00b",
        b"%PDF-1.4 all of it plain",
        b"GIF89a plain",
        b"\xed\xa0\x80",
    ],
    ids=["latin-1", "utf-16", "nul", "a plain pdf", "a plain gif", "a lone surrogate"],
)
def test_a_text_is_utf_8_and_no_other_kind_of_file(content):
    assert flaw("text/plain", content) is not None


@given(st.text(min_size=1))
def test_whatever_is_text_is_read_as_it_was_written(text):
    content = text.encode()
    if "\0" in text or file_type(content[:MAGIC_BYTES]):
        assert flaw("text/markdown", content) is not None
    else:
        assert flaw("text/markdown", content) is None
        assert domain.as_text(content) == text.removeprefix("\ufeff")


@pytest.mark.parametrize(
    ("content_type", "size_bytes"), [("image/png", 59), ("image/png", 61), ("image/jpeg", 60)], ids=str
)
def test_a_file_of_another_size_or_type_than_agreed_is_unfit(content_type, size_bytes):
    content = CONTENT["image/png"]
    problem = domain.flaw(
        said("image/png", 60), content_type=content_type, size_bytes=size_bytes, content=content[:MAGIC_BYTES]
    )
    assert problem == "is not the file of 60 bytes and type image/png that it was said to be"


# Names


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("  cat.png ", "cat.png"),
        ("re\u0301sume\u0301.pdf", "r\u00e9sum\u00e9.pdf"),
        ("👩\u200d🚀.png", "👩\u200d🚀.png"),
        ("...png", "...png"),
        ("a" * 200, "a" * 200),
    ],
)
def test_a_name_is_kept_as_it_can_be_seen(typed, kept):
    assert domain.as_file_name(typed) == kept


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "  ",
        ".",
        "..",
        "a/b",
        "../../etc/passwd",
        "a\\b",
        "a\nb",
        "a\x00b",
        "a\x7fb",
        "gpj.\u202eexe",
        "\u200b.png",
        "\ufeff",
        "\u3164",
        "a" * 201,
    ],
    ids=ascii,
)
def test_a_name_leads_nowhere_and_hides_nothing(typed):
    with pytest.raises(ValueError, match="must"):
        domain.as_file_name(typed)


@given(st.text(max_size=250))
def test_a_name_that_is_kept_is_kept_again_as_it_is(typed):
    try:
        name = domain.as_file_name(typed)
    except ValueError:
        return
    assert domain.as_file_name(name) == name
    assert 1 <= len(name) <= 200
    assert not any(unicodedata.category(character) == "Cc" or character in "/\\" for character in name)


# What is asked for


def asked(**body) -> schemas.UploadRequest:
    return schemas.UploadRequest.model_validate(
        {"name": "a.png", "content_type": "image/png", "size_bytes": 100, **body}
    )


@pytest.mark.parametrize(
    ("content_type", "most"),
    [("image/gif", 10 * 1024**2), ("application/pdf", 20 * 1024**2), ("text/x-python", 256 * 1024)],
)
def test_each_kind_of_file_has_its_limit(content_type, most):
    assert asked(content_type=content_type, size_bytes=most).size_bytes == most
    with pytest.raises(ValidationError) as refused:
        asked(content_type=content_type, size_bytes=most + 1)
    assert [error["loc"] for error in refused.value.errors()] == [("size_bytes",)]


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"size_bytes": 0}, "size_bytes"),
        ({"size_bytes": -1}, "size_bytes"),
        ({"size_bytes": 1.5}, "size_bytes"),
        ({"size_bytes": None}, "size_bytes"),
        ({"content_type": "image/svg+xml"}, "content_type"),
        ({"content_type": "text/plain; charset=utf-8"}, "content_type"),
        ({"content_type": "IMAGE/PNG"}, "content_type"),
        ({"name": "a/b"}, "name"),
        ({"name": 5}, "name"),
        ({"upload_id": "upl_mine"}, "upload_id"),
    ],
    ids=str,
)
def test_what_cannot_be_uploaded_is_refused_by_its_field(wrong, field):
    with pytest.raises(ValidationError) as refused:
        asked(**wrong)
    assert {error["loc"][0] for error in refused.value.errors()} == {field}


# What a model is shown


def test_each_kind_is_bounded_in_its_own_way():
    bound = domain.prompt_bound(
        [
            attachment(content_type="image/png", size_bytes=10**7),
            attachment(content_type="image/gif", size_bytes=1),
            attachment("notes", "text/plain", 1000),
        ]
    )
    assert (bound.images, bound.whole_context) == (2, False)
    assert 1000 < bound.text_bytes < 1100
    assert domain.prompt_bound([attachment(content_type="application/pdf")]) == (0, 0, True)
    assert domain.prompt_bound([]) == (0, 0, False)


@given(st.text(min_size=1, max_size=200), st.text(min_size=1))
def test_a_text_never_becomes_more_of_a_prompt_than_its_bound(name, text):
    size_bytes = len(text.encode())
    bound = domain.prompt_bound([attachment(name, "text/csv", size_bytes)])
    assert len(domain.shown_text(name, text).encode()) <= bound.text_bytes
    assert len(domain.gone_text(name).encode()) <= bound.text_bytes


def test_an_image_is_never_more_than_its_bound_for_the_dearest_model():
    from emulator.openrouter import catalogue
    from emulator.openrouter.media import tiles_of

    most_tiles = max(tiles_of(width, height) for width in range(1, 4096, 61) for height in range(1, 4096, 61))
    dearest = max(each.image_input_tokens for each in catalogue.MODELS if each.image_input_tokens is not None)
    assert most_tiles == 8
    assert dearest[0] + most_tiles * dearest[1] == 48_169 <= MOST_IMAGE_TOKENS


def test_every_type_that_may_be_uploaded_is_of_one_kind():
    images, texts = set(get_args(domain.ImageType)), set(get_args(domain.TextType))
    assert images & texts == set()
    assert {domain.kind_of(each) for each in images} == {"image"}
    assert {domain.kind_of(each) for each in (*texts, "application/pdf")} == {"file"}
    assert all(domain.is_text(each) for each in texts)
    assert not any(domain.is_text(each) for each in (*images, "application/pdf"))


# Names in headers


@pytest.mark.parametrize(
    ("name", "plain", "extended"),
    [
        ("notes (1).txt", "notes (1).txt", None),
        ('a";b.txt', "a__b.txt", "a%22%3Bb.txt"),
        ("r\u00e9sum\u00e9.pdf", "r_sum_.pdf", "r%C3%A9sum%C3%A9.pdf"),
        ("it's.txt", "it_s.txt", "it%27s.txt"),
    ],
)
def test_a_name_cannot_break_out_of_the_header_it_stands_in(name, plain, extended):
    header = storage._attachment(name)
    assert header.isascii()
    found = re.fullmatch(r"""attachment; filename="([^"\\;]*)"(?:; filename\*=UTF-8''([A-Za-z0-9%._~-]+))?""", header)
    assert found is not None
    assert found.groups() == (plain, extended)
