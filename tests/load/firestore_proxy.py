"""Between a function and the Firestore emulator: counts the calls, and lets each answer come late.

Counting at the wire says what was really asked, whatever library asks; the delay tells what is waited for one after
the other from what is under way at the same time. HTTP/2 (RFC 9113) is read only as far as that needs: which stream
begins with which path, and which one has ended.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from hpack import Decoder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME_HEAD_BYTES = 9
_DATA, _HEADERS, _RST_STREAM = 0, 1, 3
_END_STREAM, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x4, 0x8, 0x20


@dataclass
class FirestoreCall:
    """One call, on the clock of `time.monotonic`; `ended_at` is when the function has its whole answer."""

    method: str
    began_at: float
    ended_at: float | None = None


def longest_chain(calls: Sequence[FirestoreCall]) -> int:
    """How many of the calls were made one after the other: each began when the one before had ended."""
    length, free_at = 0, 0.0
    for call in sorted(calls, key=lambda each: each.ended_at or 0.0):
        if call.ended_at is not None and call.began_at >= free_at:
            length, free_at = length + 1, call.ended_at
    return length


class FirestoreProxy:
    """Use as a context; `address` is what the function takes for the emulator."""

    def __init__(self, target: str, *, delay_s: float) -> None:
        host, _, port = target.rpartition(":")
        self._target, self._delay_s = (host, int(port)), delay_s
        self.calls: list[FirestoreCall] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="firestore-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(self._listen(), self._loop)
        self.address = f"127.0.0.1:{listening.result(timeout=5)}"
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)

    async def _listen(self) -> int:
        server = await self._loop.create_server(lambda: _Inward(self), "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def connect(self, inward: _Inward) -> None:
        await self._loop.create_connection(lambda: _Outward(inward, self._delay_s), *self._target)


class _Frames:
    """Cuts one direction of a connection into frames: type, flags, stream, payload."""

    def __init__(self, preface: bytes = b"") -> None:
        self._preface, self._buffer = preface, bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        self._buffer += data
        if self._preface and len(self._buffer) >= len(self._preface):
            assert self._buffer.startswith(self._preface), "Firestore is spoken to in HTTP/2"
            del self._buffer[: len(self._preface)]
            self._preface = b""
        while not self._preface and len(self._buffer) >= _FRAME_HEAD_BYTES:
            end = _FRAME_HEAD_BYTES + int.from_bytes(self._buffer[:3])
            if len(self._buffer) < end:
                return
            kind, flags = self._buffer[3], self._buffer[4]
            stream = int.from_bytes(self._buffer[5:9]) & 0x7FFFFFFF
            payload = bytes(self._buffer[_FRAME_HEAD_BYTES:end])
            del self._buffer[:end]
            yield kind, flags, stream, payload


class _Inward(asyncio.Protocol):
    """The function's side of a connection."""

    transport: asyncio.Transport

    def __init__(self, proxy: FirestoreProxy) -> None:
        self._proxy, self._frames, self._headers = proxy, _Frames(_PREFACE), Decoder()
        self._calls: dict[int, FirestoreCall] = {}
        self._waiting: list[bytes] = []
        self._outward: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._connecting = asyncio.ensure_future(self._proxy.connect(self))

    def connected(self, outward: asyncio.Transport) -> None:
        self._outward = outward
        outward.writelines(self._waiting)
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        for kind, flags, stream, payload in self._frames.feed(data):
            if kind == _HEADERS and stream not in self._calls:
                self._begin(stream, self._path_in(flags, payload))
        if self._outward is None:
            self._waiting.append(data)
        else:
            self._outward.write(data)

    def _path_in(self, flags: int, payload: bytes) -> str:
        assert flags & _END_HEADERS, "the headers of a call fit one frame"
        start, end = 0, len(payload)
        if flags & _PADDED:
            start, end = 1, end - payload[0]
        if flags & _PRIORITY:
            start += 5
        headers = {str(name): str(value) for name, value, *_ in self._headers.decode(payload[start:end])}
        return headers[":path"]

    def _begin(self, stream: int, path: str) -> None:
        call = FirestoreCall(path.rpartition("/")[2], time.monotonic())
        self._calls[stream] = call
        self._proxy.calls.append(call)

    def ended(self, stream: int) -> None:
        if stream in self._calls:
            self._calls[stream].ended_at = time.monotonic()

    def connection_lost(self, _exc: Exception | None) -> None:
        if self._outward is not None:
            self._outward.close()


class _Outward(asyncio.Protocol):
    """The emulator's side: everything that comes from there waits for its time."""

    def __init__(self, inward: _Inward, delay_s: float) -> None:
        self._inward, self._delay_s, self._frames = inward, delay_s, _Frames()
        self._late: deque[bytes] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._inward.connected(transport)

    def data_received(self, data: bytes) -> None:
        self._late.append(data)
        asyncio.get_running_loop().call_later(self._delay_s, self._deliver)

    def _deliver(self) -> None:
        data = self._late.popleft()
        for kind, flags, stream, _ in self._frames.feed(data):
            if kind == _RST_STREAM or (kind in {_DATA, _HEADERS} and flags & _END_STREAM):
                self._inward.ended(stream)
        self._inward.transport.write(data)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._inward.transport.close()
