"""One event log, three formats: whatever the provider sends and however the network cuts it, the web app, the Firebase
SDK and programs read the same text, the same usage and the same end.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message as Headers
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.chat import ending, turn
from functions.chat.domain import Generation, Outcome
from functions.chat.ending import Place
from functions.chat.generation_log import Append
from functions.chat.renderers import CallableFrames, RenderedTurn, UiMessageStream
from functions.chat.turn import Request, Turn
from functions.openai_api.rendering import Chunks
from shared.openrouter import ChatStream, asking

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEEP_ALIVE = b": OPENROUTER PROCESSING\n\n"
DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "cost": 0.00012, "is_byok": False}
SHOWN_USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "reasoning_tokens": 0, "cached_tokens": 0}

TEXTS = st.text(min_size=1, max_size=12)
CONTENT = st.one_of(
    st.builds(lambda text: {"content": text}, TEXTS),
    st.builds(lambda text: {"reasoning": text}, TEXTS),
    st.builds(
        lambda index, arguments: {
            "tool_calls": [
                {"index": index, "id": f"call_{index}", "function": {"name": f"f{index}", "arguments": arguments}}
            ]
        },
        st.integers(0, 1),
        st.text(max_size=6),
    ),
)


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    about = {"id": "gen-1-abc", "object": "chat.completion.chunk", "model": "acme/one", "provider": "Acme"}
    return {**about, "choices": choices, **more}


ENDS: dict[str, list[dict[str, Any]]] = {
    "usage beside an empty delta": [chunk({}, "stop"), chunk({"content": ""}, usage=USAGE)],
    "usage without choices": [chunk({}, "stop"), chunk(usage=USAGE)],
    "usage that says again why it ended": [chunk({}, "stop"), chunk({"content": ""}, "stop", usage=USAGE)],
    "an error beside a choice": [chunk({"content": ""}, "error", error={"code": 429, "message": "Slow down"})],
    "an error with its usage": [
        chunk({"content": ""}, "length"),
        chunk({"content": ""}, error={"code": 400, "message": "Token limit reached"}, usage=USAGE),
    ],
    "an error without choices": [chunk(error={"code": "server_error", "message": "Broken"})],
    "nothing": [],
}
FAILURES = {"an error beside a choice", "an error with its usage", "an error without choices", "nothing"}


@dataclass
class Wire:
    """What the provider sends, in the pieces in which the network brings it."""

    pieces: list[bytes]
    content: list[dict[str, Any]]
    end: str


@st.composite
def wires(draw) -> Wire:
    content, end = draw(st.lists(CONTENT, max_size=8)), draw(st.sampled_from(sorted(ENDS)))
    frames = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in [*map(chunk, content), *ENDS[end]]]
    if end not in FAILURES:
        frames.append(DONE)
    for place in sorted(draw(st.lists(st.integers(0, len(frames)), max_size=6)), reverse=True):
        frames.insert(place, KEEP_ALIVE)
    sent = b"".join(frames)
    cuts = sorted(draw(st.sets(st.integers(1, max(len(sent) - 1, 1)), max_size=20)))
    pieces = [sent[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    return Wire([piece for piece in pieces if piece], content, end)


@dataclass
class FakeAnswer:
    """The body of an answer on its way, without the socket."""

    pieces: list[bytes]
    headers: Headers = field(default_factory=Headers)

    def read_some(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""

    def close(self, *, end_is_near: bool = False) -> None:
        """There is no connection to give back."""


class FakeAttempt:
    def answering(self) -> None:
        """Nobody counts."""

    failed = succeeded = dropped = lambda *_: None


class FakeLog:
    def open(self) -> None:
        """There is no Redis."""

    def append(self, _events: Any, **_: Any) -> Append:
        return Append.DONE


def end(generation: Generation, _hold: Any, outcome: Outcome, *, keep_partial: bool, place: Place) -> ending.Ended:
    """The end of a generation without its batch."""
    assert keep_partial
    assert place == Place()
    return ending._ended(generation, outcome, kept=outcome.says_something)


@pytest.fixture(autouse=True, scope="module")
def without_neighbours() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turn, "GenerationLog", lambda *_: FakeLog())
        patch.setattr(turn, "watch", SimpleNamespace(watch=lambda *_: None, unwatch=lambda *_: None, count=lambda: 1))
        patch.setattr(turn, "models", SimpleNamespace(slug_of=lambda name: name, all_for_anyone_fail=lambda: False))
        patch.setattr(ending, "end", end)
        patch.setattr(ending, "learn_usage", lambda *_: None)
        yield


def running(wire: Wire) -> Turn:
    generation = Generation(
        id="gen_1",
        uid="u",
        conversation_id="conv_1",
        message_id="msg_2",
        user_message_id="msg_1",
        parent_id=None,
        model="acme/one",
        markup_percent=20,
        started_at=NOW,
        question=({"type": "text", "text": "hi"},),
    )
    request = Request((cast("Any", SimpleNamespace(slug="acme/one", canonical_slug=None, markup_percent=20)),), (), {})
    made = Turn(generation, cast("Any", None), request, Place(), clock=lambda: NOW, keep_partial=True)
    stream = ChatStream(cast("Any", FakeAnswer(list(wire.pieces))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking, "ask", lambda *_, **__: (stream, FakeAttempt()))
        made.connect()
    return made


@dataclass
class Read:
    """What a client of a format knows in the end."""

    text: str = ""
    reasoning: str = ""
    calls: dict[str, str] = field(default_factory=dict)
    usage: Any = None
    state: str = ""


def frames(stream: Any) -> list[Any]:
    said = b"".join(stream).decode().split("\n\n")
    assert said.pop() == ""
    data = [frame.removeprefix("data: ") for frame in said]
    return [json.loads(line) for line in data if line != "[DONE]"]


def read_ui(wire: Wire) -> Read:
    read = Read()
    for frame in frames(RenderedTurn(running(wire), UiMessageStream())):
        match frame["type"]:
            case "text-delta":
                read.text += frame["delta"]
            case "reasoning-delta":
                read.reasoning += frame["delta"]
            case "tool-input-start":
                read.calls[frame["toolCallId"]] = ""
            case "tool-input-delta":
                read.calls[frame["toolCallId"]] += frame["inputTextDelta"]
            case "finish":
                read.state, read.usage = "completed", frame["messageMetadata"]["usage"]
            case "message-metadata":
                read.usage = frame["messageMetadata"]["usage"]
            case "error":
                read.state = "failed"
    return read


def read_callable(wire: Wire) -> Read:
    made, read = running(wire), Read()
    for frame in frames(RenderedTurn(made, CallableFrames(made))):
        event = frame.get("message", {})
        match event.get("type"):
            case "text":
                read.text += event["text"]
            case "reasoning":
                read.reasoning += event["text"]
            case "tool_call":
                read.calls[f"call_{event['index']}"] = read.calls.get(f"call_{event['index']}", "") + event["arguments"]
        if "result" in frame:
            read.state, read.usage = frame["result"]["message"]["status"], frame["result"]["usage"]
        elif "error" in frame:
            read.state = "failed"
    return read


def read_openai(wire: Wire) -> Read:
    read = Read()
    for frame in frames(Chunks(running(wire), include_usage=True)):
        if "error" in frame:
            read.state = "failed"
            continue
        if frame.get("usage"):
            read.usage = frame["usage"]
        for choice in frame["choices"]:
            delta = choice["delta"]
            read.text += delta.get("content") or ""
            read.reasoning += delta.get("reasoning") or ""
            for call in delta.get("tool_calls", []):
                name = f"call_{call['index']}"
                read.calls[name] = read.calls.get(name, "") + call["function"]["arguments"]
            if choice["finish_reason"]:
                read.state = "completed"
    return read


READERS: list[Callable[[Wire], Read]] = [read_ui, read_callable, read_openai]


@given(wires())
def test_every_format_ends_in_the_same_text_usage_and_state(wire):
    text = "".join(delta.get("content", "") for delta in wire.content)
    reasoning = "".join(delta.get("reasoning", "") for delta in wire.content)
    calls: dict[str, str] = {}
    for delta in wire.content:
        for call in delta.get("tool_calls", []):
            calls[call["id"]] = calls.get(call["id"], "") + call["function"]["arguments"]
    ui, framed, openai = (read(wire) for read in READERS)
    says_nothing = not (text or reasoning or calls)
    state = "failed" if wire.end in FAILURES else "completed"
    if says_nothing and state == "completed":
        # An empty answer that ended well is one for those who read a stream; a callable has no message to give.
        assert (ui.state, openai.state, framed.state) == ("completed", "completed", "failed")
        return
    for read in (ui, framed, openai):
        assert (read.text, read.reasoning, read.state) == (text, reasoning, state)
    assert ui.calls == framed.calls == calls
    # A call without arguments is one with none, which OpenAI's clients only know as an empty object.
    assert openai.calls == {name: said or ("{}" if state == "completed" else "") for name, said in calls.items()}
    if state == "completed":
        assert ui.usage == framed.usage == SHOWN_USAGE
        assert (openai.usage["prompt_tokens"], openai.usage["completion_tokens"]) == (7, 3)
