"""The events of a turn as chat completion chunks: what OpenAI's SDKs assemble from them is what was said."""

import json
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chat.domain import Outcome, Status, TokenUsage
from functions.openai_api import schemas
from functions.openai_api.rendering import Chunks, completion, embeddings, finish_reason_of
from functions.openai_api.service import Embedded
from shared.errors import AppError, UpstreamBusy
from shared.openrouter.vectors import numbers_of, packed

BEGAN = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "reasoning_tokens": 1, "cached_tokens": 2}
CREDITS = {"charged_micro": 5, "credits": "0.000005", "pending": False}
START = {"type": "start", "model": "openai/gpt-4o-mini"}


@dataclass
class Generation:
    id: str = "gen_3kTz"
    model: str = "openai/gpt-4o-mini"
    started_at: datetime = BEGAN


@dataclass
class _Turn:
    """A turn that says what it is told to say."""

    batches: list[list[dict[str, Any]]] = field(default_factory=list)
    generation: Generation = field(default_factory=Generation)
    failure: AppError | None = None
    closed: int = 0

    def __next__(self) -> list[dict[str, Any]]:
        if not self.batches:
            raise StopIteration
        return self.batches.pop(0)

    def close(self) -> None:
        self.closed += 1


def Turn(*arguments: Any, **named: Any) -> Any:  # noqa: N802  # stands for the class that it is not
    return _Turn(*arguments, **named)


def end(status="completed", finish_reason="stop", usage=USAGE):
    return {
        "type": "end",
        "status": status,
        "finish_reason": finish_reason,
        "usage": usage,
        "credits": CREDITS,
        "error": None,
    }


def text(value):
    return {"type": "text", "text": value}


def call(index, arguments, call_id=None, name=None):
    return {"type": "tool_call", "index": index, "id": call_id, "name": name, "arguments": arguments}


def frames(*events, turn=None, **options):
    """What the data lines of a stream hold."""
    turn = turn or Turn()
    turn.batches = [[START], [*events]]
    raw = b"".join(Chunks(turn, **{"include_usage": False, **options})).decode()
    assert raw.endswith("\n\n")
    lines = raw.removesuffix("\n\n").split("\n\n")
    assert all(line.startswith("data: ") and "\n" not in line for line in lines), "nothing but data lines"
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def assembled(*events, **options):
    """What openai-python makes of the stream."""
    from openai.lib.streaming.chat import ChatCompletionStreamState
    from openai.types.chat import ChatCompletionChunk

    state = ChatCompletionStreamState()
    for frame in frames(*events, **options):
        state.handle_chunk(ChatCompletionChunk.model_validate(frame))
    return state.current_completion_snapshot


def test_every_chunk_says_whose_it_is_and_has_a_list_of_choices():
    for frame in frames(text("Hello"), text(" you"), end(), include_usage=True):
        assert frame["id"] == "chatcmpl-3kTz"
        assert frame["object"] == "chat.completion.chunk"
        assert frame["created"] == int(BEGAN.timestamp())
        assert frame["model"] == "openai/gpt-4o-mini"
        assert frame["system_fingerprint"] is None
        assert isinstance(frame["choices"], list)


def test_the_first_delta_names_the_role_and_the_last_says_why_it_ended():
    first, *_, last = frames(text("Hello"), end())
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]


def test_usage_comes_in_a_chunk_of_its_own_when_it_was_asked_for():
    *others, last = frames(text("Hello"), end(), include_usage=True)
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 2, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 1, "audio_tokens": 0},
    }
    assert last["credits"] == CREDITS
    assert all(chunk["usage"] is None for chunk in others)


def test_usage_that_nobody_asked_for_or_knows_makes_no_chunk():
    assert all("usage" not in chunk for chunk in frames(text("Hello"), end()))
    assert all(chunk["choices"] for chunk in frames(text("Hello"), end(usage=None), include_usage=True))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), max_size=6))
def test_any_text_arrives_as_it_was_said(texts):
    said = assembled(*map(text, texts), end())
    assert (said.choices[0].message.content or "") == "".join(texts)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.text(st.characters(exclude_categories=["Cs"]), max_size=8)),
        min_size=1,
        max_size=12,
    )
)
def test_any_fragments_of_tool_calls_are_joined_to_what_was_called(fragments):
    # Providers number calls in the order in which they begin.
    order = {index: place for place, index in enumerate(dict.fromkeys(index for index, _ in fragments))}
    begun: set[int] = set()
    events, expected = [], dict.fromkeys(order.values(), "")
    for original, arguments in fragments:
        index = order[original]
        is_first = index not in begun
        begun.add(index)
        events.append(call(index, arguments, f"call_{index}" if is_first else None, "f" if is_first else None))
        expected[index] += arguments
    said = assembled(*events, end(finish_reason="tool_calls")).choices[0]
    calls = said.message.tool_calls or []
    assert [each.id for each in calls] == [f"call_{index}" for index in sorted(expected)]
    assert [each.function.arguments for each in calls] == [expected[index] or "{}" for index in sorted(expected)]
    assert {each.function.name for each in calls} == {"f"}
    assert said.finish_reason == "tool_calls"


def test_every_piece_of_a_tool_call_has_its_index():
    chunks = frames(call(0, "", "call_1", "f"), call(0, '{"a":'), call(0, "1}"), end(finish_reason="tool_calls"))
    pieces = [
        piece for chunk in chunks for choice in chunk["choices"] for piece in choice["delta"].get("tool_calls", ())
    ]
    assert [piece["index"] for piece in pieces] == [0, 0, 0]
    assert [piece.get("id") for piece in pieces] == ["call_1", None, None]


def test_thoughts_come_under_both_names_that_clients_read_and_can_be_left_out():
    events = (
        {"type": "reasoning", "text": "Hm."},
        {"type": "reasoning", "text": " Yes."},
        {"type": "reasoning_details", "items": [{"type": "reasoning.text", "text": "Hm.", "index": 0}]},
        {"type": "reasoning_details", "items": [{"type": "reasoning.text", "text": " Yes.", "index": 0}]},
        text("Yes."),
        end(),
    )
    message = assembled(*events).choices[0].message
    assert message.model_extra["reasoning"] == message.model_extra["reasoning_content"] == "Hm. Yes."
    assert message.model_extra["reasoning_details"] == [{"type": "reasoning.text", "text": "Hm. Yes.", "index": 0}]
    assert "reasoning" not in json.dumps(frames(*events, with_reasoning=False))


def test_citations_come_as_annotations():
    cited = {"url": "https://example.com", "title": "Example", "start": 0, "end": None}
    message = (
        assembled(
            {"type": "citations", "items": [cited]}, {"type": "citations", "items": [cited]}, text("As said."), end()
        )
        .choices[0]
        .message
    )
    shown = {"url": "https://example.com", "title": "Example", "start_index": 0, "end_index": 0}
    given_back = [json.loads(each.model_dump_json()) for each in message.annotations]
    assert given_back == [{"type": "url_citation", "url_citation": shown}] * 2


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_a_failure_is_an_error_and_nothing_that_looks_like_an_end(status):
    turn = Turn(failure=UpstreamBusy("The model is busy.", retry_after_s=5))
    *said, last = frames(text("Hel"), end(status=status, finish_reason=None), turn=turn, include_usage=True)
    assert set(last) == {"error"}, "beside choices the AI SDK would pass over it"
    assert last["error"]["code"] == "upstream_busy"
    assert last["error"]["type"] == "server_error"
    assert last["error"]["generation_id"] == "gen_3kTz"
    assert "The model is busy." in last["error"]["message"]
    assert all(choice["finish_reason"] is None for chunk in said for choice in chunk["choices"])


def test_a_failure_that_nobody_can_name_is_told_all_the_same():
    assert "error" in frames(text("Hel"), end(status="interrupted"))[-1]


def test_a_stopped_answer_ends_like_any_other():
    assert frames(text("Hel"), end(status="stopped", finish_reason=None))[-1]["choices"][0]["finish_reason"] == "stop"


def test_an_answer_by_another_model_says_so():
    turn = Turn()
    turn.generation = Generation(model="google/gemini-2.5-flash")
    chunks = frames(text("Hello"), end(), turn=turn)
    assert {chunk["model"] for chunk in chunks[1:]} == {"google/gemini-2.5-flash"}


def test_closing_the_chunks_closes_the_turn():
    turn = Turn([[START]])
    Chunks(turn, include_usage=False).close()
    assert turn.closed == 1


@pytest.mark.parametrize(
    ("said", "calls", "shown"),
    [
        ("stop", False, "stop"),
        ("length", False, "length"),
        ("content_filter", False, "content_filter"),
        ("tool_calls", True, "tool_calls"),
        ("stop", True, "tool_calls"),
        (None, True, "tool_calls"),
        ("length", True, "length"),
        (None, False, "stop"),
        ("something_new", False, "stop"),
    ],
)
def test_an_answer_ends_for_one_of_the_reasons_that_openai_has(said, calls, shown):
    assert finish_reason_of(said, calls_tools=calls) == shown


def outcome(**changes):
    said: dict[str, Any] = {"status": Status.COMPLETED, "finish_reason": "stop", "usage": TokenUsage(7, 3, 1, 2, 100)}
    return Outcome(ended_at=BEGAN, **(said | changes))


def whole(**changes):
    """A completion as its client parses it; it fits both our description and the SDK's types."""
    from openai.types.chat import ChatCompletion

    raw = completion(Turn(), outcome(**changes), CREDITS)
    schemas.ChatCompletion.model_validate_json(raw)
    return ChatCompletion.model_validate_json(raw)


def test_a_whole_answer_says_text_usage_and_model():
    answer = whole(text="Merhaba 👋", model_used="openai/gpt-4o-mini")
    assert (answer.id, answer.object, answer.model) == ("chatcmpl-3kTz", "chat.completion", "openai/gpt-4o-mini")
    assert answer.choices[0].message.content == "Merhaba 👋"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == 10
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert answer.usage.completion_tokens_details.reasoning_tokens == 1
    assert answer.model_extra["credits"] == CREDITS


def test_a_whole_answer_whose_usage_is_not_known_yet_has_none():
    assert whole(text="Hello", usage=None).usage is None


def test_a_whole_answer_that_calls_tools_has_no_empty_text():
    calls = ({"index": 0, "id": "call_1", "name": "f", "arguments": ""},)
    message = whole(tool_calls=calls).choices[0].message
    assert message.content is None
    assert [(each.id, each.function.arguments) for each in message.tool_calls] == [("call_1", "{}")]


def test_a_whole_answer_gives_back_what_was_thought_and_cited():
    details = ({"type": "reasoning.text", "text": "Hm.", "index": 0},)
    cited = ({"url": "https://example.com", "title": "Example", "start": 0, "end": 4},)
    message = whole(text="Yes.", reasoning="Hm.", reasoning_details=details, citations=cited).choices[0].message
    assert message.model_extra["reasoning"] == message.model_extra["reasoning_content"] == "Hm."
    assert message.model_extra["reasoning_details"] == [*details]
    assert message.annotations[0].url_citation.end_index == 4


def test_half_a_surrogate_pair_in_a_detail_does_not_break_an_answer():
    details = ({"type": "reasoning.text", "text": "\ud83d"},)
    assert "reasoning_details" in completion(Turn(), outcome(text="a", reasoning_details=details), CREDITS)


@given(st.lists(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1), max_size=4))
def test_embeddings_are_the_same_numbers_in_both_forms(vectors):
    embedded = Embedded("a/b", tuple(map(packed, vectors)), 3, CREDITS)
    as_floats = json.loads(b"".join(embeddings(embedded, as_floats=True)))
    as_text = json.loads(b"".join(embeddings(embedded, as_floats=False)))
    assert [[*numbers_of(item["embedding"])] for item in as_text["data"]] == vectors
    assert [[*numbers_of(packed(item["embedding"]))] for item in as_floats["data"]] == vectors
    assert [item["index"] for item in as_floats["data"]] == [*range(len(vectors))]
    assert as_floats["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    schemas.EmbeddingList.model_validate(as_floats)


def test_a_float32_is_packed_little_endian():
    assert packed([1.0]) == b64encode(b"\x00\x00\x80?").decode()
