"""Whatever a generation's events are, each kind of client reads a well-formed stream with the whole text."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chat.domain import Status
from functions.chat.renderers import CallableFrames, RenderedTurn, UiMessageStream
from functions.chat.schemas import Charge, Message, Text, TurnAnswer
from functions.chat.turn import Turn
from shared.errors import AppError, UpstreamBusy

Event = dict[str, Any]
Frame = dict[str, Any]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "reasoning_tokens": 0, "cached_tokens": 0}
CREDITS = {"charged_micro": 5, "credits": "0.000005", "pending": False}
START: Event = {
    "type": "start",
    "generation_id": "gen_1",
    "conversation_id": "conv_1",
    "message_id": "msg_2",
    "user_message_id": "msg_1",
    "parent_id": None,
    "model": "acme/one",
}
ERROR = {"code": "upstream_failed", "message": "It failed: ä\n\n", "trace_id": "a" * 32}


def end(status: Status, finish_reason: str | None = "stop") -> Event:
    """The last event; an interrupted turn knows no more than its error."""
    if status is Status.INTERRUPTED:
        return {"type": "end", "status": status.value, "error": ERROR}
    return {
        "type": "end",
        "status": status.value,
        "finish_reason": finish_reason,
        "usage": USAGE,
        "credits": CREDITS,
        "error": ERROR if status is Status.FAILED else None,
    }


def delta(kind: str, text: str) -> Event:
    return {"type": kind, "text": text}


ENDS = st.builds(
    end,
    st.sampled_from([Status.COMPLETED, Status.STOPPED, Status.FAILED, Status.INTERRUPTED]),
    st.sampled_from(["stop", "length", "content_filter", "tool_calls", "error", "odd", None]),
)
DELTAS = st.lists(st.builds(delta, st.sampled_from(["text", "reasoning"]), st.text(max_size=20)), max_size=12)


@st.composite
def generations(draw) -> list[Event]:
    """A whole log: start, deltas of both kinds in any order, end."""
    return [START, *draw(DELTAS), draw(ENDS)]


@st.composite
def in_batches(draw, events: list[Event]) -> list[list[Event]]:
    cuts = sorted(draw(st.sets(st.integers(1, len(events) - 1))))
    return [events[begin:stop] for begin, stop in zip([0, *cuts], [*cuts, len(events)], strict=True)]


def lines(rendered: bytes) -> list[str]:
    """The data of each frame, as a reader of server-sent events gets it."""
    assert rendered.endswith(b"\n\n") or not rendered
    frames = rendered.decode().split("\n\n")[:-1]
    assert all(frame.startswith("data: ") and "\n" not in frame and "\r" not in frame for frame in frames)
    return [frame.removeprefix("data: ") for frame in frames]


def ui_frames(events: list[Event]) -> list[Frame]:
    """The frames before `[DONE]`, which must be the last and only one of its kind."""
    data = lines(UiMessageStream().render(events))
    assert data[-1] == "[DONE]"
    assert data.count("[DONE]") == 1
    return [json.loads(line) for line in data[:-1]]


# The UI message stream


@given(generations())
def test_every_part_is_opened_and_closed_and_written_to_only_between(events):
    open_part: tuple[str, str] | None = None
    seen: set[str] = set()
    for frame in ui_frames(events):
        kind, _, step = frame["type"].rpartition("-")
        if kind not in {"text", "reasoning"}:
            assert open_part is None or frame["type"] in {"start", "start-step"}
            continue
        part = (kind, frame["id"])
        if step == "start":
            assert open_part is None
            assert frame["id"] not in seen
            seen.add(frame["id"])
            open_part = part
        else:
            assert open_part == part
            open_part = None if step == "end" else part
    assert open_part is None


@given(generations())
def test_a_stream_begins_once_and_ends_once(events):
    kinds = [frame["type"] for frame in ui_frames(events)]
    assert kinds[:2] == ["start", "start-step"]
    assert kinds.count("start") == 1
    ends = [kind for kind in kinds if kind in {"finish", "error", "abort"}]
    assert len(ends) == 1
    assert kinds[-1] == ends[0]


@given(generations())
def test_all_text_arrives_in_order_and_in_its_own_kind(events):
    frames = ui_frames(events)
    for kind in ("text", "reasoning"):
        written = "".join(event["text"] for event in events if event["type"] == kind)
        assert "".join(frame["delta"] for frame in frames if frame["type"] == f"{kind}-delta") == written


@given(generations())
def test_neighbours_of_one_kind_share_a_part(events):
    kinds = [event["type"] for event in events if event["type"] in {"text", "reasoning"}]
    turns = [kind for position, kind in enumerate(kinds) if position == 0 or kinds[position - 1] != kind]
    starts = [frame["type"] for frame in ui_frames(events) if frame["type"] in {"text-start", "reasoning-start"}]
    assert starts == [f"{kind}-start" for kind in turns]


@given(st.data(), generations())
def test_however_the_events_are_batched_the_bytes_are_the_same(data, events):
    renderer = UiMessageStream()
    batched = b"".join(renderer.render(batch) for batch in data.draw(in_batches(events)))
    assert batched == UiMessageStream().render(events)


@given(generations())
def test_events_read_from_the_log_give_the_same_bytes_as_live_ones(events):
    numbered = [{"seq": position, **event} for position, event in enumerate(events, start=1)]
    assert UiMessageStream().render(numbered) == UiMessageStream().render(events)


def test_the_start_says_what_the_client_must_know():
    start = ui_frames([START, end(Status.COMPLETED)])[0]
    assert start["messageId"] == "msg_2"
    assert start["messageMetadata"] == {
        "generation_id": "gen_1",
        "conversation_id": "conv_1",
        "user_message_id": "msg_1",
        "model": "acme/one",
    }


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("content_filter", "content-filter"),
        ("tool_calls", "tool-calls"),
        ("odd", "other"),
        (None, "other"),
    ],
)
def test_a_completed_turn_says_why_it_ended_and_what_it_cost(reason, told):
    frames = ui_frames([START, delta("text", "hi"), end(Status.COMPLETED, reason)])
    assert [frame["type"] for frame in frames[-2:]] == ["finish-step", "finish"]
    assert frames[-1]["finishReason"] == told
    assert frames[-1]["messageMetadata"] == {"status": "completed", "usage": USAGE, "credits": CREDITS}


def test_a_stopped_turn_is_aborted_and_says_what_it_cost():
    frames = ui_frames([START, delta("text", "hi"), end(Status.STOPPED, None)])
    assert [frame["type"] for frame in frames[-3:]] == ["text-end", "message-metadata", "abort"]
    assert frames[-2]["messageMetadata"] == {"status": "stopped", "usage": USAGE, "credits": CREDITS}


@pytest.mark.parametrize("status", [Status.FAILED, Status.INTERRUPTED])
def test_a_turn_that_failed_tells_its_error_with_its_trace(status):
    frames = ui_frames([START, delta("text", "hi"), end(status)])
    assert [frame["type"] for frame in frames[-3:]] == ["text-end", "message-metadata", "error"]
    assert json.loads(frames[-1]["errorText"]) == ERROR
    assert frames[-2]["messageMetadata"]["status"] == status


def test_the_stream_names_its_format_and_stays_out_of_caches_and_buffers():
    assert UiMessageStream.headers["x-vercel-ai-ui-message-stream"] == "v1"
    assert "no-store" in UiMessageStream.headers["Cache-Control"]
    assert "no-transform" in UiMessageStream.headers["Cache-Control"]
    assert UiMessageStream.headers["X-Accel-Buffering"] == "no"


# Callable frames


class FakeTurn:
    """A turn with its events known beforehand."""

    def __init__(self, events: list[Event], failure: AppError | None = None) -> None:
        self._batches = iter([[event] for event in events])
        self._failure = failure
        self.closed = 0

    def __iter__(self) -> Iterator[list[Event]]:
        return self

    def __next__(self) -> list[Event]:
        return next(self._batches)

    def close(self) -> None:
        self.closed += 1

    def answer(self) -> TurnAnswer:
        if self._failure is not None:
            raise self._failure
        return ANSWER


def message(message_id: str, role: Any, text: str) -> Message:
    part = Text(type="text", text=text)
    return Message(id=message_id, parent_id=None, role=role, parts=[part], status="completed", created_at=NOW)


ANSWER = TurnAnswer(
    conversation_id="conv_1",
    generation_id="gen_1",
    user_message=message("msg_1", "user", "question"),
    message=message("msg_2", "assistant", "ä answer\n\nof lines"),
    usage=None,
    credits=Charge(charged_micro=5, credits="0.000005", pending=False),
)


def as_turn(fake: FakeTurn) -> Turn:
    return cast("Turn", fake)


def callable_frames(events: list[Event], failure: AppError | None = None) -> list[Frame]:
    turn = as_turn(FakeTurn(events, failure))
    return [json.loads(line) for line in lines(CallableFrames(turn).render(events))]


@given(generations())
def test_a_callable_gets_each_event_as_a_message_and_the_answer_last(events):
    *messages, last = callable_frames(events)
    assert messages == [{"message": event} for event in events[:-1]]
    assert last == {"result": ANSWER.model_dump(mode="json")}


def test_a_callable_whose_turn_failed_gets_the_error_last():
    events = [START, delta("text", "hi"), end(Status.FAILED)]
    *messages, last = callable_frames(events, UpstreamBusy("The model is busy.", provider="Acme"))
    assert len(messages) == 2
    assert last["error"]["status"] == "UNAVAILABLE"
    assert last["error"]["message"] == "The model is busy."
    assert last["error"]["details"]["code"] == "upstream_busy"
    assert "Acme" not in json.dumps(last)


@given(st.data(), generations())
def test_a_callables_frames_do_not_depend_on_the_batches(data, events):
    renderer = CallableFrames(as_turn(FakeTurn(events)))
    batched = b"".join(renderer.render(batch) for batch in data.draw(in_batches(events)))
    assert batched == CallableFrames(as_turn(FakeTurn(events))).render(events)


# A rendered turn


@given(generations())
def test_a_rendered_turn_is_the_frames_of_its_batches(events):
    turn = FakeTurn(events)
    assert b"".join(RenderedTurn(as_turn(turn), UiMessageStream())) == UiMessageStream().render(events)
    assert turn.closed == 0


@pytest.mark.parametrize("read", [0, 1, 3])
def test_closing_a_rendered_turn_closes_the_turn_wherever_it_stands(read):
    turn = FakeTurn([START, delta("text", "hi"), end(Status.COMPLETED)])
    rendered = RenderedTurn(as_turn(turn), UiMessageStream())
    for _ in range(read):
        next(rendered)
    rendered.close()
    assert turn.closed == 1
