"""The way of a request, the same for every HTTP function:

    trace → route → authenticate → read → validate → handler → answer

Authorisation, rate limits and idempotency belong between `authenticate` and `read`: `_admit` is their place.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flask import Request, Response
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from shared import log
from shared.auth import Caller, authenticate
from shared.clock import Clock, utc_now
from shared.errors import AppError, FieldError, InternalError, InvalidRequest, PayloadTooLarge
from shared.http.dialects import Problem
from shared.http.routes import Answer, Call, Empty, Page, Route, Routes, Stream, Who
from shared.settings import settings
from shared.trace import continue_trace, set_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HEALTH_PROBE = "/__/health"
_LOCAL_HOSTS = {"localhost", "127.0.0.1"}
_ALLOWED_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, traceparent, Firebase-Instance-ID-Token, X-Firebase-AppCheck"
)
_EXPOSED_HEADERS = "X-Request-Id, Retry-After, RateLimit, RateLimit-Policy"
_NO_STORE = "private, no-store"
_SERVER_ERROR = 500
_MAX_FIELD_ERRORS = 20


def serve(routes: Routes, *, dialect: Problem | None = None, clock: Clock = utc_now) -> Callable[[Request], Response]:
    """The function that answers requests by these routes, in this dialect."""
    spoken = dialect or Problem()

    def handle(request: Request) -> Response:
        if request.path == HEALTH_PROBE:
            return Response("ok", content_type="text/plain", headers={"Cache-Control": _NO_STORE})
        return _Exchange(routes, spoken, clock, request).response()

    return handle


class _LoggedChunks:
    """A stream whose request is logged when it ends.

    No generator, because closing a generator that was never begun does not run its `finally`: the client can go away
    before the first chunk, and the stream must learn of that too.
    """

    def __init__(self, chunks: Iterator[bytes], ended: Callable[[], None]) -> None:
        self._chunks, self._ended, self._closed = chunks, ended, False

    def __iter__(self) -> _LoggedChunks:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Called by the server in any case, once the client has everything or has gone."""
        if self._closed:
            return
        self._closed = True
        try:
            if close := getattr(self._chunks, "close", None):
                close()
        finally:
            self._ended()


class _Exchange:
    """One request and its answer."""

    def __init__(self, routes: Routes, dialect: Problem, clock: Clock, request: Request) -> None:
        self._routes, self._dialect, self._clock, self._request = routes, dialect, clock, request
        self._started = time.monotonic()
        self._trace = continue_trace(request.headers.get("traceparent"), request.headers.get("X-Cloud-Trace-Context"))
        set_trace(self._trace)
        self._route: Route | None = None
        self._caller: Caller | None = None

    def response(self) -> Response:
        if self._request.method == "OPTIONS":
            return self._finish(Response(status=204))
        try:
            answer = self._answer()
        except AppError as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001  # the edge: whatever it was, the caller gets a clean error
            log.error("unexpected error", cause=error, route=self._route_name())
            return self._failed(InternalError())
        return self._succeeded(answer)

    def _answer(self) -> Answer:
        route, parameters = self._routes.find(self._request.method, self._request.path)
        self._route = route
        self._caller = self._admit(route)
        call: Call[Any, Any] = Call(
            body=self._body(route),
            query=_validated(route.query, json.dumps(self._request.args.to_dict()).encode(), lax=True),
            path=parameters,
            now=self._clock(),
            wants_stream=self._wants_stream,
            signed_in=self._caller,
        )
        return route.handler(call)

    @property
    def _wants_stream(self) -> bool:
        return "text/event-stream" in self._request.headers.get("Accept", "")

    def _admit(self, route: Route) -> Caller | None:
        if route.who is Who.ANYONE:
            return None
        return authenticate(self._request.headers.get("Authorization"), now=self._clock())

    def _body(self, route: Route) -> BaseModel:
        if route.body is None:
            return Empty()
        limit = route.max_body_bytes
        if (self._request.content_length or 0) > limit:
            raise _too_large(limit)
        raw = self._request.stream.read(limit + 1)
        if len(raw) > limit:
            raise _too_large(limit)
        return _validated(route.body, self._dialect.unwrap(raw))

    def _succeeded(self, answer: Answer) -> Response:
        status = self._route.status if self._route else 200
        if isinstance(answer, Stream):
            chunks = _LoggedChunks(answer.chunks, partial(self._stream_ended, answer))
            response = Response(chunks, status=status, content_type=answer.content_type)
            response.headers.update(answer.headers)
            return self._finish(response, streaming=True)
        if isinstance(answer, Page):
            return self._finish(Response(answer.content, status=status, content_type=answer.content_type))
        if answer is None:
            return self._finish(Response(status=204))
        body = self._dialect.wrap(answer.model_dump_json())
        return self._finish(Response(body, status=status, content_type="application/json"))

    def _failed(self, error: AppError) -> Response:
        said = self._dialect.error_answer(error, self._trace, to_stream=self._wants_stream)
        response = Response(said.body, status=said.status, content_type=said.content_type)
        if error.retry_after_s is not None:
            response.headers["Retry-After"] = str(error.retry_after_s)
        if error.status == 401:  # noqa: PLR2004  # RFC 9110 §11.6.1: a 401 names its scheme
            response.headers["WWW-Authenticate"] = "Bearer"
        if "allow" in error.details:
            response.headers["Allow"] = str(error.details["allow"])
        return self._finish(response, error=error)

    def _finish(self, response: Response, *, error: AppError | None = None, streaming: bool = False) -> Response:
        response.headers.setdefault("Cache-Control", _NO_STORE)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["X-Request-Id"] = self._trace.trace_id
        self._allow_origin(response)
        if not streaming:
            self._log(error.status if error else response.status_code, error)
        return response

    def _stream_ended(self, answer: Stream) -> None:
        set_trace(self._trace)
        self._log(self._route.status if self._route else 200, answer.failure())

    def _log(self, status: int, error: AppError | None) -> None:
        record = log.error if status >= _SERVER_ERROR else log.info
        record(
            "request",
            capability=self._routes.capability,
            method=self._request.method,
            route=self._route_name(),
            status=status,
            code=error.code if error else None,
            why=error.details if error else None,
            ms=round((time.monotonic() - self._started) * 1000, 1),
            uid_hash=log.uid_hash(self._caller.uid) if self._caller else None,
        )

    def _route_name(self) -> str:
        return self._route.path if self._route else "none"

    def _allow_origin(self, response: Response) -> None:
        """CORS, for calls that go to the function's own URL instead of through Hosting."""
        origin = self._request.headers.get("Origin")
        response.headers.add("Vary", "Origin")
        if origin is None or not _may_call(origin):
            return
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS
        if self._request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, PATCH, PUT, DELETE"
            response.headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS
            response.headers["Access-Control-Max-Age"] = "3600"


def _may_call(origin: str) -> bool:
    if origin in settings().allowed_origins:
        return True
    return settings().in_emulator and _host_of(origin) in _LOCAL_HOSTS


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).hostname
    except ValueError:  # not a URL at all, so nobody's origin
        return None


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {limit // 1024} KiB; send less.", max_bytes=limit)


def _validated(model: type[BaseModel], raw: bytes, *, lax: bool = False) -> BaseModel:
    """Raises InvalidRequest with one entry per wrong field."""
    try:
        # Pydantic's own parser takes NaN and Infinity, which JSON does not know.
        from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        problem = FieldError("body", f"is not valid JSON: {error}")
        raise InvalidRequest(f"The body is not valid JSON: {error}.", fields=[problem]) from error
    try:
        return model.model_validate_json(raw, strict=not lax)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)[:_MAX_FIELD_ERRORS]
        problems = [FieldError(_field_path(item["loc"]), item["msg"].removeprefix("Value error, ")) for item in found]
        names = ", ".join(problem.field for problem in problems)
        raise InvalidRequest(f"Check: {names}.", fields=problems) from error


def _field_path(location: tuple[int | str, ...]) -> str:
    """`("parts", 0, "text")` as `parts[0].text`; the body itself as `body`. Tags of unions (`~text`) are no fields."""
    path = ""
    for step in location:
        if isinstance(step, str) and step.startswith("~"):
            continue
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path.lstrip(".") or "body"
