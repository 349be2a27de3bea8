"""Kept-alive HTTP/1.1 connections to one origin."""

import http.client
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class _Idle:
    sock: socket.socket
    since: float


class ConnectionPool:
    """Idle connections to one origin, newest first; what is too old or too many is closed."""

    def __init__(
        self,
        base_url: str,
        *,
        connect_timeout_s: float,
        max_idle: int = 64,
        max_idle_age_s: float = 30.0,
        tls: ssl.SSLContext | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"Not a base URL: {base_url!r}")
        self.base_path = parts.path.rstrip("/")
        self.host_header = parts.netloc.rpartition("@")[2]
        self._host, self._port = parts.hostname, parts.port
        self._tls = (tls or ssl.create_default_context()) if parts.scheme == "https" else None
        self._connect_timeout_s = connect_timeout_s
        self._max_idle = max_idle
        self._max_idle_age_s = max_idle_age_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._idle: list[_Idle] = []

    def take(self) -> socket.socket | None:
        """An idle connection that still looks alive."""
        while True:
            with self._lock:
                outdated = self._drop_outdated()
                idle = self._idle.pop() if self._idle else None
            for old in outdated:
                old.sock.close()
            if idle is None:
                return None
            if _is_quiet(idle.sock):
                return idle.sock
            idle.sock.close()

    def connect(self) -> socket.socket:
        """A new connection, made by http.client for its TLS checks and TCP_NODELAY."""
        if self._tls is None:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=self._connect_timeout_s)
        else:
            connection = http.client.HTTPSConnection(
                self._host, self._port, timeout=self._connect_timeout_s, context=self._tls
            )
        try:
            connection.connect()
        except BaseException:
            connection.close()
            raise
        sock: socket.socket = connection.sock
        return sock

    def give_back(self, sock: socket.socket) -> None:
        with self._lock:
            outdated = self._drop_outdated()
            if len(self._idle) >= self._max_idle:
                outdated.append(self._idle.pop(0))
            self._idle.append(_Idle(sock, self._monotonic()))
        for old in outdated:
            old.sock.close()

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for each in idle:
            each.sock.close()

    def _drop_outdated(self) -> list[_Idle]:
        """Take out the too old ones, which stand first; the caller closes them without the lock."""
        oldest = self._monotonic() - self._max_idle_age_s
        count = 0
        while count < len(self._idle) and self._idle[count].since < oldest:
            count += 1
        outdated, self._idle = self._idle[:count], self._idle[count:]
        return outdated


def _is_quiet(sock: socket.socket) -> bool:
    """Whether nothing waits to be read: on an idle connection that can only be its end."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return not poll.poll(0)
