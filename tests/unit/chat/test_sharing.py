"""What others see of a shared conversation, and how it is cut into pieces."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chat.sharing import domain, repository, service
from functions.chat.sharing.domain import (
    MAX_BYTES,
    MAX_MESSAGES,
    PIECE_BYTES,
    TOKEN,
    Cursor,
    Revision,
    pieces_of,
    shown,
)
from shared.errors import InvalidRequest, NotFound, RateLimited
from shared.identity import keys
from shared.limits import admission
from shared.limits.policies import FAILED_LINKS

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECRET = "must not be seen"


def stored(*parts, role="assistant", **more):
    return {"role": role, "parts": list(parts), "created_at": NOW, "status": "completed", **more}


def text(value):
    return {"type": "text", "text": value}


EVERY_PART = (
    {"type": "reasoning", "text": SECRET},
    text("Hello"),
    {"type": "image", "upload_id": SECRET, "name": "a.png", "content_type": "image/png", "size_bytes": 7},
    {"type": "file", "upload_id": SECRET, "name": "b.pdf", "content_type": "application/pdf", "size_bytes": 7},
    {"type": "tool_call", "id": SECRET, "name": SECRET, "arguments": SECRET},
    {"type": "tool_result", "tool_call_id": SECRET, "text": SECRET},
    {"type": "citation", "url": "https://example.com", "title": "Example", "start": 0, "end": 5, "other": SECRET},
    {"type": "of the future", "text": SECRET},
)


def test_others_see_texts_citations_and_the_names_of_attachments_and_nothing_else():
    message = stored(
        *EVERY_PART,
        model="acme/one",
        parent_id=SECRET,
        generation_id=SECRET,
        usage={"prompt_tokens": SECRET},
        credits={"charged_micro": SECRET},
        reasoning_details=SECRET,
        finish_reason=SECRET,
        of_the_future=SECRET,
    )
    seen = shown(message)
    assert SECRET not in json.dumps(seen)
    assert seen == {
        "role": "assistant",
        "parts": [
            text("Hello"),
            {"type": "image", "name": "a.png", "content_type": "image/png"},
            {"type": "file", "name": "b.pdf", "content_type": "application/pdf"},
            {"type": "citation", "url": "https://example.com", "title": "Example", "start": 0, "end": 5},
        ],
        "model": "acme/one",
        "created_at": "2026-03-01T12:00:00+00:00",
    }


@pytest.mark.parametrize(
    "message",
    [
        stored(text("result"), role="tool"),
        stored(text("prompt"), role="system"),
        stored({"type": "tool_call", "id": "1", "name": "f", "arguments": "{}"}),
        stored({"type": "reasoning", "text": "hm"}, text("")),
        stored(),
    ],
    ids=["a tool", "a system", "only a call", "only reasoning", "nothing"],
)
def test_a_message_of_which_nothing_may_be_seen_is_not_there(message):
    assert shown(message) is None


@pytest.mark.parametrize("url", ["javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "", " https://x"])
def test_a_citation_that_does_more_than_open_a_page_is_not_there(url):
    assert shown(stored({"type": "citation", "url": url, "title": "x"})) is None


@given(st.lists(st.integers(0, 300_000), max_size=30))
def test_the_pieces_together_are_all_messages_in_order(sizes):
    messages = [{"n": number, "text": "x" * size} for number, size in enumerate(sizes)]
    pieces = list(pieces_of(messages))
    assert [each for piece in pieces for each in json.loads(piece.content)] == messages
    starts = [piece.start for piece in pieces]
    for piece, start in zip(pieces, starts, strict=True):
        held = json.loads(piece.content)
        assert held[0]["n"] == start
        assert len(piece.content) <= PIECE_BYTES or len(held) == 1
    revision = Revision(1, "snap", "t", NOW, len(messages), tuple(starts))
    for number in range(len(messages)):
        piece = pieces[revision.piece_of(number)]
        assert json.loads(piece.content)[number - piece.start]["n"] == number


def test_pieces_are_measured_in_bytes():
    pieces = list(pieces_of([{"text": "\N{EARTH GLOBE EUROPE-AFRICA}" * 60_000}] * 4))
    assert [piece.start for piece in pieces] == [0, 2]


@pytest.mark.parametrize(
    "messages",
    [
        [{"text": "x"}] * (MAX_MESSAGES + 1),
        [{"text": "x" * 800_000}] * (MAX_BYTES // 800_000 + 1),
        [{"text": "\x00" * 200_000}],
    ],
    ids=["too many", "too large", "one too large to be stored"],
)
def test_more_than_can_be_shared_is_refused(messages):
    with pytest.raises(InvalidRequest, match="can be shared"):
        list(pieces_of(messages))


def test_as_much_as_can_be_shared_is_shared():
    assert sum(len(json.loads(piece.content)) for piece in pieces_of([{"text": "x"}] * MAX_MESSAGES)) == MAX_MESSAGES


@given(st.integers(1, 999_999), st.integers(1, 999_999))
def test_a_cursor_is_read_as_it_was_written(revision, place):
    assert Cursor.read(str(Cursor(revision, place))) == Cursor(revision, place)


@given(st.text(max_size=20) | st.sampled_from(["0-1", "1-0", "1-1\n", "-1-1", "1-", "01-1", "٣-1", "1-1000000"]))
def test_a_cursor_that_was_made_up_is_refused(made_up):
    if domain._CURSOR.fullmatch(made_up):
        return
    with pytest.raises(InvalidRequest) as refused:
        Cursor.read(made_up)
    assert refused.value.fields[0].field == "cursor"


def test_tokens_are_long_checked_and_never_the_same():
    made = {TOKEN.new() for _ in range(1000)}
    assert len(made) == 1000
    for token in made:
        assert TOKEN.fits(token)
        assert len(token) == len("cp_share_") + 32 + 6


@given(st.integers(0, 46), st.sampled_from("0Az_-"))
def test_a_mistyped_token_is_noticed(place, character):
    token = TOKEN.new(seed="a seed", purpose="test")
    wrong = token[:place] + character + token[place + 1 :]
    assert TOKEN.fits(wrong) == (wrong == token)


def test_an_api_key_is_no_token_and_a_token_is_no_api_key():
    assert not TOKEN.fits(keys.new_key())
    assert not keys.is_well_formed(TOKEN.new())


@pytest.fixture
def nothing_shared(monkeypatch):
    """Every token leads nowhere; gives those that were looked up."""
    looked_up: list[str] = []
    monkeypatch.setattr(repository, "find_share", looked_up.append)
    monkeypatch.setattr(admission, "_clean", admission._CleanNetworks())
    return looked_up


def follow(token, address="203.0.113.7"):
    return service.read(token, revision=None, limit=10, cursor=None, address=address, now=NOW)


@pytest.mark.parametrize(
    "token",
    ["", "x", "cp_share_" + "0" * 38, keys.new_key(), TOKEN.new() + "0"],
    ids=["nothing", "a letter", "zeros", "an API key", "one letter too many"],
)
def test_a_made_up_token_is_refused_without_a_look(nothing_shared, token):
    with pytest.raises(NotFound):
        follow(token)
    assert nothing_shared == []


@pytest.mark.parametrize("make", [TOKEN.new, lambda: "made up"], ids=["well-formed", "made up"])
def test_an_address_may_follow_so_many_links_to_nowhere_and_no_more(nothing_shared, make):
    for _ in range(FAILED_LINKS.quota):
        with pytest.raises(NotFound):
            follow(make())
    with pytest.raises(RateLimited) as refused:
        follow(make())
    assert refused.value.details["reason"] == "failed-links"
    with pytest.raises(NotFound):
        follow(make(), address="203.0.113.8")


def test_links_to_nowhere_do_not_keep_anybody_from_signing_in(nothing_shared):
    for _ in range(FAILED_LINKS.quota):
        with pytest.raises(NotFound):
            follow(TOKEN.new())
    admission.refuse_when_suspicious("203.0.113.7")
