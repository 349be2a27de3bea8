"""Plain answers: text, tool calls and exact money; a 200 that is an error is never taken for an answer."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import UpstreamBusy, UpstreamError
from shared.openrouter import ToolCall, Usage
from shared.openrouter.answers import generation_of, pico_usd
from shared.openrouter.errors import UpstreamFailedMidStream
from shared.openrouter.parse import completion_of
from tests.unit.openrouter.recorded import completions

# Recorded: requested model, prompt (cached), completion (reasoning), cost and upstream cost as they stood on the wire.
GOLDEN_COSTS = [
    ("x-ai/grok-4", 687, 679, 187, 118, "0.00333825", None, False, 3_338_250_000),
    ("openai/o3", 9, 0, 104, 0, "0.00085", None, False, 850_000_000),
    ("minimax/minimax-m2:free", 43, 0, 10, 11, "0", None, False, 0),
    ("openai/gpt-5-mini", 17, 0, 2177, 960, "0.00435825", None, False, 4_358_250_000),
    ("google/gemini-2.5-flash", 326, 0, 91, 0, "0", "0.0003253", True, 325_300_000),
    ("anthropic/claude-sonnet-4.5", 43, 0, 36, 13, "0.000669", None, False, 669_000_000),
    ("openai/gpt-5.1-codex-mini", 31, 0, 80, 64, "0.00216775", None, False, 2_167_750_000),
    ("openai/gpt-4.1-mini", 23, 0, 48, 0, "8.6e-05", None, False, 86_000_000),
    ("z-ai/glm-4.6", 16, 0, 2, 0, "1.4e-05", None, False, 14_000_000),
    ("anthropic/claude-4.5-sonnet-20250929", 550, 0, 15, 0, "0.001875", "0.001875", False, 1_875_000_000),
    ("openai/gpt-5-mini-2025-08-07", 37, 0, 92, 64, "0.00019325", "0.00019325", False, 193_250_000),
    ("openai/gpt-4o-mini", 888, 0, 74, 0, "0.0145476", "0.0001776", False, 14_547_600_000),
    ("openai/gpt-4.1-mini", 8174, 0, 30, 0, "0.0133176", None, False, 13_317_600_000),
    ("google/gemini-3.6-flash", 30, 0, 26, 25, "0.00024", None, False, 240_000_000),
    ("deepseek/deepseek-chat", 2317, 0, 53, 0, "0.0076509169000000005", None, False, 7_650_916_900),
    ("google/gemini-2.5-flash-image-preview", 2, 0, 1295, 0, "0.0387131", None, False, 38_713_100_000),
]


@pytest.mark.parametrize("golden", GOLDEN_COSTS, ids=lambda golden: f"{golden[0]}-{golden[5]}")
def test_recorded_costs_are_read_exactly(golden):
    model, prompt, cached, completion, reasoning, cost, upstream, byok, pico = golden
    wire = (
        f'{{"id":"gen-1","model":"{model}","choices":[{{"finish_reason":"stop","message":{{"content":"x"}}}}],'
        f'"usage":{{"prompt_tokens":{prompt},"completion_tokens":{completion},"cost":{cost},"is_byok":{json.dumps(byok)},'
        f'"prompt_tokens_details":{{"cached_tokens":{cached}}},"completion_tokens_details":{{"reasoning_tokens":{reasoning}}},'
        f'"cost_details":{{"upstream_inference_cost":{upstream or "null"}}}}}}}'
    )
    assert completion_of(wire.encode()).usage == Usage(
        prompt_tokens=prompt,
        completion_tokens=completion,
        reasoning_tokens=reasoning,
        cached_tokens=cached,
        cost_pico_usd=pico,
        is_byok=byok,
    )


@given(st.integers(0, 10**21 - 1), st.sampled_from(["f", "e"]))
def test_any_amount_of_whole_pico_dollars_survives_the_wire(amount, notation):
    wire = format(Decimal(amount).scaleb(-12), notation)
    assert pico_usd(json.loads(wire, parse_float=Decimal)) == amount


@pytest.mark.parametrize(
    "amount",
    [None, True, "0.1", -1, Decimal("-0.1"), Decimal("NaN"), Decimal("Infinity"), Decimal("1E+999999"), 10**9, []],
)
def test_what_is_no_amount_of_money_is_unknown(amount):
    assert pico_usd(amount) is None


def usage_in(body: bytes) -> Usage:
    usage = completion_of(body).usage
    assert usage is not None
    return usage


def answer(**changes: object) -> bytes:
    body = {
        "id": "gen-1",
        "model": "a/b",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}}],
    }
    return json.dumps(body | changes).encode()


@pytest.mark.parametrize(
    ("usage", "cost"),
    [
        ({"prompt_tokens": 5}, None),
        ({"cost": None}, None),
        ({"cost": 0, "is_byok": True}, None),
        ({"cost": 0.01, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.5}}, 510_000_000_000),
        ({"cost": 0.01, "cost_details": {"upstream_inference_cost": 0.5}}, 10_000_000_000),
        ({"cost": 0.01, "cost_details": None, "prompt_tokens_details": None}, 10_000_000_000),
    ],
)
def test_a_cost_that_was_not_told_in_full_is_unknown(usage, cost):
    assert usage_in(answer(usage=usage)).cost_pico_usd == cost


def test_an_answer_without_usage_has_none():
    assert completion_of(answer(usage=None)).usage is None
    assert completion_of(answer()).usage is None


@pytest.mark.parametrize("recorded", completions(), ids=lambda each: each.name)
def test_recorded_answers_are_read_as_they_stand(recorded):
    said = recorded.parsed["choices"][0]
    completion = completion_of(recorded.body)
    assert completion.text == said["message"]["content"]
    assert completion.reasoning == (said["message"].get("reasoning") or "")
    assert completion.finish_reason == said["finish_reason"]
    assert completion.native_finish_reason == said["native_finish_reason"]
    assert completion.generation_id == recorded.parsed["id"]
    assert (completion.model, completion.provider) == (recorded.parsed["model"], recorded.parsed["provider"])
    assert completion.message == said["message"]
    usage = recorded.parsed["usage"]
    assert usage_in(recorded.body).prompt_tokens == usage["prompt_tokens"]
    assert usage_in(recorded.body).completion_tokens == usage["completion_tokens"]
    cost = usage.get("cost")
    assert usage_in(recorded.body).cost_pico_usd == (None if cost is None else round(Decimal(repr(cost)) * 10**12))


def test_the_recorded_answers_are_there():
    assert len(completions()) == 8


def test_recorded_tool_calls_come_whole_also_without_arguments():
    calls = {each.name: completion_of(each.body).tool_calls for each in completions()}
    assert calls["openrouter_tool_calling-0"] == (
        ToolCall("3sniiMddS", "divide", '{"numerator": 123, "denominator": 456, "on_inf": "infinity"}'),
    )
    assert calls["openrouter_tool_optional_parameters-0"] == (
        ToolCall("toolu_vrtx_015QAXScZzRDPttiPoc34AdD", "find_education_content", "{}"),
    )


def test_the_generation_id_of_the_header_stands_in_for_a_missing_one():
    assert completion_of(answer(id=None), "gen-header").generation_id == "gen-header"
    assert completion_of(answer(), "gen-header").generation_id == "gen-1"


def failure_of(body: bytes) -> UpstreamFailedMidStream:
    with pytest.raises(UpstreamFailedMidStream) as caught:
        completion_of(body, "gen-header")
    return caught.value


def test_a_200_that_holds_an_error_is_that_error():
    failure = failure_of(
        b'{"error":{"code":429,"message":"Provider returned error","metadata":{"provider_name":"Google"}}}'
    )
    assert type(failure.reason) is UpstreamBusy
    assert failure.retry_after_s == 5
    assert (failure.usage, failure.partial, failure.generation_id) == (None, None, "gen-header")
    assert failure.details == {"upstream_status": 429, "provider": "Google", "generation_id": "gen-header"}


def test_an_error_inside_the_choice_keeps_the_partial_answer_and_its_price():
    choice = {"error": {"code": 502, "message": "lost"}, "finish_reason": "error", "message": {"content": "Half of"}}
    failure = failure_of(answer(choices=[choice], usage={"prompt_tokens": 3, "cost": 0.002}))
    assert type(failure.reason) is UpstreamError
    assert failure.partial is not None
    assert failure.partial.text == "Half of"
    assert failure.usage == Usage(prompt_tokens=3, completion_tokens=0, cost_pico_usd=2_000_000_000)


@pytest.mark.parametrize(
    "choices",
    [
        [{"finish_reason": "error", "message": {"content": "Half of"}}],
        [{"finish_reason": None, "message": {"content": ""}}],
        [{"finish_reason": None, "message": None}],
        [],
        None,
        "odd",
        [7],
    ],
)
def test_an_answer_that_ended_in_error_or_says_nothing_is_no_answer(choices):
    assert failure_of(answer(choices=choices)).status == 502


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"7", answer()[:-9], b"[" * 100_000, b"\xff\xfe", b"<html>"])
def test_a_body_that_is_no_answer_is_a_failure(body):
    failure = failure_of(body)
    assert failure.details == {"fault": "malformed_answer", "generation_id": "gen-header"}
    assert failure.usage is None


def test_a_generation_record_has_the_total_cost_and_how_it_ended():
    raw = {
        "id": "gen-1",
        "model": "openai/gpt-4o-mini",
        "provider_name": "OpenAI",
        "total_cost": Decimal("0.00008675"),
        "usage": Decimal("0.00008675"),
        "upstream_inference_cost": Decimal("0.5"),
        "tokens_prompt": 20,
        "tokens_completion": 12,
        "native_tokens_prompt": 21,
        "native_tokens_completion": 13,
        "native_tokens_reasoning": None,
        "native_tokens_cached": 4,
        "cancelled": True,
        "streamed": True,
        "finish_reason": None,
        "native_finish_reason": "stop",
        "never_seen_before": {},
    }
    record = generation_of(raw, "gen-1")
    assert (record.cost_pico_usd, record.cancelled, record.streamed) == (86_750_000, True, True)
    assert (record.native_prompt_tokens, record.native_completion_tokens) == (21, 13)
    assert (record.native_reasoning_tokens, record.native_cached_tokens) == (0, 4)
    assert (record.finish_reason, record.native_finish_reason) == (None, "stop")
    assert generation_of(raw | {"is_byok": True}, "gen-1").cost_pico_usd == 500_086_750_000
