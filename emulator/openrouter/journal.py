"""What was asked of the stand-in: the last requests, for tests, for the page, and one log line each."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter.money import usd_number, usd_text

if TYPE_CHECKING:
    from emulator.openrouter.wire import Request

KEPT: Final = 1000
# Larger bodies (images, long documents) are counted, not kept.
MAX_KEPT_BODY_BYTES: Final = 256 * 1024
MAX_LOGGED_PATH: Final = 200
SHOWN_HEADERS: Final[tuple[str, ...]] = (
    "accept",
    "content-type",
    "http-referer",
    "idempotency-key",
    "traceparent",
    "user-agent",
    "x-openrouter-metadata",
    "x-openrouter-title",
    "x-request-id",
    "x-session-id",
    "x-standin-faults",
    "x-title",
)


@dataclass(slots=True)
class Entry:
    """One request, noted on arrival (`running`) and completed at its end (`done`, or `cancelled` by the client)."""

    number: int
    at: float
    method: str
    path: str
    query: str
    headers: dict[str, str]
    key: str | None = None
    model: str | None = None
    body: Any = None
    state: str = "running"
    status: int = 0
    faults: str = ""
    cost: int | None = None
    generation_id: str | None = None
    duration_ms: float = 0.0

    def describe(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(),
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": self.headers,
            "key": self.key,
            "model": self.model,
            "body": self.body,
            "state": self.state,
            "status": self.status,
            "fault": self.faults,
            "cost": None if self.cost is None else usd_number(self.cost),
            "generation_id": self.generation_id,
            "duration_ms": round(self.duration_ms, 1),
        }

    def line(self) -> str:
        """One line, whatever the path contains."""
        cost = "-" if self.cost is None else usd_text(self.cost)
        state = "" if self.state == "done" else f" {self.state}"
        path = "".join(letter if letter.isprintable() else "?" for letter in self.path[:MAX_LOGGED_PATH])
        how = f"fault={self.faults or '-'} cost={cost}{state}"
        return f"{self.method} {path} {self.status or '-'} {self.duration_ms:.0f}ms {how}"


@dataclass(slots=True)
class Journal:
    """The newest entries, oldest first."""

    entries: deque[Entry] = field(default_factory=lambda: deque(maxlen=KEPT))
    total: int = 0

    def open(self, request: Request, at: float) -> Entry:
        self.total += 1
        headers = {name: request.headers[name] for name in SHOWN_HEADERS if name in request.headers}
        entry = Entry(self.total, at, request.method, request.path, request.query_string, headers)
        self.entries.append(entry)
        return entry

    def note_body(self, entry: Entry, raw: bytes, parsed: Any) -> None:
        entry.body = parsed if len(raw) <= MAX_KEPT_BODY_BYTES else {"omitted_bytes": len(raw)}

    def newest(self, count: int) -> list[Entry]:
        return list(self.entries)[-count:] if count > 0 else []
