"""A conversation in the words of the provider: nothing that a model refuses, and never more tokens than were held."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chat.domain import Message, Settings
from functions.chat.prompt import GO_ON, MOST_BYTES_OF_A_TOKEN, bound_of, least_tokens, messages_of, parameters_of

CALL = {"type": "tool_call", "id": "c1", "name": "look", "arguments": '{"q":1}'}
RESULT = {"type": "tool_result", "tool_call_id": "c1", "text": "found"}
IMAGE = {"type": "image", "upload_id": "upl_1", "name": "cat.png", "content_type": "image/png", "size_bytes": 1}


def text(role: str, said: str) -> Message:
    return Message("m", None, role, ({"type": "text", "text": said},))


def rendered(*history: Message, shown: Any = None, summary: str = "", **settings: Any) -> list[dict[str, Any]]:
    return messages_of(Settings(**settings), summary, history, shown or {})


def test_the_system_prompt_comes_first_and_the_summary_next():
    messages = rendered(text("user", "hi"), system_prompt="Be brief.", summary="They met.")
    assert [message["role"] for message in messages] == ["system", "user", "user"]
    assert messages[0]["content"] == "Be brief."
    assert messages[1]["content"].endswith("They met.")


def test_calls_go_along_with_their_results_and_what_the_provider_said_of_its_reasoning():
    call = Message("m1", None, "assistant", (CALL,), reasoning_details='[{"type":"reasoning.encrypted","data":"x"}]')
    result = Message("m2", "m1", "tool", (RESULT,))
    assert rendered(text("user", "look"), call, result)[1:] == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"q":1}'}}],
            "reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "found"},
    ]


def test_a_call_that_nobody_answered_does_not_go_along():
    call = Message("m1", None, "assistant", ({"type": "text", "text": "let me look"}, CALL))
    assert rendered(text("user", "look"), call, text("user", "never mind"))[1] == {
        "role": "assistant",
        "content": "let me look",
    }


def test_an_answer_that_goes_on_with_another_is_one_answer():
    messages = rendered(text("user", "tell"), text("assistant", "Once upo"), text("assistant", "n a time"))
    assert messages[-1] == {"role": "assistant", "content": "Once upon a time"}


def test_more_of_an_answer_is_asked_for_in_words():
    messages = messages_of(Settings(), "", [text("user", "tell"), text("assistant", "Once")], {}, go_on=True)
    assert messages[-1] == {"role": "user", "content": GO_ON}


def test_an_attachment_is_shown_as_the_provider_takes_it():
    link = {"type": "image_url", "image_url": {"url": "https://files.example/1"}}
    question = Message("m", None, "user", ({"type": "text", "text": "what is it?"}, IMAGE))
    assert rendered(question, shown={"upl_1": link})[0]["content"] == [{"type": "text", "text": "what is it?"}, link]


def test_an_attachment_that_is_gone_is_told_of():
    question = Message("m", None, "user", (IMAGE,))
    assert rendered(question)[0]["content"] == "[cat.png: no longer available]"


def test_only_what_was_set_is_sent():
    assert parameters_of(Settings()) == {}
    settings = Settings(temperature=0.0, top_p=0.5, reasoning={"effort": "low"}, model="acme/one", max_tokens=5)
    assert parameters_of(settings) == {"temperature": 0.0, "top_p": 0.5, "reasoning": {"effort": "low"}}


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text(max_size=50)), max_size=8))
def test_texts_never_make_more_tokens_than_the_bound(said):
    messages = [{"role": role, "content": content} for role, content in said]
    tokens, images, boundless = bound_of(messages, {})
    assert tokens >= sum(len(content.encode()) for _, content in said)
    assert (images, boundless) == (0, False)


def test_images_are_counted_and_not_read_as_text():
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 100_000}}
    tokens, images, boundless = bound_of([{"role": "user", "content": [image, image]}], {})
    assert images == 2
    assert not boundless
    assert tokens < 100


@pytest.mark.parametrize("kind", ["file", "input_audio", "video_url"])
def test_what_nobody_can_measure_has_no_bound(kind):
    assert bound_of([{"role": "user", "content": [{"type": kind}]}], {})[2]


def test_tools_and_schemas_are_part_of_the_prompt():
    tools = [{"type": "function", "function": {"name": "look", "description": "x" * 500}}]
    assert bound_of([], {"tools": tools})[0] > 500
    assert bound_of([], {"response_format": {"type": "json_schema", "json_schema": {"name": "y" * 500}}})[0] > 500
    assert bound_of([], {"temperature": 1})[0] == 2


@pytest.mark.parametrize(
    ("content", "least"),
    [
        (None, 0),
        ("", 0),
        ("x" * MOST_BYTES_OF_A_TOKEN, 1),
        ("ş" * MOST_BYTES_OF_A_TOKEN, 2),
        ("\ud800" * MOST_BYTES_OF_A_TOKEN, 1),
        ([{"type": "text", "text": "x" * 100}, {"type": "image_url", "image_url": {"url": "x" * 9999}}], 0),
        ([{"type": "text", "text": "x" * 100}, {"type": "text", "text": "x" * 100}], 1),
    ],
)
def test_the_fewest_tokens_are_those_of_the_longest_there_are(content, least):
    messages = [{"role": "user", "content": content}]
    assert least_tokens(messages) == least
    assert least <= bound_of(messages, {})[0]
