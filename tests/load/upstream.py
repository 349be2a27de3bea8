"""The model provider of the benchmark: the same answer to everybody, made of bytes that were prepared before.

    venv/bin/python -m tests.load.upstream PORT

It speaks OpenRouter's wire (chunked server-sent events, usage with its cost in the last chunk) after a fixed delay. The
suite's stand-in computes each answer from the question and keeps a journal of it, which costs more than what is
measured here; this one spends some tens of microseconds a stream and leaves the machine to the gateway.

A streamed answer is `CHUNKS` words, each in a write of its own: as fast as they go out for `MODEL`, one every
`PACE_S` for `PACED_MODEL`. `GET /times` tells when each question came and when its answer was out, on the clock of
`time.monotonic`, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from emulator.openrouter import catalogue
from shared.openrouter.parse import ChatEvents

if TYPE_CHECKING:
    from collections.abc import Callable

MODEL = "openai/gpt-4o-mini"
PACED_MODEL = "benchmark/paced"
CHUNKS = 100
DELAY_S = 0.010
PACE_S = 0.020
TICK_S = 0.002
FIRST_WORD = b"first-word"
LAST_WORD = b"last-word"
WORDS = [FIRST_WORD.decode(), *(f" word{number}" for number in range(CHUNKS - 2)), f" {LAST_WORD.decode()}"]

_ABOUT = {"id": "gen-1763800000-benchmark", "object": "chat.completion.chunk", "created": 1763800000}
_MADE_BY = {"model": MODEL, "provider": "OpenAI"}
_USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": CHUNKS,
    "total_tokens": 20 + CHUNKS,
    "cost": 0.000063,
    "is_byok": False,
    "prompt_tokens_details": {"cached_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0},
    "cost_details": {"upstream_inference_cost": None},
}
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nX-Generation-Id: gen-1763800000-benchmark\r\nCache-Control: no-cache\r\n"
)


def _data(value: Any) -> bytes:
    return b"data: %b\n\n" % json.dumps(value, separators=(",", ":")).encode()


def _chunk(text: str, finish: str | None = None, **more: Any) -> bytes:
    delta = {"role": "assistant", "content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "native_finish_reason": finish}
    return _data({**_ABOUT, **_MADE_BY, "choices": [choice], **more})


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _with_length(body: bytes, content_type: bytes = b"application/json") -> bytes:
    return b"%bContent-Length: %d\r\n\r\n%b" % (_HEAD % content_type, len(body), body)


def _whole_answer() -> bytes:
    message = {"role": "assistant", "content": "".join(WORDS), "refusal": None}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "native_finish_reason": "stop"}
    return json.dumps(
        {**_ABOUT, "object": "chat.completion", **_MADE_BY, "choices": [choice], "usage": _USAGE}
    ).encode()


def _catalogue() -> bytes:
    models = {model.id: model.public for model in catalogue.MODELS}
    entries = [models[MODEL], {**models[MODEL], "id": PACED_MODEL, "canonical_slug": PACED_MODEL}]
    return json.dumps({"data": entries, "total_count": len(entries), "links": {"next": None}}).encode()


EVENTS = [
    *map(_chunk, WORDS),
    _chunk("", "stop") + _chunk("", "stop", usage=_USAGE) + b"data: [DONE]\n\n",
]
"""The body of a stream in the pieces in which it is written; the last holds all that follows the words."""
PIECES = [*map(_framed, EVENTS[:-1]), _framed(EVENTS[-1]) + b"0\r\n\r\n"]
STREAM_HEAD = (
    _HEAD % b"text/event-stream" + b"Transfer-Encoding: chunked\r\n\r\n" + _framed(b": OPENROUTER PROCESSING\n\n")
)
PLAIN = _with_length(_whole_answer())
MODELS = _with_length(_catalogue())
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class _Pacer:
    """Streams in slow motion: those that began in the same tick get their words in the same tick."""

    def __init__(self) -> None:
        self._buckets: list[list[_Provider]] = [[] for _ in range(round(PACE_S / TICK_S))]
        self._ticks = 0
        self._began = 0.0

    def start(self) -> None:
        self._began = time.monotonic()
        self._tick()

    def add(self, provider: _Provider) -> None:
        self._buckets[self._ticks % len(self._buckets)].append(provider)

    def _tick(self) -> None:
        # Late ticks are made up for, so that the pace holds when the machine is busy.
        while self._began + self._ticks * TICK_S <= time.monotonic():
            self._ticks += 1
            place = self._ticks % len(self._buckets)
            if self._buckets[place]:
                self._buckets[place] = [each for each in self._buckets[place] if each.write_piece()]
        due = self._began + self._ticks * TICK_S - time.monotonic()
        asyncio.get_running_loop().call_later(max(due, 0), self._tick)


class _Provider(asyncio.Protocol):
    """One connection; requests come one after the other."""

    times: list[tuple[float, float]]
    pacer: _Pacer
    transport: asyncio.Transport

    def __init__(self, times: list[tuple[float, float]], pacer: _Pacer) -> None:
        self.times, self.pacer = times, pacer
        self._received = b""
        self._written = 0
        self._asked_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return
        self._received = b""
        self._asked_at = time.monotonic()
        answer = self._answer_to(head, body)
        asyncio.get_running_loop().call_later(DELAY_S if head.startswith(b"POST") else 0, answer)

    def _answer_to(self, head: bytes, body: bytes) -> Callable[[], None]:
        if head.startswith(b"POST") and b"/chat/completions" in head:
            if b'"stream":true' not in body.replace(b" ", b""):
                return lambda: self._write_whole(PLAIN)
            return self._begin_paced if PACED_MODEL.encode() in body else self._write_stream
        if head.startswith(b"GET /times "):
            return self._write_times
        return lambda: self._write_whole(MODELS if b"/models" in head else NOT_FOUND)

    def _write_whole(self, answer: bytes) -> None:
        self.transport.write(answer)
        self.times.append((self._asked_at, time.monotonic()))

    def _write_times(self) -> None:
        self.transport.write(_with_length(json.dumps(self.times).encode()))
        self.times.clear()

    def _write_stream(self) -> None:
        self.transport.write(STREAM_HEAD)
        self._written = 0
        while self.write_piece():
            pass

    def _begin_paced(self) -> None:
        self.transport.write(STREAM_HEAD)
        self._written = 0
        self.write_piece()
        self.pacer.add(self)

    def write_piece(self) -> bool:
        """Write the next piece; whether there are more."""
        self.transport.write(PIECES[self._written])
        self._written += 1
        if self._written < len(PIECES) and not self.transport.is_closing():
            return True
        self.times.append((self._asked_at, time.monotonic()))
        return False


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def check_wire() -> None:
    """The product's own parser must take the prepared bytes for a whole answer; else nothing here means anything."""
    events = ChatEvents()
    for event in EVENTS:
        events.feed(event)
    assert events.ended, "the stream has an end"
    assert events.failure is None, "the stream is an answer"
    assert events.usage is not None, "the stream tells its cost"


async def serve(port: int) -> None:
    check_wire()
    times: list[tuple[float, float]] = []
    pacer = _Pacer()
    pacer.start()
    server = await asyncio.get_running_loop().create_server(
        lambda: _Provider(times, pacer), "127.0.0.1", port, backlog=1024
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
