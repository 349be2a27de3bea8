"""The HTTP layer over real sockets: keep-alive, pipelining, refusals, departures, and many streams at once."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_a_connection_is_used_again(api):
    connection = http.client.HTTPConnection(api.host, api.port, timeout=10)
    try:
        for path in ("/api/v1/models", "/api/v1/providers", "/api/v1/nothing"):
            connection.request("GET", path)
            response = connection.getresponse()
            assert json.loads(response.read())
            assert response.getheader("connection") == "keep-alive"
    finally:
        connection.close()


def test_requests_sent_ahead_are_answered_in_order(api):
    with socket.create_connection((api.host, api.port), timeout=10) as connection:
        connection.sendall(b"GET /_standin/health HTTP/1.1\r\n\r\nGET /nothing HTTP/1.1\r\nConnection: close\r\n\r\n")
        answers = _all(connection)
    assert answers.index(b"200 OK") < answers.index(b"404 Not Found")


def test_a_stream_for_an_old_client_ends_by_closing(api):
    body = json.dumps(
        {"model": "openai/gpt-4o-mini", "stream": True, "messages": [{"role": "user", "content": "/say hi"}]}
    ).encode()
    head = f"POST /api/v1/chat/completions HTTP/1.0\r\nAuthorization: Bearer sk-or-v1-x\r\nContent-Length: {len(body)}"
    with socket.create_connection((api.host, api.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"\r\n\r\n" + body)
        answer = _all(connection)
    assert b"Transfer-Encoding" not in answer
    assert answer.endswith(b"data: [DONE]\n\n")


def test_a_chunked_request_is_understood(api):
    connection = http.client.HTTPConnection(api.host, api.port, timeout=10)
    body = json.dumps({"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": "/say hi"}]}).encode()
    try:
        pieces = (body[start : start + 10] for start in range(0, len(body), 10))
        headers = {"Authorization": "Bearer sk-or-v1-x"}
        connection.request("POST", "/api/v1/chat/completions", pieces, headers, encode_chunked=True)
        assert json.loads(connection.getresponse().read())["choices"][0]["message"]["content"] == "hi"
    finally:
        connection.close()


def test_an_upload_that_is_too_large_is_refused_before_it_is_read(api):
    with socket.create_connection((api.host, api.port), timeout=10) as connection:
        connection.sendall(b"POST /api/v1/images HTTP/1.1\r\nContent-Length: 67108865\r\n\r\n")
        answer = _all(connection)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == 413


def test_nonsense_is_refused_and_the_server_goes_on(api):
    with socket.create_connection((api.host, api.port), timeout=10) as connection:
        connection.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        assert _all(connection).startswith(b"HTTP/1.1 400 ")
    assert api.get("/_standin/health").status == 200


def test_a_head_request_has_headers_only(api):
    reply = api.call("HEAD", "/models", key=None)
    assert (reply.status, reply.raw) == (200, b"")


def test_a_large_answer_reaches_a_slow_reader_whole(api):
    with api.raw_chat("/tokens 60000", "keepalive=0", model="openai/gpt-5-mini", stream=True) as connection:
        time.sleep(0.2)
        received = bytearray()
        while not received.endswith(b"\r\n0\r\n\r\n"):
            received += connection.recv(1_000_000)
    assert received.count(b'"content":') == 60_000 + 3


def test_four_hundred_streams_run_at_once(api):
    results = []

    def read_stream():
        with api.raw_chat("/tokens 20", "chunk_delay_ms=50", stream=True) as connection:
            received = bytearray()
            while not received.endswith(b"\r\n0\r\n\r\n"):
                data = connection.recv(100_000)
                if not data:
                    break
                received += data
        results.append(received.count(b'"content":'))

    threads = [threading.Thread(target=read_stream) for _ in range(400)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [20 + 3] * 400
    assert len(api.requests(path="/chat/completions")) == 400


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_process_starts_says_where_and_leaves_on_a_signal(number):
    command = [sys.executable, "-m", "emulator.openrouter", "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first_line = process.stdout.readline()
        port = int(first_line.partition("127.0.0.1:")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"GET /api/v1/key HTTP/1.1\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 401")
            assert process.stdout.readline().startswith("GET /api/v1/key 401 ")
            process.send_signal(number)
            assert process.wait(5) == 0


def test_a_taken_port_is_said_plainly(api):
    command = [sys.executable, "-m", "emulator.openrouter", "--port", str(api.port)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 1
    assert f"cannot listen on 127.0.0.1:{api.port}" in ended.stderr


def _all(connection):
    received = b""
    while data := connection.recv(65_536):
        received += data
    return received
