"""The stand-in on a free port in this process, emptied before every test, and a client that sees every byte."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from emulator.openrouter.calls import Standin
from emulator.openrouter.server import start

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-or-v1-test-key-of-this-suite"


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def text(self) -> str:
        return self.raw.decode()

    @property
    def events(self) -> list[Any]:
        """The JSON of every `data:` block, [DONE] left out."""
        blocks = [block for block in self.text.split("\n\n") if block.startswith("data: ")]
        return [json.loads(block[6:]) for block in blocks if block != "data: [DONE]"]

    @property
    def content(self) -> str:
        """The words of a completion, streamed or not."""
        if self.headers["content-type"] == "text/event-stream":
            deltas = (choice["delta"] for event in self.events for choice in event.get("choices", ()))
            return "".join(delta.get("content") or "" for delta in deltas)
        return str(self.json["choices"][0]["message"]["content"])


class Api:
    """A client of the stand-in. Every call is its own connection, so nothing is shared between tests."""

    def __init__(self, host: str, port: int, lines: list[str]) -> None:
        self.host, self.port, self.lines = host, port, lines
        self.base_url = f"http://{host}:{port}/api/v1"

    def call(self, method: str, path: str, body: Any = None, *, key: str | None = KEY, **headers: str) -> Reply:
        """Paths are below /api/v1, or below /_standin as they are. Header names are written with underscores."""
        target = path if path.startswith("/_standin") else f"/api/v1{path}"
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if key:
            sent["Authorization"] = f"Bearer {key}"
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            connection.request(method, target, data, {"Content-Type": "application/json", **sent})
            response = connection.getresponse()
            raw = response.read()
        finally:
            connection.close()
        return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, raw)

    def get(self, path: str, *, key: str | None = KEY, **headers: str) -> Reply:
        return self.call("GET", path, key=key, **headers)

    def post(self, path: str, body: Any, *, key: str | None = KEY, **headers: str) -> Reply:
        return self.call("POST", path, body, key=key, **headers)

    def chat(self, say: str = "/say ok", faults: str = "", *, key: str = KEY, **body: Any) -> Reply:
        """A chat completion with one user message."""
        messages = [{"role": "user", "content": say}]
        headers = {"X_Standin_Faults": faults} if faults else {}
        asked = {"model": "openai/gpt-4o-mini", "messages": messages, **body}
        return self.post("/chat/completions", asked, key=key, **headers)

    def stream(self, say: str = "/say ok", faults: str = "", **body: Any) -> Reply:
        return self.chat(say, faults, stream=True, **body)

    def raw_chat(self, say: str, faults: str = "", **body: Any) -> socket.socket:
        """A socket on which the request was sent; the test reads what it wants and closes it."""
        asked = {"model": "openai/gpt-4o-mini", "messages": [{"role": "user", "content": say}], **body}
        data = json.dumps(asked).encode()
        head = (
            f"POST /api/v1/chat/completions HTTP/1.1\r\nHost: standin\r\nAuthorization: Bearer {KEY}\r\n"
            f"X-Standin-Faults: {faults}\r\nContent-Length: {len(data)}\r\n\r\n"
        )
        connection = socket.create_connection((self.host, self.port), timeout=20)
        connection.sendall(head.encode() + data)
        return connection

    def usage(self, key: str = KEY) -> float:
        return float(self.get("/key", key=key).json["data"]["usage"])

    def generation(self, generation_id: str) -> Any:
        """The record of a generation, as soon as it can be seen."""
        return self.eventually(lambda: self._found(generation_id))

    def _found(self, generation_id: str) -> Any:
        reply = self.get(f"/generation?id={generation_id}")
        return reply.json["data"] if reply.status == 200 else None

    def requests(self, **query: str) -> list[Any]:
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        found: list[Any] = self.get(f"/_standin/requests?{asked}").json["requests"]
        return found

    @staticmethod
    def eventually(look: Any, within_s: float = 5) -> Any:
        """The first truthy result of `look`."""
        end = time.monotonic() + within_s
        while time.monotonic() < end:
            if found := look():
                return found
            time.sleep(0.002)
        raise AssertionError(f"nothing within {within_s} s")


@pytest.fixture(scope="module")
def running() -> Iterator[Api]:
    lines: list[str] = []
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(start(Standin(), "127.0.0.1", 0, lines.append))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield Api("127.0.0.1", server.port, lines)
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(5)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(5)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


@pytest.fixture
def api(running: Api) -> Api:
    running.lines.clear()
    assert running.call("POST", "/_standin/reset").status == 200
    running.eventually(lambda: any("/_standin/reset" in line for line in running.lines))  # written after the answer
    running.lines.clear()
    return running
