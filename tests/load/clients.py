"""Clients that cost next to nothing: one thread, kept connections, requests prepared before, answers read to their end.

What an answer must hold is looked for in each of them; one that lacks it, or has another status than 200, is an error.
"""

from __future__ import annotations

import selectors
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PATIENCE_S = 60.0
_READ_BYTES = 256 * 1024
_SHOWN_ERROR_BYTES = 600
_END_OF_CHUNKS = b"0\r\n\r\n"


@dataclass
class Result:
    """What a round of requests took. Times are seconds from sending a request."""

    elapsed_s: float = 0.0
    whole: list[float] = field(default_factory=list)
    """Until the answer was complete."""
    first_word: list[float] = field(default_factory=list)
    """Until the first word of the answer was there."""
    errors: list[bytes] = field(default_factory=list)

    @property
    def per_second(self) -> float:
        return len(self.whole) / self.elapsed_s


class _Client:
    """One connection, and the answer that is under way on it."""

    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self._port, self._selector = port, selector
        self._socket: socket.socket | None = None
        self._begin()

    def _begin(self) -> None:
        self.sent_at = 0.0
        self.first_word_at: float | None = None
        self.pieces: list[bytes] = []
        self._tail = b""
        self._left: int | None = None

    def send(self, request: bytes) -> None:
        self._begin()
        if self._socket is None:
            self._socket = socket.create_connection(("127.0.0.1", self._port))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(self._socket, selectors.EVENT_READ, self)
        self.sent_at = time.perf_counter()
        self._socket.sendall(request)

    def read(self, first_word: bytes) -> bool:
        """Take what has arrived; whether the answer is complete, or will never be."""
        assert self._socket is not None, "an answer comes on a connection"
        try:
            received = self._socket.recv(_READ_BYTES)
        except ConnectionError:
            received = b""
        if not received:
            self.close()
            return True
        self.pieces.append(received)
        if self.first_word_at is None and first_word in (received if len(self.pieces) == 1 else b"".join(self.pieces)):
            self.first_word_at = time.perf_counter()
        if len(self.pieces) == 1 or self._left is None:
            return self._head_read(b"".join(self.pieces))
        if self._left >= 0:
            self._left -= len(received)
            return self._left <= 0
        self._tail = (self._tail + received)[-len(_END_OF_CHUNKS) :]
        return self._tail == _END_OF_CHUNKS

    def _head_read(self, so_far: bytes) -> bool:
        head, end, body = so_far.partition(b"\r\n\r\n")
        if not end:
            return False
        length = _content_length(head)
        if length is None:
            self._left, self._tail = -1, body[-len(_END_OF_CHUNKS) :]
            return self._tail == _END_OF_CHUNKS
        self._left = length - len(body)
        return self._left <= 0

    def close(self) -> None:
        if self._socket is not None:
            self._selector.unregister(self._socket)
            self._socket.close()
            self._socket = None


def run(
    port: int, requests: Iterator[bytes], *, clients: int, total: int, holds: Sequence[bytes], first_word: bytes
) -> Result:
    """Send `total` requests, `clients` at a time; each answer must hold all of `holds`."""
    result = Result()
    began = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        everybody = [_Client(port, selector) for _ in range(min(clients, total))]
        for client in everybody:
            client.send(next(requests))
        sent, busy = len(everybody), len(everybody)
        while busy:
            ready = selector.select(PATIENCE_S)
            if not ready:
                raise TimeoutError(f"{busy} answers are not complete, and for {PATIENCE_S:.0f} s nothing came")
            for key, _ in ready:
                client = key.data
                if not client.read(first_word):
                    continue
                _note(client, result, holds)
                if sent < total:
                    client.send(next(requests))
                    sent += 1
                else:
                    client.close()
                    busy -= 1
        result.elapsed_s = time.perf_counter() - began
    return result


def _note(client: _Client, result: Result, holds: Sequence[bytes]) -> None:
    answer = b"".join(client.pieces)
    if not answer.startswith(b"HTTP/1.1 200 ") or not all(part in answer for part in holds):
        result.errors.append(answer[:_SHOWN_ERROR_BYTES])
        return
    result.whole.append(time.perf_counter() - client.sent_at)
    if client.first_word_at is not None:
        result.first_word.append(client.first_word_at - client.sent_at)


def _content_length(head: bytes) -> int | None:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return None


def post(path: str, body: bytes, **headers: str) -> bytes:
    """A request in one piece; names of headers are written with underscores."""
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    lines += [f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
