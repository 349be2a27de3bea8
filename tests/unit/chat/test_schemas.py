"""What the chat routes take, and where their limits are."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from functions.chat.schemas import (
    MAX_CONTENT_CHARS,
    ChangeConversation,
    ChatSend,
    ConversationsQuery,
    CreateConversation,
    EventsQuery,
    PageQuery,
    SendMessage,
)


def taken(model: type[BaseModel], /, **values: Any) -> Any:
    """As the pipeline reads a body."""
    return model.model_validate_json(json.dumps(values), strict=True)


def taken_query(model: type[BaseModel], /, **values: str) -> Any:
    """As the pipeline reads a query, where everything is text."""
    return model.model_validate_json(json.dumps(values))


def wrong_fields(model: type[BaseModel], /, **values: Any) -> set[str]:
    with pytest.raises(ValidationError) as refusal:
        taken(model, **values)
    return {str(problem["loc"][0]) if problem["loc"] else "body" for problem in refusal.value.errors()}


def text_of(body: Any) -> str:
    return body.content if isinstance(body.content, str) else "\n\n".join(part.text for part in body.content)


def parts(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def test_a_question_may_be_text():
    body = taken(SendMessage, content="hello")
    assert text_of(body) == "hello"
    assert body.stream is True
    assert (body.model, body.parent_id, body.max_tokens, body.temperature) == (None, None, None, None)


def test_a_question_may_be_parts_of_text():
    assert text_of(taken(SendMessage, content=parts("one", "two"))) == "one\n\ntwo"


def test_a_part_may_be_empty_as_long_as_another_is_not():
    assert text_of(taken(SendMessage, content=parts("", "two"))).strip() == "two"


@pytest.mark.parametrize("content", ["", " ", "\n\t ", "\u00a0", [], parts(""), parts(" ", "\n")])
def test_an_empty_question_is_refused(content):
    assert wrong_fields(SendMessage, content=content) <= {"content", "body"}


@pytest.mark.parametrize(
    "content",
    [
        1,
        True,
        {"text": "x"},
        ["x"],
        [{"type": "text"}],
        [{"text": "x"}],
        [{"type": "image", "text": "x"}],
        [{"type": "text", "text": 1}],
        [{"type": "text", "text": "x", "more": 1}],
        [parts("x")],
    ],
)
def test_a_question_of_another_shape_is_refused(content):
    assert wrong_fields(SendMessage, content=content) == {"content"}


def test_the_text_of_a_question_has_a_limit():
    assert len(text_of(taken(SendMessage, content="x" * MAX_CONTENT_CHARS))) == MAX_CONTENT_CHARS
    wrong_fields(SendMessage, content="x" * (MAX_CONTENT_CHARS + 1))
    wrong_fields(SendMessage, content=parts("x" * (MAX_CONTENT_CHARS + 1)))


def test_the_parts_of_a_question_have_the_same_limit_in_all():
    half = "x" * (MAX_CONTENT_CHARS // 2)
    assert len(text_of(taken(SendMessage, content=parts(half, half[2:])))) == MAX_CONTENT_CHARS
    wrong_fields(SendMessage, content=parts(half, half))


def test_a_question_has_at_most_32_parts():
    assert text_of(taken(SendMessage, content=parts(*["x"] * 32))).count("x") == 32
    assert wrong_fields(SendMessage, content=parts(*["x"] * 33)) == {"content"}


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("max_tokens", [1, 128_000], [0, -1, 128_001, 1.5, "1", True]),
        ("temperature", [0, 0.7, 2], [-0.1, 2.1, "1", True]),
        ("model", ["acme/one", "x" * 200], ["x" * 201, 1]),
        ("parent_id", ["msg_1", "x" * 128], ["", "a/b", "..", "x" * 129, 1]),
        ("stream", [True, False], ["true", 1, None]),
    ],
)
def test_a_setting_of_a_question_has_its_limits(field, good, bad):
    for value in good:
        assert getattr(taken(SendMessage, content="x", **{field: value}), field) == value
    for value in bad:
        assert wrong_fields(SendMessage, content="x", **{field: value}) == {field}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_temperature_that_is_no_number_is_refused(number):
    with pytest.raises(ValidationError):
        SendMessage.model_validate_json('{"content": "x", "temperature": ' + number + "}", strict=True)


@pytest.mark.parametrize("model", [SendMessage, ChatSend])
def test_a_misspelt_field_is_noticed(model):
    assert wrong_fields(model, content="x", temprature=1) == {"temprature"}
    assert wrong_fields(CreateConversation, titel="x") == {"titel"}


def test_a_question_over_the_callable_may_name_its_conversation():
    assert taken(ChatSend, content="x").conversation_id is None
    assert taken(ChatSend, content="x", conversation_id="conv_1").conversation_id == "conv_1"
    assert wrong_fields(ChatSend, content="x", conversation_id="a/b") == {"conversation_id"}
    assert wrong_fields(SendMessage, content="x", conversation_id="conv_1") == {"conversation_id"}


def test_a_title_has_its_limits():
    assert taken(CreateConversation).title is None
    assert taken(CreateConversation, title="x" * 200).title == "x" * 200
    assert wrong_fields(CreateConversation, title="") == {"title"}
    assert wrong_fields(CreateConversation, title="x" * 201) == {"title"}


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_text_that_cannot_be_stored_is_refused(text):
    for content in (text, parts(text), parts("fine", text)):
        with pytest.raises(ValidationError):
            SendMessage.model_validate({"content": content})
    with pytest.raises(ValidationError):
        CreateConversation.model_validate({"title": text})


@given(st.text(max_size=200))
def test_what_a_user_writes_is_asked_unchanged(text):
    if not text.strip():
        return
    assert text_of(taken(SendMessage, content=text)) == text
    assert text_of(taken(SendMessage, content=parts(text))) == text


@pytest.mark.parametrize("limit", ["0", "101", "-1", "x", ""])
def test_a_page_has_between_1_and_100_items(limit):
    assert taken_query(PageQuery, limit="1").limit == 1
    assert taken_query(PageQuery, limit="100").limit == 100
    with pytest.raises(ValidationError):
        taken_query(PageQuery, limit=limit)


@pytest.mark.parametrize(("field", "value"), [("after", "-1"), ("wait_s", "26"), ("wait_s", "-1"), ("wait_s", "NaN")])
def test_a_reader_of_events_waits_for_a_bounded_time(field, value):
    query = taken_query(EventsQuery, after="7", wait_s="25")
    assert (query.after, query.wait_s) == (7, 25)
    with pytest.raises(ValidationError):
        taken_query(EventsQuery, **{field: value})


# What else a question may say


def function(name: str = "look") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}


def test_a_question_is_text_or_results_and_never_both_nor_neither():
    result = [{"tool_call_id": "c1", "content": "42"}]
    assert taken(SendMessage, tool_results=result).tool_results[0].content == "42"
    assert wrong_fields(SendMessage) == {"content"}
    assert wrong_fields(SendMessage, content=None) == {"content"}
    assert wrong_fields(SendMessage, content="hi", tool_results=result) == {"content"}


def test_tools_go_to_the_model_as_they_were_given():
    tool = function() | {}
    tool["function"]["strict"] = True
    body = taken(SendMessage, content="hi", tools=[tool], tool_choice="auto", stop=["END"], seed=7)
    assert body.parameters == {"tools": [tool], "tool_choice": "auto", "stop": ["END"], "seed": 7}


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        ({"tools": []}, {"tools"}),
        ({"tools": [function("not a name")]}, {"tools"}),
        ({"tools": [{"type": "web_search"}]}, {"tools"}),
        ({"tools": [function(f"f{place}") for place in range(129)]}, {"tools"}),
        ({"tool_choice": "auto"}, {"body"}),
        ({"response_format": {"schema": "x" * 70_000}}, {"response_format"}),
        ({"response_format": "json"}, {"response_format"}),
        ({"fallbacks": ["a/b"] * 4}, {"fallbacks"}),
        ({"context_tokens": 999}, {"context_tokens"}),
        ({"reasoning": {"effort": "huge"}}, {"reasoning"}),
        ({"stop": [""]}, {"stop"}),
        ({"system_prompt": "mine"}, {"system_prompt"}),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(values, wrong):
    assert wrong_fields(SendMessage, content="hi", **values) == wrong


def test_tools_are_bounded_in_all():
    large = function()
    large["function"]["parameters"] = {"description": "x" * 40_000}
    assert wrong_fields(SendMessage, content="hi", tools=[large, large]) == {"body"}


def test_an_attachment_is_named_by_its_upload():
    body = taken(SendMessage, content=[{"type": "image", "upload_id": "upl_1"}])
    assert body.content[0].upload_id == "upl_1"
    assert wrong_fields(SendMessage, content=[{"type": "image", "upload_id": "a/b"}]) == {"content"}


# Conversations


def test_a_temporary_chat_may_say_how_long_it_is_kept():
    assert taken(CreateConversation, temporary=True, retention_hours=1).retention_hours == 1
    assert wrong_fields(CreateConversation, retention_hours=1) == {"body"}
    assert wrong_fields(CreateConversation, temporary=True, retention_hours=24 * 31) == {"retention_hours"}


def test_tags_are_distinct_whatever_their_case():
    assert taken(ChangeConversation, tags=["work", " to  do "]).tags == ["work", "to do"]
    assert wrong_fields(ChangeConversation, tags=["work", "Work"]) == {"tags"}
    assert wrong_fields(ChangeConversation, tags=[f"t{place}" for place in range(21)]) == {"tags"}


def test_one_filter_at_a_time():
    assert taken_query(ConversationsQuery, folder_id="f1").folder_id == "f1"
    with pytest.raises(ValidationError):
        taken_query(ConversationsQuery, folder_id="f1", tag="work")
