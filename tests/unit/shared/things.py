"""A small capability of the tests' own, with one route for each thing the pipeline does."""

from collections.abc import Iterator
from typing import Any

from flask import Request, Response
from pydantic import BaseModel, ConfigDict

from shared.errors import RateLimited, UpstreamError
from shared.http.dialects import Problem
from shared.http.pipeline import serve
from shared.http.routes import Call, Page, Reply, Routes, Stream, Who
from shared.identity.permissions import Permission
from shared.limits.policies import LimitClass
from tests.unit.shared.exchange import NOW

MAX_BODY_BYTES = 64 * 1024
SECRET = "the-database-password"


class Part(BaseModel):
    text: str


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    count: int = 0
    weight: float = 0.0
    parts: list[Part] = []


class Search(BaseModel):
    limit: int = 20


class Made(BaseModel):
    name: str
    by: str | None


class Chunks:
    """A stream that remembers how it was treated."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        self.closed += 1


class Things:
    """The function, and what its handlers saw."""

    def __init__(self, dialect: Problem | None = None) -> None:
        self.calls: list[Call[Any, Any]] = []
        self.chunks = Chunks(b"one", b"two")
        self._handle = serve(self._routes(), dialect=dialect, clock=lambda: NOW)

    def ask(self, request: Request) -> Response:
        return self._handle(request)

    def _routes(self) -> Routes:
        routes = Routes("things")

        @routes.post(
            "/mine", who=Permission.CHAT_WRITE, body=Thing, answer=Made, status=201, max_body_bytes=MAX_BODY_BYTES
        )
        def make(call: Call[Thing, Any]) -> Made:
            """Make a thing."""
            self.calls.append(call)
            return Made(name=call.body.name, by=call.caller.uid)

        @routes.post("/open", who=Who.ANYONE, body=Thing, answer=Made, max_body_bytes=MAX_BODY_BYTES)
        def make_openly(call: Call[Thing, Any]) -> Made:
            """Make a thing for nobody."""
            self.calls.append(call)
            return Made(name=call.body.name, by=None)

        @routes.get("/open", who=Who.ANYONE, query=Search, answer=Made)
        def search(call: Call[Any, Search]) -> Made:
            """Look for things."""
            self.calls.append(call)
            return Made(name="x" * call.query.limit, by=None)

        @routes.delete("/things/{thing_id}", who=Who.ANYONE)
        def drop(call: Call[Any, Any]) -> None:
            """Drop a thing."""
            self.calls.append(call)

        @routes.get("/people", who=Permission.USERS_READ, answer=Made)
        def people(call: Call[Any, Any]) -> Made:
            """Look at people, for those who may."""
            self.calls.append(call)
            return Made(name="people", by=call.caller.uid)

        @routes.post("/heavy", who=Permission.CHAT_WRITE, fresh=True, weight=5, limit=LimitClass.GENERATE, answer=Made)
        def lift(call: Call[Any, Any]) -> Reply:
            """Lift something heavy, and say so in a header."""
            self.calls.append(call)
            return Reply(Made(name="heavy", by=call.caller.uid), headers={"X-Lifted": "yes"})

        @routes.get("/page", who=Who.ANYONE)
        def page(call: Call[Any, Any]) -> Page:
            """A page."""
            return Page("<p>hello", "text/html; charset=utf-8")

        @routes.get("/stream", who=Permission.CHAT_WRITE, streams="Numbers.")
        def stream(call: Call[Any, Any]) -> Stream:
            """Numbers, one by one."""
            self.calls.append(call)
            return Stream(self.chunks, headers={"Cache-Control": "private, no-store, no-transform", "X-Mine": "yes"})

        @routes.get("/broken", who=Who.ANYONE)
        def broken(call: Call[Any, Any]) -> None:
            """Break."""
            raise ValueError(SECRET)

        @routes.get("/limited", who=Who.ANYONE)
        def limited(call: Call[Any, Any]) -> None:
            """Refuse for a while."""
            raise RateLimited("Slow down.", retry_after_s=7)

        @routes.get("/upstream", who=Who.ANYONE)
        def upstream(call: Call[Any, Any]) -> None:
            """Fail further up."""
            raise UpstreamError("The model failed.", upstream_status=418, provider=SECRET)

        return routes
