"""The way of a request, the same for every HTTP function:

    trace → route → authenticate → authorise → limit → read → validate → idempotency → handler → answer

Until `idempotency` nothing is written, except that the first request of a new user opens their account.
"""

from __future__ import annotations

import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Request, Response
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from shared import idempotency, log, metrics, presence
from shared.clock import Clock, utc_now
from shared.errors import (
    AppError,
    FieldError,
    InternalError,
    InvalidRequest,
    PayloadTooLarge,
    PermissionDenied,
    Unavailable,
)
from shared.http.dialects import Problem
from shared.http.routes import (
    DEFAULT_MAX_BODY_BYTES,
    Answer,
    Call,
    Empty,
    FileBody,
    Page,
    Reply,
    Route,
    Routes,
    Stream,
    Who,
)
from shared.identity.authentication import Presented, authenticate, check_app
from shared.identity.origins import is_ours
from shared.limits.admission import Admission, admit
from shared.settings import settings
from shared.trace import continue_trace, set_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pydantic_core import ErrorDetails

    from shared.identity.caller import Caller

HEALTH_PROBE = "/__/health"
_ALLOWED_HEADERS = (
    "Authorization, Content-Type, Idempotency-Key, traceparent, Firebase-Instance-ID-Token, X-API-Key, X-CSRF-Token, "
    "X-Firebase-AppCheck"
)
_EXPOSED_HEADERS = "Idempotency-Replayed, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
_NO_STORE = "private, no-store"
_SERVER_ERROR = 500
_OUR_ERROR = 500
_MAX_FIELD_ERRORS = 20
_MAX_USER_AGENT_CHARS = 200
_MAX_ADDRESS_CHARS = 64
_MAX_KEPT_BYTES = 4 * 1024 * 1024
"""Of a stream, for its repetitions. A process carries many streams; a longer one is told again from what it stored."""


def serve(routes: Routes, *, dialect: Problem | None = None, clock: Clock = utc_now) -> Callable[[Request], Response]:
    """The function that answers requests by these routes, in this dialect."""
    spoken = dialect or Problem()

    def handle(request: Request) -> Response:
        if request.path == HEALTH_PROBE:
            return Response("ok", content_type="text/plain", headers={"Cache-Control": _NO_STORE})
        return _Exchange(routes, spoken, clock, request).response()

    return handle


class _WatchedChunks:
    """A stream that says when it has ended, and what it said if somebody wants to repeat it.

    No generator, because closing a generator that was never begun does not run its `finally`: the client can go away
    before the first chunk, and the stream must learn of that too.
    """

    def __init__(self, chunks: Iterator[bytes], ended: Callable[[bytes | None], None], *, keep: bool) -> None:
        self._chunks, self._ended, self._closed = chunks, ended, False
        self._kept: list[bytes] | None = [] if keep else None
        self._kept_bytes = 0

    def __iter__(self) -> _WatchedChunks:
        return self

    def __next__(self) -> bytes:
        try:
            chunk = next(self._chunks)
        except StopIteration:
            raise
        except BaseException:
            self._kept = None  # a stream that broke is no answer to repeat
            raise
        self._keep(chunk)
        return chunk

    def close(self) -> None:
        """Called by the server in any case, once the client has everything or has gone."""
        if self._closed:
            return
        self._closed = True
        said = None
        try:
            if self._kept is not None:
                for chunk in self._chunks:
                    self._keep(chunk)
                said = None if self._kept is None else b"".join(self._kept)
            if close := getattr(self._chunks, "close", None):
                close()
        finally:
            self._ended(said)

    def _keep(self, chunk: bytes) -> None:
        if self._kept is None:
            return
        self._kept.append(chunk)
        self._kept_bytes += len(chunk)
        if self._kept_bytes > _MAX_KEPT_BYTES:
            self._kept = None


class _Exchange:
    """One request and its answer."""

    def __init__(self, routes: Routes, dialect: Problem, clock: Clock, request: Request) -> None:
        self._routes, self._dialect, self._clock, self._request = routes, dialect, clock, request
        self._started = time.monotonic()
        self._trace = continue_trace(request.headers.get("traceparent"), request.headers.get("X-Cloud-Trace-Context"))
        set_trace(self._trace)
        self._route: Route | None = None
        self._caller: Caller | None = None
        self._admission: Admission | None = None
        self._claim: idempotency.Claim | None = None
        self._has_read_all = False

    def response(self) -> Response:
        if self._request.method == "OPTIONS":
            return self._finish(Response(status=204))
        try:
            answer = self._answer()
            return self._repeated(answer) if isinstance(answer, idempotency.Recorded) else self._succeeded(answer)
        except AppError as error:
            return self._failed(error)
        except Exception as error:  # noqa: BLE001  # the edge: whatever it was, the caller gets a clean error
            log.error("unexpected error", cause=error, route=self._route_name())
            return self._failed(InternalError())

    def _answer(self) -> Answer | idempotency.Recorded:
        route, parameters = self._routes.find(self._request.method, self._request.path)
        self._route = route
        self._caller = self._identify(route)
        self._admission = admit(
            limit_class=route.limit, weight=route.weight, caller=self._caller, address=self._address
        )
        raw = self._read(route)
        body = _body(route.body, raw)
        query = _validated(route.query, json.dumps(self._request.args.to_dict()).encode(), lax=True)
        recorded = self._begin(route, body, raw)
        if recorded is not None:
            return recorded
        call: Call[Any, Any] = Call(
            body=body,
            query=query,
            path=parameters,
            now=self._clock(),
            wants_stream=self._wants_stream,
            signed_in=self._caller,
            seed=self._claim.seed if self._claim else None,
            headers={name: value for name in route.headers if (value := self._request.headers.get(name)) is not None},
            address=self._address,
            user_agent=self._request.headers.get("User-Agent", "")[:_MAX_USER_AGENT_CHARS],
            charge_tokens=self._admission.charge_tokens,
        )
        return route.handler(call)

    @property
    def _has_much_unread(self) -> bool:
        """More than any route takes was announced, or no length at all, and it was not read to its end."""
        if self._has_read_all:
            return False
        announced = self._request.content_length
        chunked = "chunked" in self._request.headers.get("Transfer-Encoding", "").lower()
        return chunked or (announced or 0) > DEFAULT_MAX_BODY_BYTES

    @property
    def _wants_stream(self) -> bool:
        return "text/event-stream" in self._request.headers.get("Accept", "")

    @property
    def _address(self) -> str:
        """What the outermost proxy that can be believed says; what stands further left, anybody may have written."""
        forwarded = [entry.strip() for entry in self._request.headers.get("X-Forwarded-For", "").split(",")]
        hops = settings().trusted_proxies
        believed = forwarded[-hops] if 0 < hops <= len(forwarded) else ""
        return (believed or self._request.remote_addr or "")[:_MAX_ADDRESS_CHARS]

    def _identify(self, route: Route) -> Caller | None:
        """Authenticate and authorise. Raises Unauthenticated or PermissionDenied."""
        if isinstance(route.who, Who):
            return None
        headers = self._request.headers
        presented = Presented(
            authorization=_each(headers.getlist("Authorization")),
            api_key=_each(headers.getlist("X-API-Key")),
            session_cookie=self._request.cookies.get("__session"),
            csrf_token=headers.get("X-CSRF-Token"),
            app_check_token=headers.get("X-Firebase-AppCheck"),
            changes_state=route.changes_state,
            origin=headers.get("Origin"),
            sec_fetch_site=headers.get("Sec-Fetch-Site"),
            address=self._address,
        )
        check_app(presented)
        caller = authenticate(presented, now=self._clock(), fresh=route.fresh)
        if not caller.may(route.who):
            raise PermissionDenied(f"This needs the permission {route.who}.", permission=route.who)
        return caller

    def _read(self, route: Route) -> bytes:
        limit = route.max_body_bytes
        if (self._request.content_length or 0) > limit:
            raise _too_large(route)
        if route.body is None:
            return b""
        try:
            raw = self._request.stream.read(limit + 1)
        except Exception as error:
            # Servers raise whatever they like, and mean that chunks are malformed or that the client has gone.
            log.info("a body could not be read", reason=repr(error), route=route.path)
            raise InvalidRequest("The body ended too early or is framed wrongly; send it again.") from error
        if len(raw) > limit:
            raise _too_large(route)
        self._has_read_all = True
        return self._dialect.unwrap(raw)

    def _begin(self, route: Route, body: BaseModel, raw: bytes) -> idempotency.Recorded | None:
        """Claim the request's idempotency key; the first answer when there is one already."""
        key = self._request.headers.get("Idempotency-Key", getattr(body, "idempotency_key", None))
        if key is None or self._caller is None or not route.changes_state:
            return None
        # The path alone does not name the route: every callable answers at the root of its own address.
        asked = f"{self._routes.capability}: {route.method} {self._request.path}"
        operation = f"{asked} as a stream" if self._wants_stream else asked
        begun = idempotency.begin(
            uid=self._caller.uid, key=key, operation=operation, fingerprint=raw, now=self._clock()
        )
        if isinstance(begun, idempotency.Recorded):
            return begun
        self._claim = begun
        return None

    def _repeated(self, recorded: idempotency.Recorded) -> Response:
        response = Response(recorded.body, status=recorded.status, content_type=recorded.content_type)
        response.headers.update(recorded.headers)
        response.headers["Idempotency-Replayed"] = "true"
        return self._finish(response)

    def _succeeded(self, answer: Answer) -> Response:
        status = self._route.status if self._route else 200
        if isinstance(answer, Stream):
            watched = _WatchedChunks(answer.chunks, partial(self._stream_ended, answer), keep=self._claim is not None)
            response = Response(watched, status=status, content_type=answer.content_type)
            response.headers.update(answer.headers)
            return self._with_headers(response)
        headers = dict(answer.headers) if isinstance(answer, Reply) else {}
        shown = answer.answer if isinstance(answer, Reply) else answer
        if isinstance(shown, Page):
            response = Response(shown.content, status=status, content_type=shown.content_type)
        elif shown is None:
            response = Response(status=204)
        else:
            body = self._dialect.wrap(shown.model_dump_json())
            response = Response(body, status=status, content_type="application/json")
        response.headers.update(headers)
        self._end_claim(response.status_code, response.content_type or "", response.get_data(), headers)
        return self._finish(response)

    def _failed(self, error: AppError) -> Response:
        said = self._dialect.error_answer(error, self._trace, to_stream=self._wants_stream)
        response = Response(said.body, status=said.status, content_type=said.content_type)
        if error.retry_after_s is not None:
            response.headers["Retry-After"] = str(error.retry_after_s)
        if error.status == 401:  # noqa: PLR2004  # RFC 9110 §11.6.1: a 401 names its scheme
            response.headers["WWW-Authenticate"] = "Bearer"
        if "allow" in error.details:
            response.headers["Allow"] = str(error.details["allow"])
        response.headers.update(error.headers)
        self._end_claim(said.status, said.content_type, said.body.encode(), {}, error)
        return self._finish(response, error=error)

    def _end_claim(
        self, status: int, content_type: str, body: bytes, headers: Mapping[str, str], error: AppError | None = None
    ) -> None:
        """Keep the answer for repetitions when it is final; let them try again when it is not."""
        if self._claim is None:
            return
        if idempotency.is_final(error.status if error else status):
            self._claim.finish(idempotency.Recorded(status, content_type, headers, body), now=self._clock())
        else:
            self._claim.abandon(error)

    def _finish(self, response: Response, *, error: AppError | None = None) -> Response:
        if self._admission:
            self._admission.release()
        self._log(error.status if error else response.status_code, error)
        if self._has_much_unread:
            # The framework reads the rest of a request into memory before it answers, unless the answer is a stream.
            response.response = iter([response.get_data()])
            response.headers.pop("Content-Length", None)
        return self._with_headers(response, error)

    def _with_headers(self, response: Response, error: AppError | None = None) -> Response:
        told = {
            "Cache-Control": _NO_STORE,
            "X-Content-Type-Options": "nosniff",
            "X-Request-Id": self._trace.trace_id,
            **(self._admission.headers if self._admission else {}),
        }
        said = {name.lower() for name, _ in response.headers}
        # Extended, because setting a header looks through all the others.
        response.headers.extend({name: value for name, value in told.items() if name.lower() not in said})
        response.headers.extend(self._dialect.headers(response.headers, error, self._elapsed_ms()))
        self._allow_origin(response)
        return response

    def _elapsed_ms(self) -> float:
        return round((time.monotonic() - self._started) * 1000, 1)

    def _stream_ended(self, answer: Stream, said: bytes | None) -> None:
        set_trace(self._trace)
        status = self._route.status if self._route else 200
        failure = answer.failure()
        try:
            if self._admission:
                self._admission.charge_tokens(answer.tokens())
            if self._claim and (said is None or isinstance(failure, (Unavailable, InternalError))):
                self._claim.abandon()  # what became of it is not known here: a repetition finds out
            elif said is not None:
                self._end_claim(status, answer.content_type, said, answer.headers)
        finally:
            if self._admission:
                self._admission.release()
            self._log(status, failure)

    def _log(self, status: int, error: AppError | None) -> None:
        presence.note(failed=status == _OUR_ERROR)
        metrics.count("http_requests_total", function=self._routes.capability, status=str(status))
        record = log.error if status >= _SERVER_ERROR else log.info
        record(
            "request",
            capability=self._routes.capability,
            method=self._request.method,
            route=self._route_name(),
            status=status,
            code=error.code if error else None,
            why=error.details if error else None,
            ms=self._elapsed_ms(),
            proof=self._caller.proof if self._caller else None,
            uid_hash=log.uid_hash(self._caller.uid) if self._caller else None,
        )

    def _route_name(self) -> str:
        return self._route.path if self._route else "none"

    def _allow_origin(self, response: Response) -> None:
        """CORS, for calls that go to the function's own URL instead of through Hosting."""
        origin = self._request.headers.get("Origin")
        response.headers.add("Vary", "Origin")
        if origin is None or not is_ours(origin):
            return
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = _EXPOSED_HEADERS + self._dialect.exposed_headers
        if self._request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, PATCH, PUT, DELETE"
            response.headers["Access-Control-Allow-Headers"] = _ALLOWED_HEADERS + self._dialect.allowed_headers
            response.headers["Access-Control-Max-Age"] = "3600"


def _each(values: list[str]) -> tuple[str, ...]:
    """Every value of a header: servers join repeated ones with commas, which no credential has."""
    return tuple(part.strip() for value in values for part in value.split(","))


def _too_large(route: Route) -> PayloadTooLarge:
    limit = route.max_body_bytes
    problem = f"is larger than {limit // 1024} KiB; {route.too_large}"
    return PayloadTooLarge(f"The body {problem}.", fields=[FieldError("body", problem)], max_bytes=limit)


def _body(model: type[BaseModel] | None, raw: bytes) -> BaseModel:
    if model is None:
        return Empty()
    return FileBody(content=raw) if model is FileBody else _validated(model, raw)


def _validated(model: type[BaseModel], raw: bytes, *, lax: bool = False) -> BaseModel:
    """Raises InvalidRequest with one entry per wrong field."""
    try:
        # Pydantic's own parser takes NaN and Infinity, which JSON does not know.
        from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        problem = FieldError("body", f"is not valid JSON: {error}", "json_invalid")
        raise InvalidRequest(f"The body is not valid JSON: {error}.", fields=[problem]) from error
    try:
        return model.model_validate_json(raw, strict=not lax)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[:_MAX_FIELD_ERRORS]
        problems = [
            FieldError(_place_of(item), item["msg"].removeprefix("Value error, "), item["type"]) for item in found
        ]
        names = ", ".join(problem.field for problem in problems)
        raise InvalidRequest(f"Check: {names}.", fields=problems) from error


def _place_of(item: ErrorDetails) -> str:
    """Where the value is that is wrong; rules about several name one of them (`shared.http.schema.wrong`)."""
    named = (item["ctx"]["field"],) if item["type"] == "wrong" else ()
    return _field_path((*item["loc"], *named))


def _field_path(location: tuple[int | str, ...]) -> str:
    """`("parts", 0, "text")` as `parts[0].text`; the body itself as `body`. Tags of unions (`~text`) are no fields."""
    path = ""
    for step in location:
        if isinstance(step, str) and step.startswith("~"):
            continue
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path.lstrip(".") or "body"
