"""What a request for a chat completion may say, and which field is named when it says something else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.openai_api.schemas import ChatCompletionRequest, EmbeddingRequest
from shared.errors import InvalidRequest
from shared.http.pipeline import _validated

HELLO = {"role": "user", "content": "Hello?"}
REQUEST = {"model": "openai/gpt-4o-mini", "messages": [HELLO]}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def read(**changes):
    return _validated(ChatCompletionRequest, json.dumps({**REQUEST, **changes}).encode())


def problem_of(request_class=ChatCompletionRequest, /, **changes):
    """Field and kind of what is wrong first."""
    base = REQUEST if request_class is ChatCompletionRequest else {"model": "a/b", "input": "a"}
    with pytest.raises(InvalidRequest) as refused:
        _validated(request_class, json.dumps({**base, **changes}).encode())
    return refused.value.fields[0].field, refused.value.fields[0].kind


TAKEN = {
    "temperature": 0.3,
    "top_p": 1,
    "top_k": 40,
    "min_p": 0.1,
    "top_a": 0.1,
    "frequency_penalty": -2,
    "presence_penalty": 2,
    "repetition_penalty": 1.1,
    "seed": 7,
    "stop": ["\n", "END"],
    "logit_bias": {"50256": -100},
    "tools": [TOOL],
    "tool_choice": {"type": "function", "function": {"name": "weather"}},
    "parallel_tool_calls": False,
    "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": {}, "strict": True}},
    "reasoning_effort": "low",
    "verbosity": "low",
    "max_completion_tokens": 10,
    "stream": True,
    "stream_options": {"include_usage": True, "include_obfuscation": False},
    "n": 1,
    "logprobs": False,
    "top_logprobs": 0,
    "modalities": ["text"],
    "service_tier": "auto",
    "store": False,
    "user": "somebody",
    "safety_identifier": "somebody",
    "prompt_cache_key": "a",
    "metadata": {"team": "a"},
    "models": ["google/gemini-2.5-flash"],
    "provider": {"only": ["openai"], "data_collection": "deny"},
}


@pytest.mark.parametrize("name", TAKEN)
def test_a_parameter_that_can_be_honoured_is_taken(name):
    assert getattr(read(**{name: TAKEN[name]}), name) is not None


@pytest.mark.parametrize("name", [name for name in ChatCompletionRequest.model_fields if name not in REQUEST])
def test_a_null_means_that_nothing_was_said(name):
    assert getattr(read(**{name: None}), name) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prediction", {"type": "content", "content": "x"}),
        ("web_search_options", {}),
        ("plugins", []),
        ("audio", {"voice": "alloy", "format": "mp3"}),
        ("functions", []),
        ("function_call", "auto"),
    ],
)
def test_a_parameter_that_cannot_be_honoured_is_refused_by_name(name, value):
    assert problem_of(**{name: value}) == (name, "unsupported_parameter")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("top_logprobs", 3),
        ("modalities", ["text", "audio"]),
        ("service_tier", "priority"),
        ("store", True),
    ],
)
def test_a_value_that_cannot_be_honoured_is_refused_by_name(name, value):
    assert problem_of(**{name: value}) == (name, "unsupported_value")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"temperatur": 1}, "temperatur"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [""]}, "stop[0]"),
        ({"seed": 1.5}, "seed"),
        ({"logit_bias": {"a": 1}}, "logit_bias.a.[key]"),
        ({"logit_bias": {"1": 101}}, "logit_bias.1"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "no spaces"}}]}, "tools[0].function.name"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"response_format": {"type": "grammar"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"reasoning": {"mode": "x"}}, "reasoning.mode"),
        ({"provider": {"max_price": {}}}, "provider.max_price"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"messages": []}, "messages"),
        ({"messages": [HELLO] * 2001}, "messages"),
        ({"messages": "Hello?"}, "messages"),
        ({"messages": [{"content": "?"}]}, "messages[0].role"),
        ({"messages": [HELLO, {"role": "function", "content": "?"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": []}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": "?", "weight": 1}]}, "messages[0].weight"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc"}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f", "file_data": "x"}}]}]},
            "messages[0].content[0].file.file_data",
        ),
        ({"messages": [{"role": "assistant", "content": "?", "audio": {"id": "a"}}]}, "messages[0].audio"),
        ({"messages": [{"role": "tool", "content": "?"}]}, "messages[0].tool_call_id"),
        ({"models": ["a"] * 9}, "models"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(changes, field):
    assert problem_of(**changes)[0] == field


def test_a_missing_field_and_an_unknown_one_are_told_apart():
    with pytest.raises(InvalidRequest) as refused:
        _validated(ChatCompletionRequest, json.dumps({"messages": [HELLO], "modle": "x"}).encode())
    assert {problem.field: problem.kind for problem in refused.value.fields} == {
        "model": "missing",
        "modle": "extra_forbidden",
    }


@pytest.mark.parametrize("given_input", ["a", ["a", "b"], [1, 2], [[1], [2, 3]]])
def test_every_form_of_input_is_taken_for_embeddings(given_input):
    body = {"model": "m", "input": given_input}
    assert _validated(EmbeddingRequest, json.dumps(body).encode()).model_dump()["input"] == given_input


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input[1]"),
        ({"input": ["a", 1]}, "input[1]"),
        ({"input": [1, -1]}, "input[1]"),
        ({"input": [[]]}, "input[0]"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": {"text": "a"}}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"input_type": "query"}, "input_type"),
    ],
)
def test_wrong_inputs_for_embeddings_are_named(changes, field):
    assert problem_of(EmbeddingRequest, **changes)[0] == field


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=12), children, max_size=4),
    max_leaves=12,
)


@given(name=st.sampled_from([*ChatCompletionRequest.model_fields]), value=_JSON)
def test_whatever_a_field_holds_is_taken_or_refused_by_name(name, value):
    fields = []
    try:
        read(**{name: value})
    except InvalidRequest as refused:
        fields = [problem.field for problem in refused.fields]
    assert {field.split(".")[0].split("[")[0] for field in fields} <= {name, "body"}
