"""The state of the stand-in, and one call of the API: who asks, what goes wrong, what it costs, how it is answered."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter import errors
from emulator.openrouter.accounts import Accounts
from emulator.openrouter.faults import NO_FAULTS, FaultQueue, FaultSet
from emulator.openrouter.generations import Generation, Generations, new_id
from emulator.openrouter.journal import Journal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from emulator.openrouter.accounts import Account
    from emulator.openrouter.catalogue import Model
    from emulator.openrouter.journal import Entry
    from emulator.openrouter.pricing import Bill
    from emulator.openrouter.wire import Exchange

GENERATION_404_MS: Final = 500
RETRY_AFTER_S: Final = 2
COMMON_HEADERS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "X-Generation-Id,X-Provider-Name,cf-ray",
    "Vary": "Accept-Encoding",
    "Referrer-Policy": "no-referrer, strict-origin-when-cross-origin",
}
JSON_HEADERS: Final = {"Content-Type": "application/json", **COMMON_HEADERS}
STREAM_HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache", **COMMON_HEADERS}

to_json_text: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_json(value: Any) -> bytes:
    return to_json_text(value).encode("utf-8", "replace")


@dataclass
class Standin:
    """Everything that is remembered between requests. The clock gives seconds since the epoch."""

    now: Callable[[], float] = time.time
    generation_404_ms: int = GENERATION_404_MS
    accounts: Accounts = field(init=False)
    generations: Generations = field(init=False)
    journal: Journal = field(init=False)
    queue: FaultQueue = field(init=False)

    def __post_init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget keys, usage, generations, requests and queued faults."""
        self.accounts = Accounts(self.now)
        self.generations = Generations(self.now)
        self.journal = Journal()
        self.queue = FaultQueue()


@dataclass
class Call:
    """One request on its way. `common_faults` hold for every model tried, `faults` for the one that answers."""

    standin: Standin
    exchange: Exchange
    entry: Entry
    body: Any = None
    common_faults: FaultSet = NO_FAULTS
    faults: FaultSet = NO_FAULTS
    known_account: Account | None = None
    started: float = field(default_factory=time.perf_counter)

    @property
    def account(self) -> Account:
        assert self.known_account is not None, "the route did not ask for a key"
        return self.known_account

    @property
    def elapsed_ms(self) -> float:
        return (time.perf_counter() - self.started) * 1000

    def use_faults(self, faults: FaultSet) -> None:
        """From now on these hold, on the wire too."""
        self.faults = faults
        self.entry.faults = str(faults)
        self.exchange.split = faults.number("split") or 0
        self.exchange.slow_headers_ms = faults.number("slow_headers_ms") or 0

    def raise_asked_error(self, faults: FaultSet, model: str, provider: str) -> None:
        """Raise the error that the faults name, if they name one."""
        retry_after_s = faults.number("retry_after")
        seconds = RETRY_AFTER_S if retry_after_s is None else retry_after_s
        match faults.choice("rate_limit"):
            case "provider":
                raise errors.provider_rate_limit(model, provider)
            case "platform":
                reset_at_ms = int((self.standin.now() + seconds) * 1000)
                raise errors.platform_rate_limit(reset_at_ms, seconds)
        if status := faults.choice("status"):
            raise errors.of_status(int(status), model=model, provider=provider, retry_after_s=seconds)

    def new_generation(self, model: Model, shown_model: str, provider: str, api_type: str) -> Generation:
        """A generation that has begun; it must be settled."""
        created = self.standin.now()
        wait_ms = self.faults.number("generation_404_ms")
        generation = Generation(
            id=new_id(created),
            account=self.account,
            created=created,
            model=shown_model,
            provider=provider,
            api_type=api_type,
            streamed=False,
            headers=self.exchange.request.headers,
            router=None if model.routes_to is None else model.id,
            visible_after_ms=self.standin.generation_404_ms if wait_ms is None else wait_ms,
        )
        self.entry.generation_id = generation.id
        self.standin.generations.keep(generation)
        return generation

    def settle(self, generation: Generation, bill: Bill, *, cancelled: bool = False) -> None:
        """Charge the key and close the record. Exactly once per generation."""
        assert not generation.settled, "a generation is settled once"
        generation.settled = True
        generation.tokens = bill.tokens
        generation.cost, generation.upstream_cost, generation.is_byok = bill.charged, bill.upstream, bill.byok
        generation.cancelled = cancelled
        generation.duration_ms = self.elapsed_ms
        generation.visible_at = self.standin.now() + generation.visible_after_ms / 1000
        self.entry.cost = bill.charged
        self.standin.accounts.charge(generation.account, bill.charged, bill.upstream if bill.byok else 0)

    async def send_json(self, body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """A JSON answer, truncated if the faults say so and it is a success."""
        payload = to_json(body)
        promised = None
        if status == 200 and (cut := self.faults.choice("truncated_json")):  # noqa: PLR2004 - the status itself
            promised = len(payload) if cut == "connection" else None
            payload = payload[: len(payload) // 2]
        await self.exchange.send(status, {**JSON_HEADERS, **(headers or {})}, payload, promised=promised)

    async def send_error(self, error: errors.ApiError) -> None:
        await self.send_json(error.body(), error.status, error.headers)
