"""Tool calls: chosen by words, filled in from the schema."""

import json

import pytest

from emulator.openrouter import chat_request, text, tools

WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
DIVIDE = {
    "name": "divide",
    "parameters": {
        "type": "object",
        "properties": {
            "numerator": {"type": "number"},
            "denominator": {"type": "number"},
            "on_inf": {"type": "string", "enum": ["error", "infinity"], "default": "infinity"},
        },
    },
}


def _calls(asked, choice="auto", offered=(WEATHER, DIVIDE), after=()):
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": asked}, *after],
        "tools": [{"type": "function", "function": function} for function in offered],
        "tool_choice": choice,
    }
    return [
        (call.name, json.loads(call.arguments)) for call in tools.calls_for(chat_request.read(body), text.seeded(asked))
    ]


def test_a_tool_is_called_when_its_name_is_spoken():
    assert [name for name, _ in _calls("How is the weather in İzmir?")] == ["get_weather"]


def test_small_talk_calls_nothing():
    assert _calls("hello") == []


def test_numbers_of_the_question_become_arguments():
    assert _calls("What is 123 / 456?", {"type": "function", "function": {"name": "divide"}}) == [
        ("divide", {"numerator": 123, "denominator": 456, "on_inf": "infinity"})
    ]


def test_a_required_call_is_made_whatever_was_said():
    assert len(_calls("hello", "required")) == 1


def test_none_forbids_calls():
    assert _calls("weather", "none") == []


def test_a_directive_orders_calls_with_their_arguments():
    assert _calls('/tool divide {"numerator": 1}\n/tool get_weather {"city": "Ankara"}') == [
        ("divide", {"numerator": 1}),
        ("get_weather", {"city": "Ankara"}),
    ]


def test_after_the_result_of_a_tool_the_model_speaks():
    answered = [
        {"role": "assistant", "content": "", "tool_calls": []},
        {"role": "tool", "tool_call_id": "1", "content": "sunny"},
    ]
    assert _calls("How is the weather?", after=answered) == []


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "number", "maximum": 0.5}, 0.5),
        ({"type": ["null", "boolean"]}, True),
        ({"anyOf": [{"type": "null"}, {"const": 3}]}, 3),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"type": "string", "format": "email"}, "ayse@example.com"),
        ({"type": "string", "maxLength": 3}, "you"),
        ({"$ref": "#/$defs/x", "$defs": {"x": {"enum": ["a", "b"]}}}, "a"),
        ({"allOf": [{"type": "object"}, {"properties": {"a": {"type": "null"}}}]}, {"a": None}),
        (True, None),
    ],
)
def test_samples_fit_their_schema(schema, value):
    assert tools.sample(schema, "") == value


def test_a_schema_that_contains_itself_ends():
    assert tools.sample({"allOf": [{"$ref": "#"}]}, "") is None
    tree = {"type": "object", "properties": {"child": {"$ref": "#"}}}
    assert json.dumps(tools.sample(tree, "")).count("child") == tools.MAX_DEPTH
