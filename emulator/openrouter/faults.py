"""The faults a request can ask for: the one table, how they are written, and the queue of those set beforehand."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

STATUSES: Final = ("400", "401", "402", "403", "404", "408", "413", "422", "429", "500", "502", "503", "524", "529")
MAX_NUMBER: Final = 10_000_000

Value = int | str | bool


class UnknownFault(ValueError):
    """A fault that is not in the table, or a value it does not take: said aloud, so no test passes by accident."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table. `default` is what the bare name means; None makes a value obligatory."""

    name: str
    kind: Literal["flag", "number", "choice"]
    summary: str
    default: Value | None = None
    choices: tuple[str, ...] = ()

    def written(self) -> str:
        """How a person writes it, for the page and the README."""
        if self.kind == "flag":
            return self.name
        value = "|".join(self.choices) if self.kind == "choice" else "N"
        return f"{self.name}={value}" if self.default is None else f"{self.name}[={value}]"

    def read(self, value: Value | None) -> Value:
        """The checked value. Raises UnknownFault."""
        if value is None or value is True:
            if self.kind == "flag":
                return True
            if self.default is None:
                raise UnknownFault(f"Stand-in fault {self.name!r} needs a value: {self.written()}")
            return self.default
        if self.kind == "number":
            return self._read_number(str(value))
        if self.kind == "choice" and str(value) in self.choices:
            return str(value)
        if self.kind == "flag" and str(value) in {"1", "true", "on"}:
            return True
        raise UnknownFault(f"Stand-in fault {self.name!r} does not take {str(value)!r}: {self.written()}")

    def _read_number(self, text: str) -> int:
        if not (text.isascii() and text.isdigit() and int(text) <= MAX_NUMBER):
            raise UnknownFault(f"Stand-in fault {self.name!r} takes a number up to {MAX_NUMBER}, not {text!r}")
        return int(text)


def _flag(name: str, summary: str) -> Fault:
    return Fault(name, "flag", summary, default=True)


def _number(name: str, summary: str, default: int | None = None) -> Fault:
    return Fault(name, "number", summary, default)


def _choice(name: str, summary: str, choices: tuple[str, ...], default: str | None = None) -> Fault:
    return Fault(name, "choice", summary, default, choices)


TABLE: Final[tuple[Fault, ...]] = (
    _number("keepalive", "N comments `: OPENROUTER PROCESSING` before the first token (2 when not asked for)", 30),
    _number("keepalive_between", "N such comments between any two content chunks", 1),
    _number("first_token_delay_ms", "wait before the first token, or before the answer when not streaming"),
    _number("chunk_delay_ms", "wait before every further token; not streaming, the waits add up"),
    _number("split", "re-chunk the body at every N bytes, through UTF-8 characters and `data:` alike", 1),
    _choice(
        "usage_shape",
        "the final usage chunk: i (Nov 2025: a choice without finish, with logprobs), ii (`choices: []`), "
        "iii (repeats finish_reason; what you get when you ask for nothing)",
        ("i", "ii", "iii"),
    ),
    _flag("no_usage", "the usage is never said, though it is billed: only /generation knows it"),
    _number("stream_error_a", "after N content chunks a chunk with `error` and finish_reason `error`, no [DONE]", 2),
    _number(
        "stream_error_b",
        "finish `length` with the Nth content chunk and again after it, `error` beside `usage`, then [DONE]",
        2,
    ),
    _number("stream_error_c", "after N content chunks `choices: []` with a top-level `error`, then [DONE]", 2),
    _number("stream_error_d", "after N content chunks the stream just ends: no finish, no usage, no [DONE]", 2),
    _choice(
        "stream_error_code",
        "the code in errors A and C (A says `server_error`, C says 502 when not asked for)",
        ("server_error", "408", "429", "500", "502", "503", "524", "529"),
    ),
    _choice(
        "error_200",
        "HTTP 200 with an error inside: `body` is an envelope, `choice` is choices[0].error with partial content",
        ("body", "choice"),
        "body",
    ),
    _choice("status", "that HTTP status with its real body (429 is the provider's variant)", STATUSES),
    _choice(
        "rate_limit",
        "429 as the `provider` gives it, or as the `platform` does, with X-RateLimit headers and Retry-After",
        ("provider", "platform"),
        "platform",
    ),
    _number("retry_after", "the Retry-After in seconds of 503 and of the platform's 429 (2 when not asked for)"),
    _flag("context_overflow", "400 context_length_exceeded, however short the prompt is"),
    _flag("timeout", "never answer; the connection stays open until the client gives up"),
    _number("slow_headers_ms", "drip the status line and headers over N ms", 1000),
    _flag("reset", "connection reset (RST) before any answer"),
    _number("reset_after", "connection reset (RST) after N content chunks", 2),
    _number("stall_after", "after N content chunks nothing more comes, the connection stays open", 2),
    _choice(
        "truncated_json",
        "half of the JSON (streaming: of a chunk): `body` ends it properly, `connection` breaks the promised length",
        ("body", "connection"),
        "body",
    ),
    _flag("permaslug", "the reply names the dated canonical slug instead of the model asked for"),
    _choice(
        "tool_arguments",
        "tool calls with `arguments` missing, streamed a few characters at a time, or cut so that they do not parse",
        ("missing", "fragmented", "invalid"),
        "fragmented",
    ),
    _flag("reasoning", "reasoning blocks, although nobody asked for them"),
    _flag("images", "an image in message and delta, although the model has none"),
    _flag("byok", "is_byok: cost 0, the real price in cost_details.upstream_inference_cost"),
    _number("cached_tokens", "that many prompt tokens (at most all) came from the cache, at its price", 64),
    _flag("zero_completion", "no completion token, finish_reason null, nothing charged"),
    _flag("float_noise", "costs with the float noise of the real wire (0.0076509169000000005)"),
    _choice(
        "cancel_billing",
        "a client that goes away pays the tokens produced so far (`on`, the default) or all of them (`off`)",
        ("on", "off"),
    ),
    _number("generation_404_ms", "how long /generation answers 404 after the end (500 when not asked for)"),
)
BY_NAME: Final = {fault.name: fault for fault in TABLE}


@dataclass(frozen=True, slots=True)
class FaultSet:
    """The faults of one request, checked against the table."""

    values: Mapping[str, Value] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.values)

    def flag(self, name: str) -> bool:
        return name in self.values

    def number(self, name: str) -> int | None:
        value = self.values.get(name)
        return value if isinstance(value, int) else None

    def choice(self, name: str) -> str | None:
        value = self.values.get(name)
        return value if isinstance(value, str) else None

    def merged(self, other: FaultSet) -> FaultSet:
        """Both; where both speak, `other` wins."""
        return FaultSet({**self.values, **other.values}) if other.values else self

    def __str__(self) -> str:
        return ",".join(name if value is True else f"{name}={value}" for name, value in self.values.items())


NO_FAULTS: Final = FaultSet()


def parse(text: str, separator: str = ",") -> FaultSet:
    """`name[=value]` joined by the separator. Raises UnknownFault."""
    pairs = [item.strip().partition("=") for item in text.split(separator) if item.strip()]
    return from_mapping({name.strip(): value.strip() if equals else None for name, equals, value in pairs})


def from_mapping(values: Mapping[str, Any]) -> FaultSet:
    """From names and values, as the control surface takes them. Raises UnknownFault."""
    return FaultSet({name: _known(name).read(value) for name, value in values.items() if value is not False})


def _known(name: str) -> Fault:
    if name not in BY_NAME:
        raise UnknownFault(f"Unknown stand-in fault {name!r}. Known: {', '.join(BY_NAME)}")
    return BY_NAME[name]


def split_model(model: str) -> tuple[str, FaultSet]:
    """`openai/gpt-4o-mini#status=429+retry_after=7` to the model and its faults. Raises UnknownFault."""
    slug, _, suffix = model.partition("#")
    return slug, parse(suffix, "+") if suffix else NO_FAULTS


@dataclass(slots=True)
class QueuedFaults:
    """Faults waiting for the next `times` requests that match."""

    times: int
    faults: FaultSet
    model: str | None = None
    path: str | None = None

    def matches(self, path: str, model: str | None) -> bool:
        return (self.path is None or path.endswith(self.path)) and (self.model is None or model == self.model)


@dataclass(slots=True)
class FaultQueue:
    """First in, first used: each request takes the oldest entry that matches it, and no other."""

    waiting: list[QueuedFaults] = field(default_factory=list)

    def add(self, queued: QueuedFaults) -> None:
        self.waiting.append(queued)

    def take(self, path: str, model: str | None) -> FaultSet:
        for queued in self.waiting:
            if queued.matches(path, model):
                queued.times -= 1
                if queued.times <= 0:
                    self.waiting.remove(queued)
                return queued.faults
        return NO_FAULTS


def as_markdown() -> str:
    """The table as the README shows it."""
    rows = [f"| `{fault.written().replace('|', chr(92) + '|')}` | {fault.summary} |" for fault in TABLE]
    return "\n".join(["| fault | what happens |", "|---|---|", *rows])
