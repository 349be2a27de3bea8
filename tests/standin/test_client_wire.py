"""The OpenRouter client over real sockets, against a server that sends exactly the bytes a test wrote down."""

import contextlib
import datetime as dt
import ipaddress
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.errors import UpstreamBusy, UpstreamError, UpstreamRejected, UpstreamTimeout
from shared.openrouter import (
    Cancellation,
    ChatStream,
    OpenRouter,
    Started,
    StreamCancelled,
    TextDelta,
    Timeouts,
    UpstreamFailedMidStream,
    Usage,
)

BODY = {"model": "a/b", "messages": [{"role": "user", "content": "Hi"}]}
QUICK = Timeouts(connect_s=2, first_byte_s=0.3, read_s=0.3)


@dataclass
class Wire:
    """The server's end of one connection."""

    sock: socket.socket
    requests: list[bytes] = field(default_factory=list)

    def read_request(self) -> bytes:
        """One whole request; empty when the client has closed."""
        received = b""
        while b"\r\n\r\n" not in received:
            piece = self.sock.recv(65536)
            if not piece:
                return b""
            received += piece
        head, _, body = received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += self.sock.recv(65536)
        self.requests.append(head + b"\r\n\r\n" + body)
        return self.requests[-1]

    def send(self, *pieces: bytes, pause_s: float = 0.0) -> None:
        for piece in pieces:
            self.sock.sendall(piece)
            time.sleep(pause_s)

    def reset(self) -> None:
        """Close so that the client gets a reset instead of an orderly end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_the_client_to_close(self) -> None:
        with contextlib.suppress(ConnectionResetError):
            assert self.sock.recv(1) == b""


Script = Callable[[Wire], object]


class Server:
    """Plays one script per connection, in the order the connections come."""

    def __init__(self, scripts: tuple[Script, ...], tls: ssl.SSLContext | None = None) -> None:
        self.wires: list[Wire] = []
        self.failures: list[BaseException] = []
        self._scripts = scripts
        self._tls = tls
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def requests(self) -> list[bytes]:
        return [request for wire in self.wires for request in wire.requests]

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for wire in self.wires:
            with contextlib.suppress(OSError):
                wire.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()

    def _accept(self) -> None:
        for script in self._scripts:
            try:
                sock, _ = self._socket.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._play, args=(script, sock))
            self._threads.append(thread)
            thread.start()

    def _play(self, script: Script, sock: socket.socket) -> None:
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            wire = Wire(sock)
            self.wires.append(wire)
            script(wire)
        except OSError:
            return  # the client, or the end of the test, closed the connection under the script
        except BaseException as error:
            self.failures.append(error)
            raise
        finally:
            sock.close()


@dataclass
class Stage:
    """Starts servers and clients for a test and closes them after it."""

    stack: contextlib.ExitStack

    def play(self, *scripts: Script, **options: Any) -> tuple[OpenRouter, Server]:
        server = Server(scripts)
        self.stack.callback(server.close)
        client = OpenRouter(base_url=f"http://127.0.0.1:{server.port}/api/v1", api_key="sk-or-v1-test", **options)
        self.stack.callback(client.close)
        return client, server


@pytest.fixture
def stage() -> Iterator[Stage]:
    with contextlib.ExitStack() as stack:
        yield Stage(stack)


def chunk(content: str = "", finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": content}, "finish_reason": finish}
    body = {"id": "gen-1", "provider": "OpenAI", "model": "a/b", "choices": [choice], **more}
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    b"X-Generation-Id: gen-1\r\nTransfer-Encoding: chunked\r\n\r\n"
)
EVENTS = (
    b": OPENROUTER PROCESSING\n\n",
    chunk("Gün"),
    chunk("ler"),
    chunk(" 🙂"),
    chunk(finish="stop"),
    chunk(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.00012}),
    b"data: [DONE]\n\n",
)
END = b"0\r\n\r\n"
COMPLETION = {
    "id": "gen-2",
    "model": "a/b",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello"}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "cost": 0.5},
}


def framed(*events: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(event), event) for event in events)


def answer(body: object, status: str = "200 OK", *headers: str) -> bytes:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(content)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + content


STREAM = STREAM_HEAD + framed(*EVENTS) + END


def serve(*answers: bytes, pause_s: float = 0.0) -> Script:
    """Answer one request after the other on the same connection, then wait for the client to hang up."""

    def script(wire: Wire) -> None:
        for each in answers:
            if not wire.read_request():
                return
            wire.send(each, pause_s=pause_s)
        wire.wait_for_the_client_to_close()

    return script


def cut_off_after(sent: bytes) -> Script:
    def script(wire: Wire) -> None:
        wire.read_request()
        wire.send(sent)

    return script


def text_of(stream: ChatStream) -> str:
    return "".join(delta.text for deltas in stream for delta in deltas if isinstance(delta, TextDelta))


def read_whole(client: OpenRouter) -> str:
    with client.stream_chat(BODY) as stream:
        return text_of(stream)


def test_a_stream_arrives_whole_with_its_usage(stage):
    client, server = stage.play(serve(STREAM))
    with client.stream_chat(BODY, traceparent="00-1-2-01", user="u1") as stream:
        lists = list(stream)
    assert lists[0][0] == Started("gen-1", "a/b", "OpenAI")
    assert "".join(delta.text for deltas in lists for delta in deltas if isinstance(delta, TextDelta)) == "Günler 🙂"
    assert (stream.generation_id, stream.model, stream.provider) == ("gen-1", "a/b", "OpenAI")
    assert (stream.finish_reason, stream.native_finish_reason) == ("stop", None)
    assert (stream.content_delivered, stream.cancelled) == (True, False)
    assert stream.usage.cost_pico_usd == 120_000_000
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /api/v1/chat/completions HTTP/1.1"
    assert {
        f"Host: 127.0.0.1:{server.port}".encode(),
        b"Authorization: Bearer sk-or-v1-test",
        b"Content-Type: application/json",
        b"Accept: text/event-stream",
        b"X-OpenRouter-Title: CraftPilot",
        b"traceparent: 00-1-2-01",
    } <= set(lines)
    assert not any(line.startswith(b"HTTP-Referer") for line in lines)
    assert json.loads(body) == {**BODY, "stream": True, "user": "u1"}


def test_what_arrives_in_one_read_comes_as_one_list(stage):
    client, _ = stage.play(serve(STREAM))
    with client.stream_chat(BODY) as stream:
        lists = list(stream)
    assert len(lists) <= 2
    said = [delta for deltas in lists for delta in deltas]
    assert isinstance(said[0], Started)
    assert "".join(delta.text for delta in said[1:]) == "Günler 🙂"


def test_a_body_cut_at_every_byte_is_read_the_same(stage):
    def dribble(wire: Wire) -> None:
        wire.read_request()
        wire.send(*(STREAM[at : at + 1] for at in range(len(STREAM))))
        wire.wait_for_the_client_to_close()

    client, _ = stage.play(dribble)
    assert read_whole(client) == "Günler 🙂"


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n" % len(b"".join(EVENTS)),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(b"".join(EVENTS)),
    ],
)
def test_other_framings_are_read_too(stage, head):
    client, _ = stage.play(cut_off_after(head + b"".join(EVENTS)))
    assert read_whole(client) == "Günler 🙂"


def test_a_plain_answer_arrives(stage):
    client, server = stage.play(serve(answer(COMPLETION)), referer="https://craftpilot.dev")
    completion = client.complete_chat(BODY, user="u1")
    assert (completion.text, completion.finish_reason, completion.generation_id) == ("Hello", "stop", "gen-2")
    assert completion.usage.cost_pico_usd == 500_000_000_000
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert b"Accept: application/json" in head
    assert b"HTTP-Referer: https://craftpilot.dev" in head
    assert json.loads(body) == {**BODY, "stream": False, "user": "u1"}


def test_calls_in_turn_share_one_connection(stage):
    refusal = answer({"error": {"code": 400, "message": "No"}}, "400 Bad Request")
    client, server = stage.play(serve(STREAM, answer(COMPLETION), refusal, STREAM, answer({"data": []})))
    assert read_whole(client) == "Günler 🙂"
    assert client.complete_chat(BODY).text == "Hello"
    with pytest.raises(UpstreamRejected, match=r"^No"):
        client.complete_chat(BODY)
    assert read_whole(client) == "Günler 🙂"
    assert list(client.list_models()) == []
    assert len(server.wires) == 1


def test_a_stream_whose_body_ends_a_moment_later_keeps_its_connection(stage):
    def script(wire: Wire) -> None:
        wire.read_request()
        wire.send(STREAM_HEAD, framed(*EVENTS), END, pause_s=0.005)
        serve(answer(COMPLETION))(wire)

    client, server = stage.play(script)
    assert read_whole(client) == "Günler 🙂"
    assert client.complete_chat(BODY).text == "Hello"
    assert len(server.wires) == 1


def test_a_stream_whose_body_does_not_end_does_not_hold_its_reader(stage):
    client, server = stage.play(serve(STREAM_HEAD + framed(*EVENTS)), serve(answer(COMPLETION)))
    begun = time.monotonic()
    assert read_whole(client) == "Günler 🙂"
    assert time.monotonic() - begun < 5
    assert client.complete_chat(BODY).text == "Hello"
    assert len(server.wires) == 2


@pytest.mark.parametrize(
    "first",
    [
        answer(COMPLETION, "200 OK", "Connection: close"),
        answer(COMPLETION) + b"HTTP/1.1 200 OK\r\n",
        STREAM_HEAD.replace(b"text/event-stream", b"application/json")
        + framed(json.dumps(COMPLETION).encode())
        + END
        + b"x",
    ],
)
def test_a_connection_that_ends_or_says_too_much_is_not_used_again(stage, first):
    client, server = stage.play(serve(first), serve(answer(COMPLETION)))
    assert client.complete_chat(BODY).text == "Hello"
    assert client.complete_chat(BODY).text == "Hello"
    assert len(server.wires) == 2


def test_closing_twice_gives_the_connection_back_once(stage):
    client, server = stage.play(serve(STREAM, STREAM), serve(STREAM))
    stream = client.stream_chat(BODY)
    text_of(stream)
    stream.close()
    stream.close()
    with client.stream_chat(BODY) as first, client.stream_chat(BODY) as second:
        assert text_of(first) == text_of(second) == "Günler 🙂"
    assert sorted(len(wire.requests) for wire in server.wires) == [1, 2]


def test_nothing_behind_an_empty_answer_is_taken_for_the_next_one(stage):
    smuggled = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n" + answer(COMPLETION)
    client, server = stage.play(serve(smuggled), serve(STREAM))
    with pytest.raises(UpstreamError):
        client.complete_chat(BODY)
    assert read_whole(client) == "Günler 🙂"
    assert len(server.wires) == 2


def test_a_stream_left_early_closes_its_connection(stage):
    client, server = stage.play(serve(STREAM_HEAD + framed(*EVENTS[:2])), serve(answer(COMPLETION)))
    with client.stream_chat(BODY) as stream:
        assert next(iter(stream))
    assert client.complete_chat(BODY).text == "Hello"
    assert len(server.wires) == 2


def answer_then(end: Callable[[Wire], None]) -> Script:
    """Answer one request; take a second one and end the connection without a byte of an answer."""

    def script(wire: Wire) -> None:
        wire.read_request()
        wire.send(answer(COMPLETION))
        wire.read_request()
        end(wire)

    return script


@pytest.mark.parametrize("end", [Wire.reset, lambda wire: wire.sock.close()], ids=["reset", "close"])
def test_a_question_that_a_stale_connection_took_is_not_sent_again_because_it_may_be_charged(stage, end):
    client, server = stage.play(answer_then(end), serve(STREAM))
    assert client.complete_chat(BODY).text == "Hello"
    with pytest.raises(UpstreamError) as caught:
        client.stream_chat(BODY)
    assert caught.value.details == {"fault": "kept_connection_closed", "cause": "RemoteDisconnected"}
    assert len(server.requests) == 2
    assert read_whole(client) == "Günler 🙂"


@pytest.mark.parametrize("end", [Wire.reset, lambda wire: wire.sock.close()], ids=["reset", "close"])
def test_a_look_up_on_a_stale_connection_is_sent_again_once(stage, end):
    client, server = stage.play(answer_then(end), serve(answer(b'{"data":{"id":"gen-1"}}')))
    assert client.complete_chat(BODY).text == "Hello"
    assert client.find_generation("gen-1") is not None
    assert len(server.requests) == 3


def test_a_connection_closed_while_idle_is_not_even_tried(stage):
    client, server = stage.play(cut_off_after(answer(COMPLETION)), serve(STREAM))
    assert client.complete_chat(BODY).text == "Hello"
    while server.wires[0].sock.fileno() != -1:
        time.sleep(0.005)
    assert read_whole(client) == "Günler 🙂"
    assert [len(wire.requests) for wire in server.wires] == [1, 1]


def test_a_connection_idle_for_too_long_is_not_used_again(stage):
    client, server = stage.play(serve(answer(COMPLETION)), serve(answer(COMPLETION)), max_idle_age_s=0.05)
    client.complete_chat(BODY)
    time.sleep(0.1)
    client.complete_chat(BODY)
    assert len(server.wires) == 2


def test_no_more_connections_stay_idle_than_agreed(stage):
    arrived = threading.Barrier(3)

    def together(wire: Wire) -> None:
        wire.read_request()
        arrived.wait(5)
        wire.send(answer(COMPLETION))
        serve(answer(COMPLETION))(wire)

    client, server = stage.play(together, together, together, max_idle_connections=1)
    threads = [threading.Thread(target=client.complete_chat, args=(BODY,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert client.complete_chat(BODY).text == "Hello"
    assert sorted(len(wire.requests) for wire in server.wires) == [1, 1, 2]


@pytest.mark.parametrize("end", [Wire.reset, lambda wire: wire.sock.close()], ids=["reset", "close"])
def test_a_new_connection_that_breaks_before_the_answer_is_not_tried_again(stage, end):
    def script(wire: Wire) -> None:
        wire.read_request()
        end(wire)

    client, server = stage.play(script, serve(STREAM))
    with pytest.raises(UpstreamError) as caught:
        client.stream_chat(BODY)
    assert caught.value.details == {"fault": "first_byte_failed", "cause": "RemoteDisconnected"}
    assert len(server.requests) == 1


@pytest.mark.parametrize("end", [Wire.reset, lambda wire: wire.sock.close()], ids=["reset", "close"])
def test_a_stale_connection_that_sent_a_byte_is_not_tried_again(stage, end):
    def byte_then_end(wire: Wire) -> None:
        wire.send(b"HTTP/1.1 2", pause_s=0.1)
        end(wire)

    client, server = stage.play(answer_then(byte_then_end), serve(STREAM))
    client.complete_chat(BODY)
    with pytest.raises(UpstreamError):
        client.stream_chat(BODY)
    assert len(server.requests) == 2


def test_nobody_listening_is_an_upstream_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = OpenRouter(base_url=f"http://127.0.0.1:{port}", api_key="k")
    with pytest.raises(UpstreamError) as caught:
        client.complete_chat(BODY)
    assert caught.value.details == {"fault": "connect_failed", "cause": "ConnectionRefusedError"}


def test_no_answer_in_time_is_a_timeout(stage):
    client, _ = stage.play(lambda wire: (wire.read_request(), wire.wait_for_the_client_to_close()), timeouts=QUICK)
    with pytest.raises(UpstreamTimeout) as caught:
        client.stream_chat(BODY)
    assert caught.value.details == {"fault": "first_byte_timeout"}


def test_headers_that_stall_are_a_timeout(stage):
    client, _ = stage.play(serve(STREAM_HEAD[:30]), timeouts=QUICK)
    with pytest.raises(UpstreamTimeout):
        client.stream_chat(BODY)


def test_slow_headers_within_the_time_are_no_fault(stage):
    def slow_headers(wire: Wire) -> None:
        wire.read_request()
        wire.send(STREAM_HEAD[:30], STREAM_HEAD[30:60], STREAM[60:], pause_s=0.05)
        wire.wait_for_the_client_to_close()

    client, _ = stage.play(slow_headers, timeouts=QUICK)
    assert read_whole(client) == "Günler 🙂"


def failure_of(client: OpenRouter) -> UpstreamFailedMidStream:
    with client.stream_chat(BODY) as stream, pytest.raises(UpstreamFailedMidStream) as caught:
        text_of(stream)
    return caught.value


def test_a_stream_that_stalls_is_a_failure_by_timeout(stage):
    client, _ = stage.play(serve(STREAM_HEAD + framed(EVENTS[1])), timeouts=QUICK)
    failure = failure_of(client)
    assert type(failure.reason) is UpstreamTimeout
    assert failure.content_delivered
    assert failure.details == {"fault": "read_timeout", "generation_id": "gen-1"}


def test_keep_alives_hold_a_slow_stream_open(stage):
    def slow(wire: Wire) -> None:
        wire.read_request()
        wire.send(STREAM_HEAD, *[framed(EVENTS[0])] * 6, framed(*EVENTS[1:]) + END, pause_s=0.1)
        wire.wait_for_the_client_to_close()

    client, _ = stage.play(slow, timeouts=QUICK)
    assert read_whole(client) == "Günler 🙂"


@pytest.mark.parametrize(
    ("sent", "fault"),
    [
        (STREAM_HEAD, "ended_early"),
        (STREAM_HEAD + framed(*EVENTS[:3]), "ended_early"),
        (STREAM_HEAD + framed(*EVENTS[:3]) + END, "ended_early"),
        (STREAM_HEAD + framed(*EVENTS[:3])[:-20], "malformed_chunk"),
        (STREAM_HEAD + framed(*EVENTS[:3]) + b"ff\r\ndata: {", "malformed_chunk"),
        (STREAM_HEAD + framed(*EVENTS[:3]) + b"not a size\r\n", "read_failed"),
    ],
)
def test_a_stream_that_breaks_off_is_a_failure(stage, sent, fault):
    client, _ = stage.play(cut_off_after(sent))
    failure = failure_of(client)
    assert failure.details["fault"] == fault
    assert failure.generation_id == "gen-1"
    assert failure.content_delivered == (sent != STREAM_HEAD)


def test_a_reset_in_the_middle_is_a_failure(stage):
    def script(wire: Wire) -> None:
        wire.read_request()
        wire.send(STREAM_HEAD + framed(*EVENTS[:3]), pause_s=0.1)
        wire.reset()

    client, _ = stage.play(script)
    failure = failure_of(client)
    assert failure.details == {"fault": "read_failed", "cause": "ConnectionResetError", "generation_id": "gen-1"}
    assert isinstance(failure.__cause__, UpstreamError)


def test_a_reset_after_the_finish_takes_nothing_from_the_answer(stage):
    def script(wire: Wire) -> None:
        wire.read_request()
        wire.send(STREAM_HEAD + framed(*EVENTS[:5]), pause_s=0.1)
        wire.reset()

    client, _ = stage.play(script)
    with client.stream_chat(BODY) as stream:
        assert text_of(stream) == "Günler 🙂"
    assert (stream.finish_reason, stream.usage) == ("stop", None)


@pytest.mark.parametrize("error", [{"error": {"code": 429, "message": "x"}}, {"choices": [{"error": {"code": 429}}]}])
def test_a_json_error_where_a_stream_was_asked_for_is_that_error(stage, error):
    client, _ = stage.play(serve(answer(error)))
    with pytest.raises(UpstreamFailedMidStream) as caught:
        client.stream_chat(BODY)
    assert type(caught.value.reason) is UpstreamBusy


def test_a_whole_answer_where_a_stream_was_asked_for_is_a_failure_that_keeps_it(stage):
    client, _ = stage.play(serve(answer(COMPLETION)))
    with pytest.raises(UpstreamFailedMidStream) as caught:
        client.stream_chat(BODY)
    assert caught.value.partial is not None
    assert caught.value.partial.text == "Hello"
    assert caught.value.usage == Usage(prompt_tokens=1, completion_tokens=2, cost_pico_usd=500_000_000_000)


def test_a_plain_answer_cut_off_is_a_failure_that_knows_its_generation(stage):
    whole = answer(COMPLETION, "200 OK", "X-Generation-Id: gen-9")
    client, _ = stage.play(cut_off_after(whole[:-5]), serve(whole[:-5]), timeouts=QUICK)
    with pytest.raises(UpstreamFailedMidStream) as caught:
        client.complete_chat(BODY)
    assert caught.value.details == {"fault": "malformed_answer", "generation_id": "gen-9"}
    with pytest.raises(UpstreamFailedMidStream) as caught:
        client.complete_chat(BODY)
    assert caught.value.details == {"fault": "read_timeout", "generation_id": "gen-9"}
    assert type(caught.value.reason) is UpstreamTimeout


def test_a_refusal_is_known_by_its_status_even_when_its_body_does_not_come(stage):
    promised = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 50\r\n\r\n"

    def reset_in_the_body(wire: Wire) -> None:
        wire.read_request()
        wire.send(promised, pause_s=0.1)
        wire.reset()

    client, _ = stage.play(cut_off_after(promised), cut_off_after(promised + b"{"), reset_in_the_body)
    for _ in range(3):
        with pytest.raises(UpstreamBusy) as caught:
            client.complete_chat(BODY)
        assert caught.value.retry_after_s == 7


def test_a_huge_error_body_is_not_read_to_its_end(stage):
    client, server = stage.play(serve(answer(b"x" * 5_000_000, "502 Bad Gateway")), serve(answer(COMPLETION)))
    with pytest.raises(UpstreamError):
        client.complete_chat(BODY)
    assert client.complete_chat(BODY).text == "Hello"
    assert len(server.wires) == 2


def test_who_refuses_a_large_body_early_is_heard(stage):
    def early(wire: Wire) -> None:
        wire.sock.recv(1000)
        wire.send(
            answer(
                {"error": {"code": 413, "message": "Request payload too large"}}, "413 Too Large", "Connection: close"
            )
        )
        wire.sock.shutdown(socket.SHUT_RDWR)
        time.sleep(0.2)

    client, _ = stage.play(early)
    with pytest.raises(UpstreamError) as caught:
        client.complete_chat({"messages": ["x" * 20_000_000]})
    # Whether the answer survives the reset that follows it is up to the kernel; nothing else may come out.
    assert caught.value.details.get("upstream_status", 413) == 413


def cancelled_within(act: Callable[[], object], cancel: Callable[[], None]) -> float:
    """Seconds between `cancel`, called from another thread, and the StreamCancelled that ends `act`."""
    called_at: list[float] = []

    def later() -> None:
        time.sleep(0.2)
        called_at.append(time.monotonic())
        cancel()

    thread = threading.Thread(target=later)
    thread.start()
    with pytest.raises(StreamCancelled):
        act()
    ended_at = time.monotonic()
    thread.join()
    return ended_at - called_at[0]


def test_cancelling_from_another_thread_ends_a_blocked_stream_at_once(stage):
    closed = threading.Event()

    def script(wire: Wire) -> None:
        wire.read_request()
        wire.send(STREAM_HEAD + framed(EVENTS[1]))
        wire.wait_for_the_client_to_close()
        closed.set()

    client, _ = stage.play(script)
    with client.stream_chat(BODY) as stream:
        deltas = iter(stream)
        assert next(deltas)[1] == TextDelta("Gün")
        assert cancelled_within(lambda: next(deltas), stream.cancel) < 0.5
        assert closed.wait(1)
        assert stream.cancelled
    assert stream.generation_id == "gen-1"


def test_cancelling_while_the_answer_has_not_begun_ends_the_call_at_once(stage):
    client, server = stage.play(lambda wire: (wire.read_request(), wire.wait_for_the_client_to_close()))
    cancellation = Cancellation()
    assert cancelled_within(lambda: client.stream_chat(BODY, cancellation=cancellation), cancellation.cancel) < 0.5
    assert len(server.requests) == 1


def test_a_call_cancelled_beforehand_is_never_sent(stage):
    client, server = stage.play(serve(STREAM))
    cancellation = Cancellation()
    cancellation.cancel()
    with pytest.raises(StreamCancelled):
        client.stream_chat(BODY, cancellation=cancellation)
    assert server.requests == []


def test_cancelling_between_two_reads_ends_the_iteration(stage):
    client, _ = stage.play(serve(STREAM_HEAD + framed(EVENTS[1])))
    with client.stream_chat(BODY) as stream:
        deltas = iter(stream)
        next(deltas)
        stream.cancel()
        with pytest.raises(StreamCancelled):
            next(deltas)


def test_cancelling_after_the_end_harms_nobody(stage):
    client, server = stage.play(serve(STREAM, STREAM))
    with client.stream_chat(BODY) as first:
        text_of(first)
    with client.stream_chat(BODY) as second:
        first.cancel()
        assert text_of(second) == "Günler 🙂"
    assert len(server.wires) == 1


def test_many_threads_share_the_client(stage):
    client, server = stage.play(*[serve(*[STREAM] * 100)] * 8)
    texts: list[str] = []

    def work() -> None:
        texts.extend(read_whole(client) for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert texts == ["Günler 🙂"] * 80
    assert len(server.requests) == 80


def test_a_generation_is_found_or_not_there_yet(stage):
    missing = answer({"error": {"code": 404, "message": "Generation not found"}}, "404 Not Found")
    found = answer(b'{"data":{"id":"gen-1","total_cost":8.675e-05,"cancelled":true,"tokens_prompt":3}}')
    client, server = stage.play(serve(missing, found, answer({"error": {"code": 500}}, "500 Oops"), answer({})))
    assert client.find_generation("gen-1&x=/") is None
    record = client.find_generation("gen-1")
    assert (record.cost_pico_usd, record.cancelled, record.prompt_tokens) == (86_750_000, True, 3)
    for _ in range(2):
        with pytest.raises(UpstreamError):
            client.find_generation("gen-1")
    assert server.requests[0].startswith(b"GET /api/v1/generation?id=gen-1%26x%3D%2F HTTP/1.1\r\n")
    assert len(server.wires) == 1


def test_models_are_paged_and_keep_their_prices_as_text(stage):
    first = {"id": "a/b", "pricing": {"prompt": "0.0000002574", "discount": 0.25, "request": 0, "overrides": []}}
    second = {"id": "c/d", "pricing": {"prompt": "-1"}, "default_parameters": {"temperature": 0.7}}
    pages = [
        {"data": [first], "links": {"next": "https://elsewhere.example/models"}},
        {"data": [second, 7, {"id": "e"}]},
    ]
    client, server = stage.play(serve(*map(answer, pages)))
    models = list(client.list_models())
    assert models[0]["pricing"] == {"prompt": "0.0000002574", "discount": "0.25", "request": "0", "overrides": []}
    assert models[1:] == [second, {"id": "e"}]
    assert [request.split(b" ")[1] for request in server.requests] == [
        b"/api/v1/models?offset=0&limit=500",
        b"/api/v1/models?offset=1&limit=500",
    ]


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"data":7}'])
def test_a_malformed_catalogue_is_an_upstream_error(stage, body):
    client, _ = stage.play(serve(answer(body)))
    with pytest.raises(UpstreamError) as caught:
        list(client.list_models())
    assert caught.value.details == {"fault": "malformed_answer"}


def test_a_catalogue_that_never_ends_is_left_after_many_pages(stage):
    page = answer({"data": [{"id": "a/b"}], "links": {"next": "/models"}})
    client, server = stage.play(serve(*[page] * 200))
    assert len(list(client.list_models())) == len(server.requests) == 100


def test_a_header_cannot_break_out_of_its_line(stage):
    client, server = stage.play(serve(STREAM))
    with pytest.raises(ValueError, match="line break"):
        client.stream_chat(BODY, traceparent="x\r\nAuthorization: other")
    assert server.requests == []


def test_a_base_url_must_be_one():
    with pytest.raises(ValueError, match="base URL"):
        OpenRouter(base_url="openrouter.ai/api/v1", api_key="k")


def make_certificate(folder) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Contexts of a server with a fresh certificate for 127.0.0.1 and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now - dt.timedelta(1), now + dt.timedelta(1)
        )
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "server.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))


def test_tls_streams_reuses_connections_and_cancels(stage, tmp_path):
    server_tls, client_tls = make_certificate(tmp_path)
    stalled = STREAM_HEAD + framed(EVENTS[1])
    server = Server((serve(STREAM, answer(COMPLETION), stalled),), server_tls)
    stage.stack.callback(server.close)
    client = OpenRouter(base_url=f"https://127.0.0.1:{server.port}/api/v1", api_key="k", tls=client_tls)
    stage.stack.callback(client.close)
    assert read_whole(client) == "Günler 🙂"
    assert client.complete_chat(BODY).text == "Hello"
    with client.stream_chat(BODY) as stream:
        deltas = iter(stream)
        next(deltas)
        assert cancelled_within(lambda: next(deltas), stream.cancel) < 0.5
    assert len(server.wires) == 1


def test_a_server_that_nobody_vouches_for_is_refused(stage, tmp_path):
    server_tls, _ = make_certificate(tmp_path)
    server = Server((serve(STREAM),), server_tls)
    stage.stack.callback(server.close)
    client = OpenRouter(base_url=f"https://127.0.0.1:{server.port}", api_key="k")
    with pytest.raises(UpstreamError) as caught:
        client.complete_chat(BODY)
    assert caught.value.details == {"fault": "connect_failed", "cause": "SSLCertVerificationError"}
    assert server.requests == []
