"""The stand-in's answers have the structure of recorded real ones.

Every key of a recorded answer must be there with a value of the same type; keys beyond it must be among those that
newer answers are known to have, because the recordings span November 2025 to August 2026.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

RECORDINGS = Path(__file__).parents[1] / "recordings" / "openrouter"

# What answers have gained since the older recordings were made.
NEWER = {
    "system_fingerprint",
    "service_tier",
    "usage.cost",
    "usage.is_byok",
    "usage.cost_details",
    "usage.prompt_tokens_details",
    "usage.completion_tokens_details",
    "usage.prompt_tokens_details.audio_tokens",
    "usage.prompt_tokens_details.cache_write_tokens",
    "usage.prompt_tokens_details.cached_tokens",
    "usage.prompt_tokens_details.video_tokens",
    "usage.completion_tokens_details.audio_tokens",
    "usage.completion_tokens_details.image_tokens",
}
# Null in one recording and a value in another, for no reason a client can see.
NULLABLE = {
    "system_fingerprint",
    "service_tier",
    "usage.cost_details.upstream_inference_cost",
    "choices[].message.reasoning_details[].format",
    "choices[].delta.reasoning_details[].format",
    "choices[].finish_reason",
    "choices[].native_finish_reason",
}
# How the stand-in is brought to give the kind of answer that was recorded.
BY_FILE: dict[str, dict[str, Any]] = {
    "openrouter_errors_raised.yaml": {"faults": "status=429"},
    "openrouter_map_messages_reasoning.yaml": {},
    "openrouter_stream_error.yaml": {"faults": "usage_shape=i,stream_error_b=2,keepalive=17"},
    "openrouter_stream_with_native_options.yaml": {"faults": "usage_shape=i"},
    "openrouter_streaming_reasoning.yaml": {"faults": "usage_shape=i"},
    "openrouter_thinking_high_emits_effort_high.yaml": {"faults": "permaslug"},
    "openrouter_tool_calling.yaml": {"body": {"tool_choice": "required"}},
    "openrouter_tool_optional_parameters.yaml": {"faults": "tool_arguments=missing"},
    "openrouter_usage.yaml": {},
    "openrouter_with_native_options.yaml": {},
    "plain_reply_dated_model.yaml": {"faults": "permaslug"},
}


def _exchanges():
    for path in sorted(RECORDINGS.glob("*.yaml")):
        for number, exchange in enumerate(yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]):
            yield pytest.param(path.name, exchange, id=f"{path.stem}-{number}")


def test_every_recording_is_compared():
    assert {path.name for path in RECORDINGS.glob("*.yaml")} == set(BY_FILE)


@pytest.mark.parametrize(("name", "exchange"), list(_exchanges()))
def test_an_answer_has_the_structure_of_the_recorded_one(api, name, exchange):
    asked = exchange["request"]["parsed_body"] | BY_FILE[name].get("body", {})
    wanted = BY_FILE[name].get("faults")
    reply = api.post("/chat/completions", asked, **({"X_Standin_Faults": wanted} if wanted else {}))
    recorded = exchange["response"]
    assert reply.status == recorded["status"]["code"]
    assert reply.headers["content-type"] == recorded["headers"]["content-type"][0]
    assert reply.headers["access-control-allow-origin"] == "*"
    if "parsed_body" in recorded:
        _assert_same_structure(recorded["parsed_body"], reply.json)
        _assert_same_outcome(recorded["parsed_body"], reply.json)
    else:
        _assert_same_stream(recorded["body"]["string"], reply)


def _assert_same_stream(recorded, reply):
    """Every kind of chunk recorded also comes from the stand-in, with the same structure, and the end is the same."""
    theirs, ours = _by_kind(_events(recorded)), _by_kind(reply.events)
    assert set(theirs) <= set(ours)
    for kind, shapes in theirs.items():
        for shape in shapes:
            assert any(_differences(shape, each) == [] for each in ours[kind]), (
                kind,
                _differences(shape, ours[kind][0]),
            )
    assert reply.text.startswith(": OPENROUTER PROCESSING\n\n")
    assert recorded.rstrip().endswith("data: [DONE]") is reply.text.rstrip().endswith("data: [DONE]")
    assert list(_events(recorded)[0]) == list(reply.events[0])


def _events(text):
    blocks = [block for block in text.split("\n\n") if block.startswith("data: {")]
    return [json.loads(block[6:]) for block in blocks]


def _by_kind(events):
    kinds: dict[str, list[Any]] = {}
    for event in events:
        kinds.setdefault(_kind(event), []).append(event)
    return kinds


def _kind(event):
    if "error" in event:
        return "error"
    if "usage" in event:
        return "usage"
    choice = event["choices"][0]
    if choice["finish_reason"]:
        return "finish"
    delta = choice["delta"]
    if delta.get("reasoning_details"):
        return f"{delta['reasoning_details'][0]['type']} {'signature' in delta['reasoning_details'][0]}"
    return "content" if delta["content"] else "empty"


def _assert_same_structure(recorded, answered):
    assert _differences(recorded, answered) == []
    surplus = {path for path in _paths(answered) - _paths(recorded) if not _is_newer(path)}
    assert surplus == set()


def _assert_same_outcome(recorded, answered):
    """What a client decides by is the same, not only its type."""
    if "error" in recorded:
        assert answered["error"] | {"metadata": None} == recorded["error"] | {"metadata": None}
        assert answered["error"]["metadata"]["raw"] == recorded["error"]["metadata"]["raw"]
        return
    theirs, ours = recorded["choices"][0], answered["choices"][0]
    assert ours["finish_reason"] == theirs["finish_reason"]
    assert answered["model"] == recorded["model"]
    assert [each["type"] for each in ours["message"].get("reasoning_details", ())] == [
        each["type"] for each in theirs["message"].get("reasoning_details", ())
    ]


def _is_newer(path):
    return any(path == newer or path.startswith(f"{newer}.") for newer in NEWER)


def _differences(recorded, answered, path=""):
    """Where the answer lacks what was recorded, or has another type."""
    if path.removeprefix(".") in NULLABLE and (recorded is None or answered is None):
        return []
    if isinstance(recorded, dict) and isinstance(answered, dict):
        missing = [f"{path}.{name} is missing" for name in recorded if name not in answered]
        return missing + [
            difference
            for name in recorded.keys() & answered.keys()
            for difference in _differences(recorded[name], answered[name], f"{path}.{name}")
        ]
    if isinstance(recorded, list) and isinstance(answered, list):
        pairs = zip(recorded, answered, strict=False)
        short = [f"{path} is empty"] if recorded and not answered else []
        return short + [each for theirs, ours in pairs for each in _differences(theirs, ours, f"{path}[]")]
    return [] if _type(recorded) is _type(answered) else [f"{path} is {answered!r}, recorded {recorded!r}"]


def _type(value):
    """Whole and broken numbers are one type in JSON."""
    return float if isinstance(value, int) and not isinstance(value, bool) else type(value)


def _paths(value, path=""):
    """The dotted paths of everything inside a value."""
    if isinstance(value, dict):
        named = {(f"{path}.{name}" if path else name): inner for name, inner in value.items()}
        return set(named) | {each for name, inner in named.items() for each in _paths(inner, name)}
    if isinstance(value, list):
        return {each for inner in value for each in _paths(inner, f"{path}[]")}
    return set()
