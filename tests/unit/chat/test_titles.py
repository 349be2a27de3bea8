"""What becomes of a title that a model makes: whatever it says, one clean line that is safe to show."""

# ruff: noqa: RUF001 - the quotes and letters of other languages are the point here

import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chat import titles
from functions.chat.domain import TITLE_CHARS, UNTITLED, Message, TokenUsage
from functions.chat.titles import cleaned, first_words
from functions.chat.utility import WORTH_A_MODEL, Said, is_fresh
from shared.events import Event

NO_USAGE = TokenUsage(prompt_tokens=0, completion_tokens=0, reasoning_tokens=0, cached_tokens=0, cost_pico_usd=0)
QUOTES = ['"', "'", "“", "”", "«", "»", "“Blue”"]
MARKUP = ["**", "*", "_", "`", "```", "#", "# ", "- ", "[", "](https://x.example)", "~~", "---", "Title: ", "title："]
OTHERS = ["\n", "\u202e", ".", "…", " ", "Blue", "heron", "空", "\x00", "\ud800", "🚀", "long " * 13]
ADORNMENT = st.sampled_from([*QUOTES, *MARKUP, *OTHERS])


def said(text: str, *, whole: bool = True) -> Said:
    return Said(text, whole, "completed", "acme/one", "acme/one", "gen-1", NO_USAGE)


def asked(*parts: dict) -> Message:
    return Message("m1", None, "user", parts)


def text(words: str) -> dict:
    return {"type": "text", "text": words}


def file(name: str) -> dict:
    return {"type": "file", "upload_id": "u", "name": name, "content_type": "text/plain", "size_bytes": 1}


@pytest.mark.parametrize(
    ("answer", "title"),
    [
        ("How Herons Fish", "How Herons Fish"),
        ('"How Herons Fish"', "How Herons Fish"),
        ("“How Herons Fish.”", "How Herons Fish"),
        ("«Comment pêchent les hérons»", "Comment pêchent les hérons"),
        ("「鷺の漁」。", "鷺の漁"),
        ("**How Herons Fish**", "How Herons Fish"),
        ("**Title:** How Herons Fish", "How Herons Fish"),
        ("Title: “**How Herons Fish**”.", "How Herons Fish"),
        ("Başlık: Balıkçıllar", "Balıkçıllar"),
        ("# How Herons Fish\n\nA short text about herons.", "How Herons Fish"),
        ("Title:\nHow Herons Fish", "How Herons Fish"),
        ("```\nHow Herons Fish\n```", "How Herons Fish"),
        ("- How Herons Fish", "How Herons Fish"),
        ("How `git rebase` works", "How git rebase works"),
        ("[Herons](https://evil.example/?q=1)", "Herons"),
        ("\u202eHow Herons\u200b Fish\x07", "How Herons Fish"),
        ("How   Herons\tFish", "How Herons Fish"),
    ],
)
def test_what_models_put_around_a_title_is_taken_off(answer, title):
    assert cleaned(answer) == title


@pytest.mark.parametrize(
    "title",
    [
        "'Tis the season",
        "It's a dog's life",
        '"To be" or "not to be"',
        "C# or F#?",
        "Why 2 * 3 * 4 is 24",
        "snake_case_names",
        "__init__ in Python",
        "1984 by Orwell",
        "Title fights in boxing",
        "Wait…",
        "Familie 👨‍👩‍👧",
    ],
)
def test_what_belongs_to_a_title_stays(title):
    assert cleaned(title) == title


@pytest.mark.parametrize("answer", ["", "  \n ", '""', "...", "***", "---", "```\n```", "Title:", "“”", "?!", "\u200b"])
def test_an_answer_that_says_nothing_is_no_title(answer):
    assert cleaned(answer) == ""


@given(st.one_of(st.text(), st.lists(ADORNMENT, max_size=12).map("".join)))
def test_a_title_is_one_bounded_line_without_invisible_marks_and_cleaning_it_again_changes_nothing(answer):
    title = cleaned(answer)
    assert len(title) <= TITLE_CHARS
    assert title == " ".join(title.split())
    assert not {unicodedata.category(character) for character in title} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(title) & titles._DIRECTIONS
    assert cleaned(title) == title


@given(st.text(alphabet=st.characters(categories=["Lu", "Ll", "Lo"]), min_size=1, max_size=TITLE_CHARS))
def test_a_plain_word_is_a_title_whatever_the_language(word):
    assert cleaned(f'"**{word}**"') == word


def test_a_title_of_any_length_takes_no_time_to_clean():
    assert len(cleaned("**a" * 100_000)) <= TITLE_CHARS
    assert len(cleaned("[" * 100_000 + "a")) <= TITLE_CHARS


def test_half_a_word_at_the_end_of_a_title_that_was_cut_off_is_left_out():
    assert titles._from_model(said("How Herons Catch Fi", whole=False)) == "How Herons Catch"
    assert titles._from_model(said("Donaudampfschifffahrt", whole=False)) == "Donaudampfschifffahrt"


@pytest.mark.parametrize("answer", ["", '""', UNTITLED, f'"{UNTITLED}."'])
def test_an_answer_that_is_no_better_than_no_title_counts_as_none(answer):
    assert titles._from_model(said(answer)) is None


def test_first_words_are_those_of_the_question_or_else_the_names_of_what_was_attached():
    assert first_words(asked(text("What is this?"), file("plan.txt"))) == "What is this?"
    assert first_words(asked(file("plan.txt"), file("budget.csv"))) == "plan.txt, budget.csv"
    assert first_words(asked()) == UNTITLED


def test_an_event_that_comes_hours_late_is_not_worth_a_model():
    at = datetime(2026, 1, 1, tzinfo=UTC)
    event = Event("evt_1", "chat.message.completed", 1, "chat-events", "u1", "s", {}, at, "")
    assert is_fresh(event, at + timedelta(minutes=5))
    assert not is_fresh(event, at + WORTH_A_MODEL)
