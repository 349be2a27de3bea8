"""A chat answer as server-sent events: the shapes of the chunks, and the plan of a stream with its faults."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from emulator.openrouter.calls import to_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emulator.openrouter.answers import Answer

KEEPALIVE: Final = b": OPENROUTER PROCESSING\n\n"
DONE: Final = b"data: [DONE]\n\n"
DEFAULT_KEEPALIVES: Final = 2
DEFAULT_USAGE_SHAPE: Final = "iii"
_FRAGMENT: Final = re.compile(r".{1,3}", re.DOTALL)
_PROVIDER_ERROR: Final = "Provider returned error"


class Ending(Enum):
    """How the stream ends on the wire."""

    FINISHED = "finished"
    DROPPED = "dropped"
    RESET = "reset"
    STALLED = "stalled"


class Frame(NamedTuple):
    """Bytes to send, the tokens produced once they are sent, and the wait before them."""

    data: bytes
    produced: int
    pause_ms: float = 0


class Step(NamedTuple):
    data: bytes
    tokens: int


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole stream. The bill for `produced` tokens is due after the frames and before the tail is sent."""

    frames: list[Frame]
    tail: list[bytes]
    ending: Ending
    produced: int
    finish_reason: str | None
    native_finish_reason: str | None
    waived: bool = False


@dataclass(frozen=True, slots=True)
class _Cut:
    """Where a stream is interrupted: what was sent, and the chunk that would have been next."""

    answer: Answer
    chunks: Chunks
    frames: list[Frame]
    produced: int
    next_chunk: bytes


class Chunks:
    """Chunks of one stream. The old shape has another order of keys, and `logprobs`. `more` goes with the usage."""

    def __init__(
        self, generation_id: str, created: int, answer: Answer, *, old: bool, more: dict[str, Any] | None = None
    ) -> None:
        model, provider = answer.shown_model, answer.provider
        about: dict[str, Any] = {"id": generation_id, "object": "chat.completion.chunk", "created": created}
        about |= {"model": model, "provider": provider}
        if old:
            order = ("id", "provider", "model", "object", "created")
            about = {name: about[name] for name in order}
        self._about = about
        self.with_usage = more or {}
        self._after_delta = {"logprobs": None} if old else {}
        # With readable reasoning, every delta says whether the model thinks, in it as well as before and after.
        says = answer.shows_reasoning and answer.reasoning_style != "encrypted"
        self._no_thought: dict[str, Any] = {"reasoning": None, "reasoning_details": []} if says else {}
        before, after = self.delta({"content": "\0"}).split(to_json("\0"))
        self._before_content, self._after_content = before, after

    def content(self, token: str) -> bytes:
        """The most frequent chunk, put together from its constant parts."""
        return self._before_content + encode_basestring(token).encode() + self._after_content

    def delta(self, delta: dict[str, Any], finish: str | None = None, native: str | None = None, **more: Any) -> bytes:
        whole = {"role": "assistant", "content": "", **self._no_thought, **delta}
        return self.choice(whole, finish, native, **more)

    def choice(self, delta: dict[str, Any], finish: str | None, native: str | None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "native_finish_reason": native}
        return self.bare([choice | self._after_delta], **more)

    def bare(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return b"data: %b\n\n" % to_json({**self._about, "choices": choices, **more})


def plan(answer: Answer, chunks: Chunks) -> Plan:
    """Every frame of the stream, in order, as the faults of the answer want it."""
    faults = answer.faults
    interruption = _interruption(answer)
    keepalives = faults.number("keepalive")
    frames = [Frame(KEEPALIVE, 0)] * (DEFAULT_KEEPALIVES if keepalives is None else keepalives)
    opening_pause = float(faults.number("first_token_delay_ms") or 0)
    frames.append(Frame(chunks.delta({}), 0, opening_pause))
    between = KEEPALIVE * (faults.number("keepalive_between") or 0)
    delay = faults.number("chunk_delay_ms")
    pause_ms = answer.model.chunk_delay_ms if delay is None else delay
    produced, sent = 0, 0
    steps = list(_steps(answer, chunks))
    for step in steps:
        if interruption is not None and sent == interruption[1]:
            break
        produced += step.tokens
        frames.append(Frame(between + step.data if sent else step.data, produced, pause_ms if sent else 0))
        sent += 1
    if interruption is not None:
        next_chunk = steps[sent].data if sent < len(steps) else chunks.content("…")
        return _interrupted(interruption[0], _Cut(answer, chunks, frames, produced, next_chunk))
    return Plan(
        frames,
        _regular_tail(answer, chunks),
        Ending.FINISHED,
        answer.completion_tokens,
        answer.finish_reason,
        answer.native_finish_reason,
    )


def _interruption(answer: Answer) -> tuple[str, int] | None:
    """What cuts the stream short, and after how many content chunks; the first of the table when there are several."""
    names = (
        "stream_error_a",
        "stream_error_b",
        "stream_error_c",
        "stream_error_d",
        "reset_after",
        "stall_after",
    )
    for name in names:
        after = answer.faults.number(name)
        if after is not None:
            return name, after
    for name, after in (("error_200", 2), ("truncated_json", 2)):
        if value := answer.faults.choice(name):
            return f"{name}={value}", after
    return None


def _steps(answer: Answer, chunks: Chunks) -> Iterator[Step]:
    """The chunks that carry something, with the tokens each of them is."""
    hidden = 0
    if answer.shows_reasoning:
        yield from _reasoning_steps(answer, chunks)
    else:
        hidden = len(answer.reasoning)
    for token in answer.content:
        yield Step(chunks.content(token), 1 + hidden)
        hidden = 0
    if answer.tool_calls:
        yield from _tool_steps(answer, chunks, hidden)
        hidden = 0
    if answer.image_urls:
        yield Step(chunks.delta({"images": answer.images()}), answer.image_tokens + hidden)
    if annotations := answer.annotations():
        yield Step(chunks.delta({"annotations": annotations}), 0)


def _reasoning_steps(answer: Answer, chunks: Chunks) -> Iterator[Step]:
    for opening in answer.opening_reasoning():
        yield Step(chunks.delta({"reasoning": None, "reasoning_details": [opening]}), 0)
    if answer.reasoning_text() is None:
        details: dict[str, Any] = {"reasoning": None, "reasoning_details": [answer.reasoning_detail("")]}
        yield Step(chunks.delta(details), len(answer.reasoning))
    else:
        for thought in answer.reasoning:
            details = {"reasoning": thought, "reasoning_details": [answer.reasoning_detail(thought)]}
            yield Step(chunks.delta(details), 1)
    for closing in answer.closing_reasoning():
        yield Step(chunks.delta({"reasoning": None, "reasoning_details": [closing]}), 0)


def _tool_steps(answer: Answer, chunks: Chunks, tokens_before: int) -> Iterator[Step]:
    """All tokens count with the first chunk of the calls: half a call is as dear as a whole one."""
    tokens = answer.tool_tokens + tokens_before
    for index in range(len(answer.tool_calls)):
        call = answer.tool_call(index)
        arguments = call["function"].pop("arguments", None)
        if arguments is not None:
            call["function"]["arguments"] = ""
        yield Step(chunks.delta({"content": None, "tool_calls": [call]}), tokens)
        tokens = 0
        if not arguments:
            continue
        whole = answer.faults.choice("tool_arguments") != "fragmented"
        for piece in [arguments] if whole else _FRAGMENT.findall(arguments):
            more = {"index": index, "type": "function", "function": {"arguments": piece}}
            yield Step(chunks.delta({"content": None, "tool_calls": [more]}), 0)


def _regular_tail(answer: Answer, chunks: Chunks) -> list[bytes]:
    finish, native = answer.finish_reason, answer.native_finish_reason
    tail = [chunks.delta({}, finish, native)]
    if not answer.faults.flag("no_usage"):
        tail.append(_usage_chunk(answer, chunks))
    return [*tail, DONE]


def _usage_chunk(answer: Answer, chunks: Chunks) -> bytes:
    usage = answer.bill().usage(noisy=answer.faults.flag("float_noise"))
    empty = {"role": "assistant", "content": ""}
    match answer.faults.choice("usage_shape") or DEFAULT_USAGE_SHAPE:
        case "i":
            return chunks.choice(empty, None, None, usage=usage, **chunks.with_usage)
        case "ii":
            return chunks.bare([], usage=usage, **chunks.with_usage)
    tier = service_tier(answer)
    more = {"service_tier": tier, "usage": usage, **chunks.with_usage}
    return chunks.choice(empty, answer.finish_reason, answer.native_finish_reason, **more)


def service_tier(answer: Answer) -> str | None:
    return "default" if answer.model.author == "openai" else None


def error_object(answer: Answer, code: str) -> dict[str, Any]:
    """An error after HTTP 200. `code` is a status or `server_error`."""
    kind = {"429": "rate_limit_exceeded", "529": "provider_overloaded", "server_error": "server"}
    metadata = {"error_type": kind.get(code, "provider_unavailable"), "provider_code": "upstream_error"}
    if answer.faults.choice("error_200"):
        metadata["provider_name"] = answer.provider
    return {"code": int(code) if code.isdigit() else code, "message": _PROVIDER_ERROR, "metadata": metadata}


# Quotes inside of content are escaped, so these can only be the fields of the choice.
_UNFINISHED: Final = b'"finish_reason":null,"native_finish_reason":null'
_LENGTH: Final = b'"finish_reason":"length","native_finish_reason":"length"'
_ENDINGS: Final = {
    "reset_after": Ending.RESET,
    "stall_after": Ending.STALLED,
    "truncated_json=connection": Ending.DROPPED,
}
_WAIVED: Final = frozenset({"stream_error_a", "stream_error_c", "error_200=body", "error_200=choice"})


def _interrupted(name: str, cut: _Cut) -> Plan:
    if name == "stream_error_b":
        last = cut.frames[-1]
        cut.frames[-1] = last._replace(data=last.data.replace(_UNFINISHED, _LENGTH))
    waived = name in _WAIVED
    finish = "error" if waived else "length" if name == "stream_error_b" else None
    return Plan(
        cut.frames,
        _tail_after(name, cut),
        _ENDINGS.get(name, Ending.FINISHED),
        cut.produced,
        finish,
        None if waived else finish,
        waived=waived,
    )


def _tail_after(name: str, cut: _Cut) -> list[bytes]:
    """What is still said after the last chunk that arrived whole."""
    answer, chunks = cut.answer, cut.chunks
    code = answer.faults.choice("stream_error_code")
    tail: list[bytes] = []
    match name:
        case "stream_error_a":
            error = error_object(answer, code or "server_error")
            tail = [chunks.choice({"content": ""}, "error", None, error=error)]
        case "stream_error_b":
            tail = _error_b(answer, chunks, cut.produced)
        case "stream_error_c":
            tail = [chunks.bare([], error=error_object(answer, code or "502")), DONE]
        case "error_200=body":
            tail = [b"data: %b\n\n" % to_json({"error": error_object(answer, code or "502")}), DONE]
        case "error_200=choice":
            choice = {"index": 0, "delta": {"content": ""}, "finish_reason": "error", "native_finish_reason": None}
            tail = [chunks.bare([{**choice, "error": error_object(answer, code or "502")}]), DONE]
        case "truncated_json=body" | "truncated_json=connection":
            tail = [cut.next_chunk[: len(cut.next_chunk) // 2]]
    return tail


def _error_b(answer: Answer, chunks: Chunks, produced: int) -> list[bytes]:
    """As recorded: the finish again, after the one of the last chunk, then the error and the usage in one chunk."""
    usage = answer.bill(produced).usage(noisy=answer.faults.flag("float_noise"))
    error = {"code": 400, "message": "Token limit reached"}
    empty = {"role": "assistant", "content": ""}
    finish = chunks.delta({}, "length", "length")
    return [finish, chunks.choice(empty, None, None, error=error, usage=usage), DONE]
