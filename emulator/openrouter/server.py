"""The routes, and what happens around every call: its journal entry, its faults, its key, its errors, its log line."""

from __future__ import annotations

import asyncio
import json
import re
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter import completions, control, embeddings, errors, faults, images, listings
from emulator.openrouter.calls import COMMON_HEADERS, Call, Standin
from emulator.openrouter.faults import NO_FAULTS, UnknownFault
from emulator.openrouter.journal import Entry
from emulator.openrouter.wire import Exchange, Server, listen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

API: Final = "/api/v1"
CONTROL: Final = "/_standin"
PREFLIGHT_HEADERS: Final = {
    "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
    "Access-Control-Allow-Headers": "*",
    "Access-Control-Max-Age": "86400",
    **COMMON_HEADERS,
}


@dataclass(frozen=True, slots=True)
class Route:
    """`pattern` names the parts of the path that the handler takes. Public routes ask for no key."""

    method: str
    pattern: str
    handler: Callable[..., Awaitable[None]]
    public: bool = False

    def matcher(self) -> re.Pattern[str]:
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.pattern))


ROUTES: Final = (
    Route("POST", f"{API}/chat/completions", completions.create),
    Route("POST", f"{API}/embeddings", embeddings.create),
    Route("POST", f"{API}/images", images.create),
    Route("GET", f"{API}/images/models", images.list_models, public=True),
    Route("GET", f"{API}/embeddings/models", listings.embedding_models, public=True),
    Route("GET", f"{API}/models", listings.models, public=True),
    Route("GET", f"{API}/models/user", listings.models),
    Route("GET", f"{API}/models/count", listings.model_count, public=True),
    Route("GET", f"{API}/models/{{author}}/{{slug}}/endpoints", listings.model_endpoints, public=True),
    Route("GET", f"{API}/model/{{author}}/{{slug}}", listings.model, public=True),
    Route("GET", f"{API}/providers", listings.providers, public=True),
    Route("GET", f"{API}/key", listings.key),
    Route("GET", f"{API}/credits", listings.credits_left),
    Route("GET", f"{API}/generation", listings.generation),
    Route("GET", f"{CONTROL}/health", control.health, public=True),
    Route("GET", f"{CONTROL}/", control.show_page, public=True),
    Route("GET", CONTROL, control.show_page, public=True),
    Route("POST", f"{CONTROL}/reset", control.reset, public=True),
    Route("GET", f"{CONTROL}/keys", control.list_keys, public=True),
    Route("POST", f"{CONTROL}/keys", control.set_key, public=True),
    Route("GET", f"{CONTROL}/requests", control.list_requests, public=True),
    Route("GET", f"{CONTROL}/faults", control.list_faults, public=True),
    Route("POST", f"{CONTROL}/faults", control.add_faults, public=True),
    Route("DELETE", f"{CONTROL}/faults", control.clear_faults, public=True),
)
_EXACT: Final = {(route.method, route.pattern): route for route in ROUTES if "{" not in route.pattern}
_MATCHERS: Final = [(route.matcher(), route) for route in ROUTES]


def find_route(method: str, path: str) -> tuple[Route, dict[str, str]]:
    """The route of a request and the named parts of its path. Raises 404 or 405."""
    if route := _EXACT.get((method, path)):
        return route, {}
    matching = [(route, found) for matcher, route in _MATCHERS if (found := matcher.fullmatch(path))]
    for route, found in matching:
        if route.method == method:
            return route, found.groupdict()
    if matching:
        raise errors.method_not_allowed(sorted({route.method for route, _ in matching}))
    raise errors.not_found()


class App:
    """Answers exchanges from the state of one stand-in."""

    def __init__(self, standin: Standin, log: Callable[[str], None]) -> None:
        self.standin = standin
        self._log = log

    async def handle(self, exchange: Exchange) -> None:
        """One request, from the journal entry to the log line. Never raises, except when the client has gone."""
        request, standin = exchange.request, self.standin
        if request.path.startswith(CONTROL):
            entry = Entry(0, standin.now(), request.method, request.path, request.query_string, {})
        else:
            entry = standin.journal.open(request, standin.now())
        call = Call(standin, exchange, entry)
        try:
            await self._answer(call)
            entry.state = "done"
        except asyncio.CancelledError:
            entry.state = "cancelled"
            raise
        except errors.ApiError as error:
            await call.send_error(error)
            entry.state = "done"
        except Exception:  # noqa: BLE001 - the edge: what is unexpected is shown here and masked on the wire
            traceback.print_exc()
            await self._fail(call)
            entry.state = "failed"
        finally:
            entry.status = exchange.status
            entry.duration_ms = (time.perf_counter() - call.started) * 1000
            self._log(entry.line())

    async def _answer(self, call: Call) -> None:
        request = call.exchange.request
        if request.method == "OPTIONS":
            await call.exchange.send(204, PREFLIGHT_HEADERS, b"")
            return
        method = "GET" if request.method == "HEAD" else request.method
        route, parts = find_route(method, request.path)
        unreadable = self._read_body(call) if method in {"POST", "DELETE"} else None
        is_api = not route.pattern.startswith(CONTROL)
        if is_api:
            self._switch_faults(call)
            if await _break(call):
                return
        if not route.public:
            account = self.standin.accounts.authenticate(request.headers.get("authorization"))
            call.known_account, call.entry.key = account, account.label
        if unreadable is not None:
            raise unreadable
        if is_api and method == "GET":
            await asyncio.sleep((call.faults.number("first_token_delay_ms") or 0) / 1000)
            call.raise_asked_error(call.faults, "openrouter", "OpenRouter")
        await route.handler(call, **parts)

    def _read_body(self, call: Call) -> errors.ApiError | None:
        """Parse the body into the call; the error is raised later, after the key was looked at."""
        raw = call.exchange.request.body
        if raw:
            try:
                call.body = json.loads(raw)
            except ValueError:
                return errors.invalid_request("Invalid request parameters: the body is not JSON")
            self.standin.journal.note_body(call.entry, raw, call.body)
        return None

    def _switch_faults(self, call: Call) -> None:
        """Collect the faults of header, queue and model name. Raises 400 for one that does not exist."""
        slug, own = _named_model(call.body)
        call.entry.model = slug
        try:
            asked = call.exchange.request.headers.get("x-standin-faults")
            header = faults.parse(asked) if asked else NO_FAULTS
            queued = (
                self.standin.queue.take(call.exchange.request.path, slug) if self.standin.queue.waiting else NO_FAULTS
            )
            call.common_faults = queued.merged(header)
            if asked or queued or own:
                call.use_faults(call.common_faults.merged(faults.parse(own, "+")))
        except UnknownFault as error:
            raise errors.invalid_request(str(error)) from error

    async def _fail(self, call: Call) -> None:
        if call.exchange.answered:
            await call.exchange.reset()
        else:
            await call.send_error(errors.ApiError(500, "Internal Server Error"))


def _named_model(body: Any) -> tuple[str | None, str]:
    """The model that is asked for first, and the faults written behind its name."""
    if not isinstance(body, dict):
        return None, ""
    fallbacks = body.get("models")
    name = body.get("model") or (fallbacks[0] if isinstance(fallbacks, list) and fallbacks else None)
    if not isinstance(name, str):
        return None, ""
    slug, _, own = name.partition("#")
    return slug, own


async def _break(call: Call) -> bool:
    """The faults that come before any answer; True when there will be none."""
    if call.faults.flag("timeout"):
        await asyncio.Event().wait()
    if call.faults.flag("reset"):
        await call.exchange.reset()
        return True
    return False


async def start(standin: Standin, host: str, port: int, log: Callable[[str], None]) -> Server:
    """Listen; port 0 takes any free one. Raises OSError when the port is taken."""
    return await listen(App(standin, log).handle, host, port)
