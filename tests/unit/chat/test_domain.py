"""The rules of conversations: what a branch is, what an answer is made of, what a conversation is called."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chat.domain import (
    TITLE_CHARS,
    UNTITLED,
    Generation,
    Message,
    Outcome,
    Question,
    Settings,
    Status,
    merged_reasoning,
    overflowing_field,
    require_answers_to_calls,
    title_from,
)
from shared.errors import InvalidRequest


def message(message_id: str) -> Message:
    return Message(message_id, None, "user", ({"type": "text", "text": "hello"},))


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("", UNTITLED),
        ("  \n\t ", UNTITLED),
        ("Hello", "Hello"),
        ("  Hello \n  there\t", "Hello there"),
        ("x" * TITLE_CHARS, "x" * TITLE_CHARS),
        ("x" * (TITLE_CHARS + 1), "x" * (TITLE_CHARS - 1) + "…"),
        ("word " * 20, " ".join(["word"] * 12) + "…"),
    ],
)
def test_a_title_is_the_first_words_of_what_was_asked(text, title):
    assert title_from(text) == title


@given(st.text())
def test_a_title_is_one_line_of_bounded_length(text):
    title = title_from(text)
    assert title
    assert len(title) <= TITLE_CHARS
    assert title == " ".join(title.split())
    line = " ".join(text.split())
    assert line.startswith(title.removesuffix("…")) or title == UNTITLED


# Settings


def test_what_a_question_says_wins_over_the_conversation_and_leaves_the_rest():
    of_conversation = Settings(model="acme/one", temperature=0.5, system_prompt="Be brief.")
    asked = Settings(model="acme/two", top_p=0.0)
    assert asked.over(of_conversation) == Settings(
        model="acme/two", temperature=0.5, top_p=0.0, system_prompt="Be brief."
    )


# What an answer is made of


def outcome(**values: Any) -> Outcome:
    return Outcome(**{"status": Status.COMPLETED, "ended_at": None, **values})


def test_the_parts_of_an_answer_are_its_reasoning_its_text_its_calls_and_its_sources():
    call = {"index": 0, "id": "c1", "name": "look", "arguments": "{}"}
    source = {"url": "https://a.example", "title": "A", "start": 0, "end": 2}
    parts = outcome(text="so", reasoning="hm", tool_calls=(call,), citations=(source,)).parts
    assert [part["type"] for part in parts] == ["reasoning", "text", "tool_call", "citation"]
    assert parts[2] == {"type": "tool_call", "id": "c1", "name": "look", "arguments": "{}"}


def test_an_answer_that_only_calls_has_no_empty_text():
    call = {"index": 0, "id": "c1", "name": "look", "arguments": "{}"}
    assert [part["type"] for part in outcome(tool_calls=(call,)).parts] == ["tool_call"]


def test_an_empty_answer_is_an_empty_text_and_says_nothing():
    assert outcome().parts == [{"type": "text", "text": ""}]
    assert not outcome().says_something


@given(st.lists(st.tuples(st.sampled_from(["reasoning.text", "reasoning.summary"]), st.integers(0, 2), st.text())))
def test_fragments_of_reasoning_are_joined_without_loss_and_in_order(fragments):
    items = [{"type": kind, "index": index, "text": text} for kind, index, text in fragments]
    whole = merged_reasoning(items)
    assert "".join(item["text"] for item in whole) == "".join(text for _, _, text in fragments)
    assert all(
        (before["type"], before["index"]) != (after["type"], after["index"]) for before, after in pairwise(whole)
    )


def test_a_signature_that_comes_last_belongs_to_the_reasoning_before_it():
    items = [
        {"type": "reasoning.text", "index": 0, "text": "a", "signature": None},
        {"type": "reasoning.text", "index": 0, "signature": "sig"},
    ]
    assert merged_reasoning(items) == ({"type": "reasoning.text", "index": 0, "text": "a", "signature": "sig"},)


# Results of tools


def calling(*call_ids: str) -> Message:
    calls = tuple({"type": "tool_call", "id": call_id, "name": "f", "arguments": "{}"} for call_id in call_ids)
    return Message("m1", None, "assistant", calls)


def results(*call_ids: str) -> list[dict[str, str]]:
    return [{"type": "tool_result", "tool_call_id": call_id, "text": "42"} for call_id in call_ids]


def test_every_call_answered_once_is_fine():
    require_answers_to_calls(results("b", "a"), calling("a", "b"))


@pytest.mark.parametrize(
    ("answers", "asked", "field"),
    [
        (results("x"), calling("a"), "tool_results[0].tool_call_id"),
        (results("a", "a"), calling("a"), "tool_results[1].tool_call_id"),
        (results("a"), calling("a", "b"), "tool_results"),
        (results("a"), message("m1"), "tool_results[0].tool_call_id"),
        (results("a"), None, "tool_results[0].tool_call_id"),
    ],
)
def test_results_that_answer_no_call_or_leave_one_open_are_refused_by_name(answers, asked, field):
    with pytest.raises(InvalidRequest) as refused:
        require_answers_to_calls(answers, asked)
    assert [problem.field for problem in refused.value.fields] == [field]


def test_only_a_question_of_its_own_adds_a_message():
    assert Question(parts=({"type": "text", "text": "hi"},)).adds_message
    assert not Question(regenerates="m1").adds_message
    assert not Question(continues="m1").adds_message


@pytest.mark.parametrize(
    ("made", "field"),
    [
        ({"conversation_id": None}, "messages"),
        ({}, "content"),
        ({"question_role": "tool"}, "tool_results"),
        ({"user_message_id": None}, "model"),
    ],
)
def test_what_is_too_long_is_called_as_the_request_called_it(made, field):
    generation = Generation(
        id="gen_1",
        uid="ada",
        conversation_id="conv_1",
        message_id="msg_2",
        user_message_id="msg_1",
        parent_id=None,
        model="acme/one",
        markup_percent=0,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    assert overflowing_field(replace(generation, **made)) == field
