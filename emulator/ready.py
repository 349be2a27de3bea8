"""How the launcher knows that a part can be used: small checks, named in the table of parts."""

from __future__ import annotations

import http.client
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HOST = "127.0.0.1"
PROBE_SECONDS = 2.0


class Ready(Protocol):
    """One check. `fill` puts the block's ports into a template; `log` is the part's log."""

    def holds(self, fill: Callable[[str], str], log: Path) -> bool: ...


@dataclass(frozen=True)
class AnswersHttp:
    """The address answers 200."""

    url: str

    def holds(self, fill: Callable[[str], str], log: Path) -> bool:  # noqa: ARG002 - the signature of all checks
        return http_status(fill(self.url)) == http.client.OK


@dataclass(frozen=True)
class AnswersRedis:
    port: str

    def holds(self, fill: Callable[[str], str], log: Path) -> bool:  # noqa: ARG002 - the signature of all checks
        try:
            with socket.create_connection((HOST, int(fill(f"{{{self.port}}}"))), PROBE_SECONDS) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


@dataclass(frozen=True)
class LogSays:
    text: str

    def holds(self, fill: Callable[[str], str], log: Path) -> bool:  # noqa: ARG002 - the signature of all checks
        return log.exists() and self.text in log.read_text(encoding="utf-8", errors="replace")


def connects(port: int) -> bool:
    try:
        socket.create_connection((HOST, port), PROBE_SECONDS).close()
    except OSError:
        return False
    return True


def http_status(url: str) -> int | None:
    """The status of a GET, or None if nothing answers."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname or HOST, address.port, timeout=PROBE_SECONDS)
    try:
        connection.request("GET", address.path or "/")
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
