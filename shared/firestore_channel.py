"""The way to Firestore: one gRPC channel of this process, and the two calls that a request makes on it.

The client library's own calls cost several times what the calls themselves do, and its import takes half a second; who
one is, and where Firestore is, is for google-auth and gRPC to say here as there. A call that was begun is on its way
without a thread of ours or of gRPC's; whoever waits for its answer does the reading.
"""

from __future__ import annotations

import random
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc  # type: ignore[import-untyped]  # it ships no types
from grpc.experimental import ChannelOptions  # type: ignore[import-untyped]  # it ships no types

from shared.firestore_wire import MESSAGES, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    Wait = Callable[[], Sequence[Message]]
    Begin = Callable[[float], Wait]

RpcError = grpc.RpcError
_TARGET = "firestore.googleapis.com:443"
_SCOPES = ("https://www.googleapis.com/auth/cloud-platform", "https://www.googleapis.com/auth/datastore")
_SERVICE = "/google.firestore.v1.Firestore"
_OPTIONS = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Otherwise a thread of the channel takes the answers in, and hands each to the one that waits for it.
    (ChannelOptions.SingleThreadedUnaryStream, 1),
)
_KEEP_ALIVE = ("grpc.keepalive_time_ms", 30_000)
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0


class FirestoreChannel:
    """Thread-safe. `emulator_host` is the emulator's `host:port`; without one it is Google's Firestore."""

    def __init__(self, emulator_host: str = "") -> None:
        self._channel = _insecure(emulator_host) if emulator_host else _authorized()
        # What the emulator believes instead of credentials: somebody whom security rules do not concern.
        self._credentials = (("authorization", "Bearer owner"),) if emulator_host else ()
        self._commit = self._channel.unary_unary(f"{_SERVICE}/Commit", *_coding("Commit"))
        # The same call with an answer that is a stream of one: so it can be begun now and waited for later.
        self._start_commit = self._channel.unary_stream(f"{_SERVICE}/Commit", *_coding("Commit"))
        self._start_reading = self._channel.unary_stream(f"{_SERVICE}/BatchGetDocuments", *_coding("BatchGetDocuments"))

    def commit(self, request: Message, timeout_s: float) -> Wait:
        """A commit that goes out when it is waited for: cheaper than one that is on its way before."""
        metadata = self._metadata(request.database)
        return lambda: [self._commit(request, timeout=timeout_s, metadata=metadata)]

    def start_commit(self, request: Message, timeout_s: float) -> Wait:
        call = self._start_commit(request, timeout=timeout_s, metadata=self._metadata(request.database))
        return lambda: list(call)

    def start_reading(self, request: Message, timeout_s: float) -> Wait:
        call = self._start_reading(request, timeout=timeout_s, metadata=self._metadata(request.database))
        return lambda: list(call)

    def close(self) -> None:
        self._channel.close()

    def _metadata(self, database: str) -> tuple[tuple[str, str], ...]:
        return _routing(database) + self._credentials


class Exchange:
    """A request on its way, and sent again while that may help and there is time."""

    def __init__(self, begin: Begin, *, retried: Collection[str], patience_s: float) -> None:
        """`retried` names the gRPC statuses after which the request is sent again."""
        self._begin, self._retried = begin, retried
        self._give_up_at = time.monotonic() + patience_s
        self._wait = begin(patience_s)

    def messages(self) -> Sequence[Message]:
        """The answers, once they are all here. Raises RpcError."""
        longest_pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return self._wait()
            except RpcError as error:
                pause_s = random.uniform(0, longest_pause_s)  # noqa: S311  # spreads those who try again
                left_s = self._give_up_at - time.monotonic() - pause_s
                if status_of(error) not in self._retried or left_s <= 0:
                    raise
            time.sleep(pause_s)
            longest_pause_s = min(2 * longest_pause_s, _LONGEST_PAUSE_S)
            self._wait = self._begin(left_s)


def status_of(error: Any) -> str:
    """The name of the status that a call ended with: `ALREADY_EXISTS`."""
    name: str = error.code().name
    return name


def _coding(method: str) -> tuple[Any, Any]:
    return MESSAGES[f"{method}Request"].SerializeToString, MESSAGES[f"{method}Response"].FromString


@lru_cache(maxsize=8)
def _routing(database: str) -> tuple[tuple[str, str], ...]:
    """Which database a call is for, where Google's front ends look for it before they read the call."""
    return (
        ("google-cloud-resource-prefix", database),
        ("x-goog-request-params", f"database={quote(database, safe='/')}"),
    )


def _insecure(host: str) -> Any:
    return grpc.insecure_channel(host, options=_OPTIONS)


def _authorized() -> Any:
    import google.auth
    from google.auth.transport.grpc import secure_authorized_channel
    from google.auth.transport.requests import Request

    credentials, _ = google.auth.default(scopes=_SCOPES)
    return secure_authorized_channel(credentials, Request(), _TARGET, options=(*_OPTIONS, _KEEP_ALIVE))  # type: ignore[no-untyped-call]  # google-auth leaves it untyped
