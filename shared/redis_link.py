"""A connection to Redis for what must not wait, limits first: one command there, one answer back, or neither soon.

The general client costs more than the limiter itself: a third of a second to import, and more time for a call than
Redis needs for the whole script (`tests/load/limiter.py` measures both). Speaks RESP2, which every Redis speaks to
clients that ask for nothing else (https://redis.io/docs/latest/develop/reference/protocol-spec/).
"""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from io import BufferedReader

TIMEOUT_S = 0.05
"""Redis answers within a millisecond; with much less than this, a pause of a busy machine would pass for an outage."""
_MAX_IDLE = 100
_DEFAULT_PORT = 6379
_STALE = (ConnectionError, ssl.SSLError)
"""What using a connection shows that the other side has closed."""
_BROKEN = (OSError, ValueError)
"""Of the network, and of an answer that is none."""

Argument = bytes | str | int
Command = Sequence[Argument]


class LinkFailed(Exception):
    """Redis did not answer, in time or at all."""


class CommandRefused(LinkFailed):
    """Redis answered with an error; the connection is fine."""


class Script:
    """A Lua script, sent by its hash once Redis knows it."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()


class Link:
    """Connections to one Redis; thread-safe. `url` is `redis[s]://[user][:password@]host[:port][/database]`.

    Of the options that may follow, `ssl_ca_certs` (a file) is heard; certificates are always checked.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise ValueError("REDIS_URL must look like redis://host:6379/0 or rediss://user:password@host:6379/0.")
        self._origin = (parts.hostname, parts.port or _DEFAULT_PORT)
        self._is_tls = parts.scheme == "rediss"
        self._ca_file = parse_qs(parts.query).get("ssl_ca_certs", [None])[0]
        self._timeout_s = timeout_s
        self._greeting = _greeting(
            unquote(parts.username or ""), unquote(parts.password or ""), parts.path.strip("/") or "0"
        )
        self._idle: deque[_Connection] = deque()

    def call(self, *command: Argument) -> Any:
        """The answer: an integer, bytes, None, or a list of them. Raises LinkFailed."""
        return self.call_all([command])[0]

    def call_all(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several commands that go out together. They are all carried out, also when one of them is
        refused. Raises LinkFailed.
        """
        packed, count = b"".join(map(_pack, commands)), len(commands)
        idle = self._take_idle()
        if idle is not None:
            try:
                return self._exchange(idle, packed, count)
            except _STALE:
                # Redis or something between closed it while it was idle; then its siblings are closed too. Should
                # Redis have carried the command out before it closed, it is counted twice, which harms nobody.
                self.close()
            except _BROKEN as error:
                raise LinkFailed(repr(error)) from error
        try:
            return self._exchange(self._connect(), packed, count)
        except _BROKEN as error:
            raise LinkFailed(repr(error)) from error

    def run(self, script: Script, keys: Sequence[Argument], args: Sequence[Argument]) -> Any:
        """What the script returns. Raises LinkFailed."""
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *args)
        except CommandRefused as error:
            if not str(error).startswith("NOSCRIPT"):
                raise
        return self.call("EVAL", script.source, len(keys), *keys, *args)

    def close(self) -> None:
        """Close what is idle; what is in use is closed when it comes back to a full house or fails."""
        while (connection := self._take_idle()) is not None:
            connection.close()

    def _take_idle(self) -> _Connection | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _exchange(self, connection: _Connection, packed: bytes, count: int) -> list[Any]:
        try:
            answers = connection.exchange(packed, count)
        except CommandRefused:
            self._give_back(connection)
            raise
        except BaseException:
            # Half an answer may still be on its way: nobody must read it as the answer to something else.
            connection.close()
            raise
        self._give_back(connection)
        return answers

    def _give_back(self, connection: _Connection) -> None:
        if len(self._idle) < _MAX_IDLE:
            self._idle.append(connection)
        else:
            connection.close()

    def _connect(self) -> _Connection:
        connection = _Connection(self._open_socket())
        try:
            for command in self._greeting:
                connection.exchange(_pack(command), 1)
        except BaseException:
            connection.close()
            raise
        return connection

    def _open_socket(self) -> socket.socket:
        sock = socket.create_connection(self._origin, timeout=self._timeout_s)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return self._tls.wrap_socket(sock, server_hostname=self._origin[0]) if self._tls else sock
        except BaseException:
            sock.close()
            raise

    @cached_property
    def _tls(self) -> ssl.SSLContext | None:
        return ssl.create_default_context(cafile=self._ca_file) if self._is_tls else None


class _Connection:
    """One socket and what was read from it."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._file: BufferedReader = sock.makefile("rb")

    def exchange(self, packed: bytes, count: int) -> list[Any]:
        """The answers to so many commands.

        Raises CommandRefused, once all are there, for the first that is an error; OSError, a ConnectionError when the
        other side has closed; ValueError for nonsense.
        """
        self._sock.sendall(packed)
        answers, refusals = list[Any](), list[CommandRefused]()
        for _ in range(count):
            try:
                answers.append(self._read())
            except CommandRefused as refusal:
                refusals.append(refusal)
        if refusals:
            raise refusals[0]
        return answers

    def close(self) -> None:
        self._file.close()
        self._sock.close()

    def _read(self) -> Any:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("Redis closed the connection.")
        kind, rest = line[:1], line[1:-2]
        if kind == b":":
            return int(rest)
        if kind == b"*":
            return [self._read() for _ in range(int(rest))]
        if kind == b"$":
            return self._read_bytes(int(rest))
        if kind == b"+":
            return rest
        if kind == b"-":
            raise CommandRefused(rest.decode(errors="replace"))
        raise ValueError("What answers is not Redis.")

    def _read_bytes(self, length: int) -> bytes | None:
        if length < 0:
            return None
        data = self._file.read(length + 2)
        if len(data) != length + 2:
            raise ConnectionResetError("Redis closed the connection.")
        return data[:-2]


def _greeting(user: str, password: str, database: str) -> list[tuple[Argument, ...]]:
    """What a new connection says first."""
    commands: list[tuple[Argument, ...]] = []
    if password:
        commands.append(("AUTH", user, password) if user else ("AUTH", password))
    if database != "0":
        commands.append(("SELECT", database))
    return commands


def _pack(command: Sequence[Argument]) -> bytes:
    pieces = [b"*%d\r\n" % len(command)]
    for argument in command:
        if isinstance(argument, str):
            data = argument.encode()
        elif isinstance(argument, int):
            data = b"%d" % argument
        else:
            data = argument
        pieces.append(b"$%d\r\n%b\r\n" % (len(data), data))
    return b"".join(pieces)
