"""Routes: each declares in one place its method, path, who may call it, its limit, its body, query and answer.

The pipeline enforces the declaration and the OpenAPI document is made from it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from itertools import cycle
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict

from shared.errors import AppError, MethodNotAllowed, NotFound
from shared.identity.permissions import Permission
from shared.ids import derived_id, is_safe_id, new_id
from shared.limits.policies import LimitClass

if TYPE_CHECKING:
    from datetime import datetime

    from shared.identity.caller import Caller

BodyT = TypeVar("BodyT", bound=BaseModel)
QueryT = TypeVar("QueryT", bound=BaseModel)

DEFAULT_MAX_BODY_BYTES = 1024 * 1024
_PARAMETER = re.compile(r"\{([a-z_]+)\}")


class Who(Enum):
    """Who may call a route that needs no permission."""

    ANYONE = "anyone"


class Empty(BaseModel):
    """No body or no query."""


def _say_any_json(schema: dict[str, Any]) -> None:
    """What a client sends is the file, not the model around it."""
    schema.clear()
    schema.update(title="FileBody", description="A JSON file.", anyOf=[{"type": "object"}, {"type": "array"}])


class FileBody(BaseModel):
    """A body that is a file of foreign make: the handler reads it itself, and the pipeline only bounds its size."""

    model_config = ConfigDict(json_schema_extra=_say_any_json)

    content: bytes


@dataclass(frozen=True)
class Call(Generic[BodyT, QueryT]):
    """What a handler gets: everything about the request that passed the pipeline, and nothing of HTTP."""

    body: BodyT
    query: QueryT
    path: Mapping[str, str]
    now: datetime
    wants_stream: bool
    """The client asked for `text/event-stream`."""
    signed_in: Caller | None = None
    seed: str | None = None
    """The same for every repetition of a request with an `Idempotency-Key`; None when there is no key."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those that the route declares, as far as the request has them."""
    address: str = ""
    """Where the request came from, as far as the proxies in front can be believed."""
    user_agent: str = ""
    charge_tokens: Callable[[int], None] = lambda _: None
    """Tell the rate limits how many tokens the request took, once that is known."""

    def new_id(self, prefix: str) -> str:
        """The id of what this request makes: a repetition of the request gives the same one, so it makes it once."""
        return derived_id(prefix, self.seed) if self.seed else new_id(prefix)

    @property
    def caller(self) -> Caller:
        """The signed-in user; only routes for signed-in users may ask."""
        if self.signed_in is None:
            raise RuntimeError("This route is open to anyone and has no caller.")
        return self.signed_in


@dataclass(frozen=True)
class Stream:
    """An answer that is sent piece by piece. `chunks` is closed when the client goes away."""

    chunks: Iterator[bytes]
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "text/event-stream; charset=utf-8"
    failure: Callable[[], AppError | None] = lambda: None
    """What the stream failed with after its HTTP status was sent: for the request's log line."""
    tokens: Callable[[], int] = lambda: 0
    """What it took of the limit on tokens, known when it has ended."""


@dataclass(frozen=True)
class Page:
    """A ready-made document, such as HTML or the API description."""

    content: str
    content_type: str


@dataclass(frozen=True)
class Reply:
    """A JSON answer that needs headers of its own, such as a cookie; without an answer it is a 204."""

    answer: BaseModel | None
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = BaseModel | Reply | Stream | Page | None
Handler = Callable[[Call[Any, Any]], Answer]


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    who: Permission | Who
    handler: Handler
    summary: str
    body: type[BaseModel] | None
    query: type[BaseModel]
    answer: type[BaseModel] | None
    status: int
    max_body_bytes: int
    too_large: str
    """What to do about a body that is larger."""
    streams: str | None
    """What a streamed answer looks like, for the API document; None when the route never streams."""
    pattern: re.Pattern[str]
    limit: LimitClass
    """Which of the rate limits counts it."""
    weight: int
    """How many requests it counts for."""
    headers: tuple[str, ...]
    """Request headers that the handler reads; no others reach it."""
    fresh: bool
    """Whether a revoked sign-in is noticed at once: one look-up at Firebase Auth more."""

    @property
    def changes_state(self) -> bool:
        return self.method != "GET"

    @property
    def parameters(self) -> list[str]:
        return _PARAMETER.findall(self.path)


class Routes:
    """The routes of one function, in the order they were declared; the first that fits is taken."""

    def __init__(self, capability: str) -> None:
        self.capability = capability
        self._routes: list[Route] = []

    def __iter__(self) -> Iterator[Route]:
        return iter(self._routes)

    def include(self, others: Routes) -> None:
        """Take in the routes of a part of this capability. They come before what is declared later."""
        self._routes += others

    def get(self, path: str, **declaration: Any) -> Callable[[Handler], Handler]:
        return self._add("GET", path, **declaration)

    def post(self, path: str, **declaration: Any) -> Callable[[Handler], Handler]:
        return self._add("POST", path, **declaration)

    def patch(self, path: str, **declaration: Any) -> Callable[[Handler], Handler]:
        return self._add("PATCH", path, **declaration)

    def put(self, path: str, **declaration: Any) -> Callable[[Handler], Handler]:
        return self._add("PUT", path, **declaration)

    def delete(self, path: str, **declaration: Any) -> Callable[[Handler], Handler]:
        return self._add("DELETE", path, **declaration)

    def _add(
        self,
        method: str,
        path: str,
        *,
        who: Permission | Who,
        body: type[BaseModel] | None = None,
        query: type[BaseModel] = Empty,
        answer: type[BaseModel] | None = None,
        status: int = 200,
        max_body_bytes: int = DEFAULT_MAX_BODY_BYTES,
        too_large: str = "send less",
        streams: str | None = None,
        limit: LimitClass | None = None,
        weight: int = 1,
        headers: tuple[str, ...] = (),
        fresh: bool = False,
    ) -> Callable[[Handler], Handler]:
        def declare(handler: Handler) -> Handler:
            summary = (handler.__doc__ or "").strip()
            if not summary:
                raise ValueError(f"{method} {path} needs a docstring: it is the API document's summary.")
            self._routes.append(
                Route(
                    method=method,
                    path=path,
                    who=who,
                    handler=handler,
                    summary=summary,
                    body=body,
                    query=query,
                    answer=answer,
                    status=status,
                    max_body_bytes=max_body_bytes,
                    too_large=too_large,
                    streams=streams,
                    pattern=_pattern(path),
                    limit=limit or (LimitClass.READ if method == "GET" else LimitClass.WRITE),
                    weight=weight,
                    headers=headers,
                    fresh=fresh,
                )
            )
            return handler

        return declare

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]]:
        """The route and its path parameters. HEAD is answered like GET; the server leaves the body out.

        Raises NotFound, or MethodNotAllowed naming what is allowed.
        """
        method = "GET" if method == "HEAD" else method
        allowed = []
        for route in self._routes:
            match = route.pattern.fullmatch(path)
            if match is None or not all(is_safe_id(value) for value in match.groupdict().values()):
                continue
            if route.method == method:
                return route, match.groupdict()
            allowed.append(route.method)
        if allowed:
            raise MethodNotAllowed(f"Use {' or '.join(sorted(allowed))} here.", allow=", ".join(sorted(allowed)))
        raise NotFound(f"There is no {method} {path[:200]}.")


def _pattern(path: str) -> re.Pattern[str]:
    """`/users/{uid}.json` as an expression: names between literal text, in which a dot is a dot."""
    pieces = [
        f"(?P<{piece}>[^/]+)" if is_name else re.escape(piece)
        for piece, is_name in zip(_PARAMETER.split(path), cycle([False, True]), strict=False)
    ]
    return re.compile("".join(pieces))
