"""HTTP/1.1 to one origin over `http.client`: kept-alive connections, time-outs, cancelling, bodies read as they come.

Why not an HTTP library: relaying 100-chunk streams one process carried 405/s with http.client and 47/s with the
openai package; the client library is what costs in that path.
"""

import http.client
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message

from shared.errors import UpstreamError, UpstreamTimeout
from shared.openrouter.errors import StreamCancelled
from shared.openrouter.framing import ChunkedBody
from shared.openrouter.pool import ConnectionPool

_READ_BYTES = 64 * 1024
_END_OF_BODY_S = 0.02
_SAFE_METHODS = frozenset({"GET", "HEAD"})

# ValueError is what a TLS socket raises when it is shut down under a reader.
_FAILURES = (OSError, ValueError, http.client.HTTPException)


@dataclass(frozen=True)
class Timeouts:
    """Seconds for connecting, for the first byte of an answer and for every next one."""

    connect_s: float = 5.0
    first_byte_s: float = 120.0
    read_s: float = 60.0


@dataclass(frozen=True)
class Request:
    """One request; `path` is below the base URL."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""


class Cancellation:
    """A latch: once cancelled, the socket it is bound to is shut down, now or as soon as there is one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cancelled = threading.Event()

    @property
    def cancelled(self) -> bool:
        return self._cancelled.is_set()

    def wait(self, seconds: float) -> None:
        """Let the time pass; StreamCancelled as soon as it is cancelled."""
        if self._cancelled.wait(seconds):
            raise StreamCancelled

    def cancel(self) -> None:
        """Wake whoever reads from the socket; from any thread, any number of times."""
        with self._lock:
            self._cancelled.set()
            if self._socket is not None:
                _shut_down(self._socket)

    def bind(self, sock: socket.socket) -> None:
        with self._lock:
            if self._cancelled.is_set():
                raise StreamCancelled
            self._socket = sock

    def unbind(self) -> None:
        """From here on cancelling touches no socket: this one may serve another call next."""
        with self._lock:
            self._socket = None


def _shut_down(sock: socket.socket) -> None:
    # The plain socket's method on purpose: SSLSocket.shutdown drops its TLS state under the feet of the reading thread.
    with suppress(OSError):  # not connected any more is what was asked for
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


class _Response(http.client.HTTPResponse):
    """Tells a connection that broke before the first byte (RemoteDisconnected) from one that broke later."""

    def begin(self) -> None:
        try:
            self.fp.peek(1)
        except ConnectionError as error:
            raise http.client.RemoteDisconnected("Reset before the first byte") from error
        super().begin()


class Answer:
    """The head of an answer and its body still on the wire; owns the connection until `close()`."""

    def __init__(
        self,
        response: http.client.HTTPResponse,
        sock: socket.socket,
        pool: ConnectionPool,
        cancellation: Cancellation,
    ) -> None:
        self.status = response.status
        self.headers: Message = response.headers
        self.cancellation = cancellation
        self._response = response
        self._socket = sock
        self._pool = pool
        self._chunks = ChunkedBody() if response.chunked else None
        self._left = response.length
        # Behind an empty body nothing is read, so nobody would see what came after it.
        self._overrun = response.length == 0
        self._closed = False

    def read(self, limit: int, *, next_byte_s: float | None = None) -> bytes:
        """The body up to `limit` bytes; what lies beyond stays unread."""
        if next_byte_s is not None:
            self._socket.settimeout(next_byte_s)
        pieces: list[bytes] = []
        size = 0
        while size < limit and (piece := self.read_some()):
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces)[:limit]

    def read_some(self) -> bytes:
        """What one read of the socket gives; empty at the end of the body, also when the connection ended before it.

        StreamCancelled, UpstreamTimeout, UpstreamError.
        """
        try:
            while not self._whole():
                if self._chunks is not None and self._chunks.fault is not None:
                    raise self._chunks.fault
                received = b"" if self.cancellation.cancelled else self._receive()
                if self.cancellation.cancelled:
                    raise StreamCancelled
                if not received:
                    return b""
                content = self._chunks.feed(received) if self._chunks else received
                if content:
                    return content
        except _FAILURES as error:
            raise _translated(error, self.cancellation, "read") from error
        return b""

    def close(self, *, end_is_near: bool = False) -> None:
        """Give the connection back if the body was read to its end, else close it.

        With `end_is_near` all that matters was read: the mere end of the body is worth a very short wait.
        """
        if self._closed:
            return
        self._closed = True
        self.cancellation.unbind()
        if end_is_near and self._chunks is not None and not self._chunks.ended and not self.cancellation.cancelled:
            self._read_the_end(self._chunks)
        reusable = self._whole() and not self._response.will_close and not self.cancellation.cancelled
        overrun = self._overrun or (self._chunks is not None and self._chunks.overrun)
        self._response.close()
        if reusable and not overrun:
            self._pool.give_back(self._socket)
        else:
            self._socket.close()

    def _receive(self) -> bytes:
        # Not limited to what is left: bytes beyond the end must show, they would be taken for the next answer's.
        received = self._response.fp.read1(_READ_BYTES)
        if self._left is not None:
            self._overrun = len(received) > self._left
            received = received[: self._left]
            self._left -= len(received)
        return received

    def _whole(self) -> bool:
        return self._chunks.ended if self._chunks else self._left == 0

    def _read_the_end(self, chunks: ChunkedBody) -> None:
        with suppress(*_FAILURES):  # then the connection is just not reusable
            self._socket.settimeout(_END_OF_BODY_S)
            chunks.feed(self._receive())


class Transport:
    """Sends requests; translates every failure below HTTP into our errors."""

    def __init__(self, pool: ConnectionPool, timeouts: Timeouts) -> None:
        self.pool = pool
        self._timeouts = timeouts

    def send(self, request: Request, cancellation: Cancellation | None = None) -> Answer:
        """The answer's head, as soon as it is there; StreamCancelled, UpstreamTimeout, UpstreamError.

        A kept-alive connection may have been closed by the other side just now, and then breaks before any byte of an
        answer. A look-up goes out once more on a new connection. A POST does not: whether the other side has read it,
        and charges for it, cannot be known from here (RFC 9110 §9.2.2). Its error says `kept_connection_closed`, and
        whoever decides about retries knows that this is no sign of trouble.
        """
        cancellation = cancellation or Cancellation()
        wire = self._wire(request)
        pooled = self.pool.take()
        if pooled is not None:
            try:
                return self._attempt(wire, request.method, pooled, cancellation)
            except http.client.RemoteDisconnected as error:
                if request.method not in _SAFE_METHODS:
                    raise UpstreamError(fault="kept_connection_closed", cause=type(error).__name__) from error
        try:
            sock = self.pool.connect()
        except _FAILURES as error:
            raise _translated(error, cancellation, "connect") from error
        try:
            return self._attempt(wire, request.method, sock, cancellation)
        except http.client.RemoteDisconnected as error:
            raise _translated(error, cancellation, "first_byte") from error

    def _attempt(self, wire: bytes, method: str, sock: socket.socket, cancellation: Cancellation) -> Answer:
        """One exchange. RemoteDisconnected comes through untranslated: only the caller knows what follows from it."""
        response: _Response | None = None
        try:
            cancellation.bind(sock)
            sock.settimeout(self._timeouts.first_byte_s)
            # Who refuses a large body early closes while it is still being sent: the answer is there to be read.
            with suppress(BrokenPipeError, ConnectionResetError):
                sock.sendall(wire)
            response = _Response(sock, method=method)
            response.begin()
            sock.settimeout(self._timeouts.read_s)
        except BaseException as error:
            cancellation.unbind()
            if response is not None:
                response.close()
            sock.close()
            if isinstance(error, http.client.RemoteDisconnected) and not cancellation.cancelled:
                raise
            if isinstance(error, _FAILURES):
                raise _translated(error, cancellation, "first_byte") from error
            raise
        return Answer(response, sock, self.pool, cancellation)

    def _wire(self, request: Request) -> bytes:
        """Head and body in one piece, for one packet; ValueError for a header that would break out of its line."""
        lines = [
            f"{request.method} {self.pool.base_path}{request.path} HTTP/1.1",
            f"Host: {self.pool.host_header}",
            f"Content-Length: {len(request.body)}",
            *(f"{name}: {value}" for name, value in request.headers.items()),
        ]
        head = "\r\n".join(lines)
        if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
            raise ValueError("A header value with a line break")
        return f"{head}\r\n\r\n".encode("latin-1") + request.body


def _translated(error: Exception, cancellation: Cancellation, phase: str) -> Exception:
    if cancellation.cancelled:
        return StreamCancelled()
    if isinstance(error, TimeoutError):
        return UpstreamTimeout(fault=f"{phase}_timeout")
    return UpstreamError(fault=f"{phase}_failed", cause=type(error).__name__)
