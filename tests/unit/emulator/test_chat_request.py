"""Reading chat requests: what is checked is named in the refusal, what is unknown passes."""

import pytest

from emulator.openrouter import chat_request
from emulator.openrouter.errors import ApiError

HELLO = [{"role": "user", "content": "Hello"}]


def _read(**body):
    return chat_request.read({"model": "openai/gpt-4o-mini", "messages": HELLO, **body})


def test_unknown_fields_are_ignored():
    assert _read(nobody_knows=1, usage={"include": True}).models == ("openai/gpt-4o-mini",)


def test_text_parts_are_joined_and_pictures_count():
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}
    message = {"role": "user", "content": [{"type": "text", "text": "Look"}, picture, {"type": "text", "text": "here"}]}
    read = _read(messages=[message])
    assert read.asked == "Look\nhere"
    assert read.messages[0].media_tokens == chat_request.MEDIA_TOKENS


def test_max_completion_tokens_wins_over_the_old_name():
    assert _read(max_tokens=5, max_completion_tokens=7).max_tokens == 7


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        ({}, None),
        ({"reasoning": {"effort": "high"}}, True),
        ({"reasoning": {"effort": "none"}}, False),
        ({"reasoning": {"enabled": False}}, False),
        ({"reasoning": {"max_tokens": 100}}, True),
        ({"reasoning_effort": "low"}, True),
        ({"include_reasoning": True}, True),
    ],
)
def test_reasoning_is_asked_for_in_many_ways(asked, wanted):
    assert _read(**asked).reasoning is wanted


def test_reasoning_can_be_hidden():
    assert _read(reasoning={"enabled": True, "exclude": True}).reasoning_hidden


def test_fallbacks_follow_the_model():
    assert _read(models=["a/b", "c/d"]).models == ("openai/gpt-4o-mini", "a/b", "c/d")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"messages": []}, "Input required"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages.0.content.0.type"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.tool_call_id"),
        ({"model": None}, "No models provided"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"stream": "yes"}, "stream"),
        ({"stop": ["1", "2", "3", "4", "5"]}, "stop"),
        ({"tools": [{"type": "function"}]}, "tools.0.function.name"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"provider": {"only": "openai"}}, "only"),
    ],
)
def test_a_malformed_request_is_refused_with_400_and_the_field(wrong, named):
    with pytest.raises(ApiError) as refused:
        _read(**wrong)
    assert refused.value.status == 400
    assert named in refused.value.message
