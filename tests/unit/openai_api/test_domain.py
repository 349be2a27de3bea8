"""Which conversations make sense, and what embeddings may cost."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.openai_api.domain import (
    EmbeddingModel,
    Wish,
    completion_id,
    cost_pico_usd,
    embedding_model_from_upstream,
    most_tokens,
    require_sense,
    slug_of,
)
from shared.errors import InvalidRequest

USER = {"role": "user", "content": "?"}


def calling(*ids):
    calls = [{"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for call_id in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def result(call_id):
    return {"role": "tool", "tool_call_id": call_id, "content": "done"}


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [USER, calling("a"), result("a")],
        [USER, calling("a", "b"), result("b"), result("a"), USER],
        [USER, calling("a"), result("a"), calling("a"), result("a")],
        [USER, {"role": "assistant", "content": ""}, USER],
        [USER, {"role": "assistant", "content": None, "refusal": "No."}, USER],
    ],
)
def test_a_conversation_that_makes_sense_is_taken(messages):
    require_sense(messages, [], None)


@pytest.mark.parametrize(
    ("messages", "field"),
    [
        ([USER, result("a")], "messages[1].tool_call_id"),
        ([USER, calling("a"), result("b")], "messages[2].tool_call_id"),
        ([USER, calling("a"), result("a"), result("a")], "messages[3].tool_call_id"),
        ([USER, calling("a"), USER, result("a")], "messages[1].tool_calls"),
        ([USER, calling("a", "b"), result("a")], "messages[1].tool_calls"),
        ([USER, calling("a", "a")], "messages[1].tool_calls[1].id"),
        ([USER, {"role": "assistant", "content": None}], "messages[1].content"),
        ([USER, {"role": "assistant", "tool_calls": []}], "messages[1].content"),
    ],
)
def test_what_makes_no_sense_is_named(messages, field):
    with pytest.raises(InvalidRequest) as refused:
        require_sense(messages, [], None)
    assert [problem.field for problem in refused.value.fields] == [field]


def test_a_tool_that_must_be_used_is_one_of_those_given():
    require_sense([USER], ["weather"], "weather")
    with pytest.raises(InvalidRequest, match="tool_choice"):
        require_sense([USER], ["weather"], "clock")


def test_a_name_without_an_author_is_openais():
    assert slug_of("gpt-4o-mini") == "openai/gpt-4o-mini"
    assert slug_of("google/gemini-2.5-flash") == "google/gemini-2.5-flash"


def test_a_completion_bears_the_id_of_its_generation():
    assert completion_id("gen_3kTz") == "chatcmpl-3kTz"


def entry(**changes):
    return {
        "id": "openai/text-embedding-3-small",
        "name": "Small",
        "context_length": 8192,
        "architecture": {"output_modalities": ["embeddings"]},
        "pricing": {"prompt": "0.00000002", "completion": "0"},
        **changes,
    }


def test_an_embedding_model_has_its_exact_price():
    model = embedding_model_from_upstream(entry())
    assert model == EmbeddingModel("openai/text-embedding-3-small", "Small", 8192, Decimal("2e-8"), Decimal(0))


def test_a_price_that_rises_counts_at_its_highest():
    pricing = {"prompt": "1e-8", "request": "0.001", "overrides": [{"min_prompt_tokens": 1000, "prompt": "3e-8"}]}
    model = embedding_model_from_upstream(entry(pricing=pricing))
    assert model is not None
    assert (model.prompt_usd, model.request_usd) == (Decimal("3e-8"), Decimal("0.001"))


@pytest.mark.parametrize(
    "changes",
    [
        {"pricing": {"prompt": "-1"}},
        {"pricing": {"prompt": "1e-8", "request": "-1"}},
        {"pricing": {"prompt": "NaN"}},
        {"pricing": {"prompt": "Infinity"}},
        {"architecture": {"output_modalities": ["text"]}},
    ],
)
def test_a_model_whose_price_is_not_known_or_that_does_not_embed_is_left_out(changes):
    assert embedding_model_from_upstream(entry(**changes)) is None


@given(st.lists(st.text(min_size=1, max_size=50), min_size=1, max_size=5).map(tuple), st.integers(0, 10**6))
def test_the_bound_covers_every_tokenizer_and_every_fraction_of_a_cent(inputs, price):
    model = EmbeddingModel("a/b", "b", 8192, Decimal(price).scaleb(-15), Decimal(0))
    tokens = most_tokens(Wish("a/b", inputs))
    assert tokens >= sum(len(text) for text in inputs)
    cost = cost_pico_usd(model, tokens)
    assert cost >= Decimal(price) * tokens / 1000
    assert cost - 1 < Decimal(price) * tokens / 1000


def test_tokens_that_are_given_as_numbers_count_as_they_are():
    assert most_tokens(Wish("a/b", ((1, 2, 3), (4,)))) == 4 + 2 * 2
