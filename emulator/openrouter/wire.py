"""HTTP/1.1 over asyncio with control of every byte: a parser, a connection, and the exchange a handler answers on.

Small on purpose: keep-alive, Content-Length and chunked bodies in both directions, no compression, no TLS.
`Expect: 100-continue` is ignored, as clients send the body anyway. A client that closes its side has gone:
the handler is cancelled, so that a generation can stop and be billed for what it produced.
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast
from urllib.parse import parse_qs, unquote

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
# How much a client may send ahead of its answer, and how long a refused upload is read before the line is cut.
MAX_PIPELINED_BYTES: Final = 1024 * 1024
REFUSED_UPLOAD_S: Final = 2.0
# A reset throws away what the client's kernel has not delivered yet; the bytes before it get this long to arrive.
BEFORE_RESET_S: Final = 0.03
_HEADER_SLICES: Final = 10
_CHUNK_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,8}")
_REASONS: Final = {524: "A Timeout Occurred", 529: "Site Is Overloaded"} | {
    status.value: status.phrase for status in HTTPStatus
}


class WireError(Exception):
    """A request that cannot be read; the connection is unusable after its answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True)
class Request:
    """One request. Header names are lower case; the last of equal headers wins."""

    method: str
    path: str
    query_string: str
    headers: dict[str, str]
    body: bytes = b""
    http_1_1: bool = True

    @property
    def keep_alive(self) -> bool:
        connection = self.headers.get("connection", "").lower()
        return "close" not in connection if self.http_1_1 else "keep-alive" in connection

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(self.query_string, keep_blank_values=True).items()}


class RequestParser:
    """Bytes in, requests out, in any slicing. Knows no sockets."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._request: Request | None = None
        self._left = 0
        self._chunked_body: bytearray | None = None

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def waiting_bytes(self) -> int:
        return len(self._buffer)

    def next_request(self) -> Request | None:
        """The next complete request, None while it is incomplete. Raises WireError."""
        if self._request is None and not self._read_head():
            return None
        request = cast("Request", self._request)
        if self._chunked_body is not None:
            if not self._read_chunks(self._chunked_body):
                return None
            request.body = bytes(self._chunked_body)
            self._chunked_body = None
        elif self._left:
            if len(self._buffer) < self._left:
                return None
            request.body = bytes(self._buffer[: self._left])
            del self._buffer[: self._left]
        self._request, self._left = None, 0
        return request

    def _read_head(self) -> bool:
        while self._buffer.startswith(b"\r\n"):
            del self._buffer[:2]
        end = self._buffer.find(b"\r\n\r\n", max(0, self._searched - 3))
        if end < 0:
            self._searched = len(self._buffer)
            if self._searched > MAX_HEAD_BYTES:
                raise WireError(431, "Request headers too large")
            return False
        self._request = request = _parse_head(bytes(self._buffer[:end]).decode("latin-1"))
        del self._buffer[: end + 4]
        self._searched = 0
        if "transfer-encoding" in request.headers:
            if request.headers["transfer-encoding"].lower() != "chunked":
                raise WireError(501, "Of all transfer encodings only chunked is understood")
            self._chunked_body = bytearray()
            return True
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()):
            raise WireError(400, "Invalid Content-Length")
        self._left = int(length)
        if self._left > MAX_BODY_BYTES:
            raise WireError(413, "Request payload too large")
        return True

    def _read_chunks(self, body: bytearray) -> bool:
        """Take the whole chunks of the buffer; True after the last one."""
        while (line_end := self._buffer.find(b"\r\n")) >= 0:
            size_text = bytes(self._buffer[:line_end]).partition(b";")[0].strip()
            if not _CHUNK_SIZE.fullmatch(size_text):
                raise WireError(400, "Invalid chunk size")
            size = int(size_text, 16)
            if len(body) + size > MAX_BODY_BYTES:
                raise WireError(413, "Request payload too large")
            if size == 0:
                return self._read_trailers(line_end)
            start, end = line_end + 2, line_end + 2 + size
            if len(self._buffer) < end + 2:
                return False
            if self._buffer[end : end + 2] != b"\r\n":
                raise WireError(400, "Invalid chunk")
            body += self._buffer[start:end]
            del self._buffer[: end + 2]
        if len(self._buffer) > MAX_HEAD_BYTES:
            raise WireError(400, "Invalid chunk size")
        return False

    def _read_trailers(self, line_end: int) -> bool:
        """Drop the trailers after the last chunk; True when they are complete."""
        if self._buffer[line_end + 2 : line_end + 4] == b"\r\n":
            del self._buffer[: line_end + 4]
            return True
        end = self._buffer.find(b"\r\n\r\n", line_end)
        if end < 0:
            return False
        del self._buffer[: end + 4]
        return True


def _parse_head(head: str) -> Request:
    request_line, *header_lines = head.split("\r\n")
    parts = request_line.split(" ")
    if len(parts) != 3 or parts[2] not in {"HTTP/1.1", "HTTP/1.0"}:  # noqa: PLR2004 - method, target, version
        raise WireError(400, "Malformed request line")
    headers = {}
    for line in header_lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise WireError(400, "Malformed header")
        headers[name.lower()] = value.strip()
    path, _, query_string = parts[1].partition("?")
    return Request(parts[0], unquote(path), query_string, headers, http_1_1=parts[2] == "HTTP/1.1")


def http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


LAST_CHUNK: Final = b"0\r\n\r\n"


def head_bytes(status: int, headers: Mapping[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


class Rechunker:
    """Cuts a stream of bytes at every `size` bytes, whatever the boundaries it came with."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rest = b""

    def cut(self, data: bytes) -> Iterator[bytes]:
        data = self._rest + data
        whole = len(data) - len(data) % self._size
        for start in range(0, whole, self._size):
            yield data[start : start + self._size]
        self._rest = data[whole:]

    def rest(self) -> bytes:
        rest, self._rest = self._rest, b""
        return rest


@dataclass
class Exchange:
    """One request and the means to answer it. Set the pace (`split`, `slow_headers_ms`) before answering."""

    request: Request
    connection: Connection
    split: int = 0
    slow_headers_ms: int = 0
    status: int = 0
    _chunked: bool = field(default=False, init=False)
    _rechunker: Rechunker | None = field(default=None, init=False)

    @property
    def answered(self) -> bool:
        return self.status != 0

    async def send(self, status: int, headers: Mapping[str, str], body: bytes, *, promised: int | None = None) -> None:
        """A whole answer. `promised` is a Content-Length longer than the body: the connection breaks after it."""
        broken = promised is not None
        keep = self.request.keep_alive and not broken
        framing = {
            "Content-Length": str(len(body) if promised is None else promised),
            "Connection": "keep-alive" if keep else "close",
        }
        self.status = status
        head = head_bytes(status, {**headers, **framing})
        payload = b"" if self.request.method == "HEAD" else body
        if not (self.split or self.slow_headers_ms):
            self.connection.write(head + payload)
        else:
            await self._send_head(head)
            await self._send_cut(payload)
        if self.connection.congested:
            await self.connection.drained()
        if not keep:
            self.connection.close()

    async def start(self, status: int, headers: Mapping[str, str]) -> None:
        """The head of a stream: chunked, or ended by closing for HTTP/1.0."""
        self.status = status
        self._chunked = self.request.http_1_1
        framing = {"Connection": "keep-alive" if self._chunked and self.request.keep_alive else "close"}
        if self._chunked:
            framing["Transfer-Encoding"] = "chunked"
        self._rechunker = Rechunker(self.split) if self.split else None
        await self._send_head(head_bytes(status, {**headers, **framing}))

    async def write(self, *frames: bytes) -> None:
        """Parts of a stream, each its own chunk on the wire unless `split` says otherwise."""
        if self._rechunker is None:
            self.connection.write(b"".join(map(http_chunk, frames)) if self._chunked else b"".join(frames))
        else:
            for frame in frames:
                for piece in self._rechunker.cut(frame):
                    await self._send_alone(piece)
        if self.connection.congested:
            await self.connection.drained()

    async def finish(self) -> None:
        """The proper end of a stream."""
        await self._flush()
        if self._chunked:
            self.connection.write(LAST_CHUNK)
        if not (self._chunked and self.request.keep_alive):
            self.connection.close()

    async def drop(self) -> None:
        """Close after what was written, without the end the framing promises."""
        await self._flush()
        self.connection.close()

    async def reset(self) -> None:
        """Reset the connection (RST) after what was written."""
        await self._flush()
        if self.answered:
            await asyncio.sleep(BEFORE_RESET_S)
        self.connection.reset()

    async def _flush(self) -> None:
        rest = self._rechunker.rest() if self._rechunker else b""
        if rest:
            await self._send_alone(rest)

    async def _send_alone(self, piece: bytes) -> None:
        self.connection.write(http_chunk(piece) if self._chunked else piece)
        await asyncio.sleep(0)

    async def _send_cut(self, payload: bytes) -> None:
        for start in range(0, len(payload), self.split or len(payload)):
            self.connection.write(payload[start : start + self.split] if self.split else payload)
            await asyncio.sleep(0)

    async def _send_head(self, head: bytes) -> None:
        if not self.slow_headers_ms:
            self.connection.write(head)
            return
        size = -(-len(head) // _HEADER_SLICES)
        for start in range(0, len(head), size):
            await asyncio.sleep(self.slow_headers_ms / 1000 / _HEADER_SLICES)
            self.connection.write(head[start : start + size])


class Connection(asyncio.Protocol):
    """One client connection: requests one after the other, each answered by a task of the handler."""

    def __init__(self, handler: Callable[[Exchange], Awaitable[None]], open_connections: set[Connection]) -> None:
        self._handler = handler
        self._open = open_connections
        self._parser = RequestParser()
        self._task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._writable: asyncio.Future[None] | None = None
        self._refused = False
        self.congested = False

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._open.add(self)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._parser.feed(data)
        if self._task is None:
            self._advance()
        elif self._parser.waiting_bytes > MAX_PIPELINED_BYTES:
            self.close()

    def eof_received(self) -> bool:
        """Half-closed is gone, as the proxies in front of real services see it."""
        if self._task is not None:
            self._task.cancel()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        del exc  # why the client went makes no difference
        self._open.discard(self)
        if self._task is not None:
            self._task.cancel()
        if self._writable is not None and not self._writable.done():
            self._writable.cancel()

    def pause_writing(self) -> None:
        self.congested = True
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        self.congested = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # What exchanges call.

    def write(self, data: bytes) -> None:
        if self._transport is not None and data and not self._transport.is_closing():
            self._transport.write(data)

    async def drained(self) -> None:
        """Until the client has read enough. Cancelled when it goes."""
        if self._writable is not None:
            await self._writable

    def close(self) -> None:
        """Close once everything written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close at once with RST instead of FIN."""
        if self._transport is not None:
            linger_off = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_off)
            self._transport.abort()

    def stop(self) -> asyncio.Task[None] | None:
        """End the connection with the server; the task that is still to finish, if there is one."""
        if self._task is not None:
            self._task.cancel()
        if self._transport is not None:
            self._transport.abort()
        return self._task

    def _advance(self) -> None:
        try:
            request = self._parser.next_request()
        except WireError as error:
            self._refuse(error)
            return
        if request is not None:
            self._task = asyncio.get_running_loop().create_task(self._serve(request))

    async def _serve(self, request: Request) -> None:
        try:
            await self._handler(Exchange(request, self))
        except asyncio.CancelledError:
            self.close()
            raise
        finally:
            self._task = None
        if self._transport is not None and not self._transport.is_closing():
            self._advance()

    def _refuse(self, error: WireError) -> None:
        """Answer what cannot be read, then read on for a moment: closing at once would reset the answer away."""
        body = b'{"error":{"code":%d,"message":"%b"}}' % (error.status, error.message.encode())
        headers = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        self.write(head_bytes(error.status, headers) + body)
        self._refused = True
        if self._transport is not None:
            self._transport.write_eof()
            asyncio.get_running_loop().call_later(REFUSED_UPLOAD_S, self._transport.abort)


@dataclass
class Server:
    """A listening socket and its connections."""

    listening: asyncio.Server
    connections: set[Connection]

    @property
    def port(self) -> int:
        return cast("int", self.listening.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening, cut every connection, and wait for the handlers to take notice."""
        self.listening.close()
        tasks = [task for connection in list(self.connections) if (task := connection.stop()) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=0.5)


async def listen(handler: Callable[[Exchange], Awaitable[None]], host: str, port: int) -> Server:
    """Listen on host and port (0: any free one). Raises OSError when the port is taken."""
    connections: set[Connection] = set()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: Connection(handler, connections), host, port, backlog=1024)
    return Server(listening, connections)
