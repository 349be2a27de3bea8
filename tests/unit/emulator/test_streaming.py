"""Streams before they are sent: the shapes of their chunks, and what each fault makes of them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.openrouter import catalogue, chat_request, faults, streaming
from emulator.openrouter.answers import compose
from emulator.openrouter.streaming import Chunks, Ending


def _plan(asked="", *, model="openai/gpt-4o-mini", say="/tokens 6", **body):
    request = chat_request.read({"model": model, "messages": [{"role": "user", "content": say}], **body})
    resolved, wanted = catalogue.find(model), faults.parse(asked)
    assert resolved is not None
    answer = compose(request, resolved, model, resolved.model.providers[0], wanted)
    old = wanted.choice("usage_shape") == "i"
    return answer, streaming.plan(answer, Chunks("gen-1-x", 1, answer, old=old))


def _events(plan):
    wire = b"".join([*(frame.data for frame in plan.frames), *plan.tail]).decode()
    lines = [block for block in wire.split("\n\n") if block and not block.startswith(":")]
    return [json.loads(line.removeprefix("data: ")) for line in lines if line != "data: [DONE]"], wire


def _content(events):
    return "".join(
        choice["delta"].get("content") or ""
        for event in events
        for choice in event.get("choices", ())
        if "delta" in choice
    )


@given(st.integers(1, 60), st.integers(1, 60))
def test_a_stream_carries_every_token_in_its_own_chunk(count, limit):
    answer, plan = _plan(say=f"/tokens {count}", max_tokens=limit)
    events, _ = _events(plan)
    assert _content(events) == "".join(answer.content)
    assert len(events) == 1 + min(count, limit) + 2
    assert events[-1]["usage"]["completion_tokens"] == min(count, limit)
    assert plan.finish_reason == ("length" if count > limit else "stop")


def test_shape_i_has_a_choice_without_finish():
    events, _ = _events(_plan("usage_shape=i")[1])
    (choice,) = events[-1]["choices"]
    assert choice["delta"] == {"role": "assistant", "content": ""}
    assert (choice["finish_reason"], choice["logprobs"]) == (None, None)
    assert list(events[0]) == ["id", "provider", "model", "object", "created", "choices"]


def test_shape_ii_has_no_choice():
    events, _ = _events(_plan("usage_shape=ii")[1])
    assert events[-1]["choices"] == []
    assert "usage" in events[-1]


def test_shape_iii_repeats_the_finish_and_is_what_comes_unasked():
    for asked in ("usage_shape=iii", ""):
        events, _ = _events(_plan(asked)[1])
        assert [event["choices"][0]["finish_reason"] for event in events[-2:]] == ["stop", "stop"]
        assert events[-1]["service_tier"] == "default"
        assert list(events[0]) == ["id", "object", "created", "model", "provider", "choices"]
        assert "logprobs" not in events[0]["choices"][0]


@pytest.mark.parametrize("after", [0, 1, 3])
def test_error_a_ends_with_an_error_choice(after):
    _, plan = _plan(f"stream_error_a={after},stream_error_code=429")
    events, wire = _events(plan)
    assert _content(events) == "the plan is"[: [0, 3, 8, 11][after]]
    assert events[-1]["error"]["code"] == 429
    assert events[-1]["choices"][0]["finish_reason"] == "error"
    assert "[DONE]" not in wire
    assert plan.waived


def test_error_b_says_length_twice_and_puts_error_and_usage_together():
    events, wire = _events(_plan("stream_error_b=2")[1])
    assert [event["choices"][0]["finish_reason"] for event in events[-3:]] == ["length", "length", None]
    assert events[-1]["error"] == {"code": 400, "message": "Token limit reached"}
    assert events[-1]["usage"]["completion_tokens"] == 2
    assert wire.endswith("data: [DONE]\n\n")


def test_error_c_has_no_choice():
    events, wire = _events(_plan("stream_error_c=2")[1])
    assert events[-1]["choices"] == []
    assert events[-1]["error"]["code"] == 502
    assert wire.endswith("data: [DONE]\n\n")


def test_error_d_just_ends_and_what_was_produced_is_billed():
    answer, plan = _plan("stream_error_d=4")
    events, wire = _events(plan)
    assert all(event["choices"][0]["finish_reason"] is None and "usage" not in event for event in events)
    assert "[DONE]" not in wire
    assert answer.bill(plan.produced, waived=plan.waived).tokens.completion == 4


def test_a_cut_chunk_does_not_parse():
    _, plan = _plan("truncated_json")
    assert plan.tail[0].startswith(b"data: {")
    with pytest.raises(json.JSONDecodeError):
        json.loads(plan.tail[0].removeprefix(b"data: "))


@pytest.mark.parametrize(
    ("asked", "ending"),
    [
        ("reset_after=1", Ending.RESET),
        ("stall_after=1", Ending.STALLED),
        ("truncated_json=connection", Ending.DROPPED),
        ("truncated_json=body", Ending.FINISHED),
        ("", Ending.FINISHED),
    ],
)
def test_streams_end_on_the_wire_in_different_ways(asked, ending):
    assert _plan(asked)[1].ending is ending


def test_waits_stand_before_the_first_token_and_between_the_others():
    _, plan = _plan("first_token_delay_ms=70,chunk_delay_ms=20,keepalive=0")
    assert [frame.pause_ms for frame in plan.frames] == [70, 0, 20, 20, 20, 20, 20]


def test_the_slow_model_waits_by_itself():
    _, plan = _plan(model="craftpilot/slow")
    assert {frame.pause_ms for frame in plan.frames[4:]} == {100}


def test_keepalives_come_before_and_between():
    _, wire = _events(_plan("keepalive=5,keepalive_between=2")[1])
    assert wire.count(": OPENROUTER PROCESSING\n\n") == 5 + 2 * 5


def test_fragmented_arguments_join_to_json():
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    _, plan = _plan("tool_arguments=fragmented", say='/tool f {"city": "İzmir"}', tools=[tool])
    events, _ = _events(plan)
    deltas = [
        event["choices"][0]["delta"]["tool_calls"][0]
        for event in events
        if "tool_calls" in event["choices"][0]["delta"]
    ]
    assert len(deltas) > 4
    assert deltas[0]["id"]
    assert json.loads("".join(delta["function"].get("arguments", "") for delta in deltas)) == {"city": "İzmir"}
    assert plan.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("model", "kinds", "whole_kinds"),
    [
        (
            "openai/gpt-5-mini",
            {"reasoning.summary", "reasoning.encrypted"},
            {"reasoning.summary", "reasoning.encrypted"},
        ),
        ("anthropic/claude-sonnet-4.5", {"reasoning.text"}, {"reasoning.text"}),
        ("x-ai/grok-4", {"reasoning.encrypted"}, set()),
    ],
)
def test_every_vendor_thinks_in_its_own_blocks(model, kinds, whole_kinds):
    answer, plan = _plan(model=model, say="Why?", reasoning={"enabled": True})
    events, _ = _events(plan)
    streamed = [part for event in events for part in event["choices"][0]["delta"].get("reasoning_details", ())]
    assert {part["type"] for part in streamed} == kinds
    whole = answer.message().get("reasoning_details", ())
    assert {part["type"] for part in whole} == whole_kinds


def test_hidden_reasoning_is_counted_but_not_shown():
    answer, plan = _plan(model="openai/gpt-5-mini", say="Why?", reasoning={"effort": "low", "exclude": True})
    events, wire = _events(plan)
    assert "reasoning_details" not in wire
    assert events[-1]["usage"]["completion_tokens_details"]["reasoning_tokens"] == len(answer.reasoning) > 0
    assert plan.frames[-1].produced == answer.completion_tokens


@given(st.sampled_from(["openai/gpt-4o-mini", "openai/gpt-5-mini", "x-ai/grok-4"]), st.integers(1, 300))
def test_an_answer_never_has_more_tokens_than_allowed(model, limit):
    answer, plan = _plan(model=model, say="Tell me more", max_tokens=limit)
    assert answer.completion_tokens <= limit
    assert plan.frames[-1].produced == answer.completion_tokens


def test_a_tool_call_is_cut_at_the_limit_too():
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    answer, plan = _plan(say='/tool f {"a": "long enough to be cut"}', tools=[tool], max_tokens=3)
    assert answer.completion_tokens == 3
    assert plan.finish_reason == "length"


def test_no_completion_token_means_no_charge():
    answer, _ = _plan("zero_completion")
    assert (answer.finish_reason, answer.bill().charged, answer.bill().tokens.completion) == (None, 0, 0)
