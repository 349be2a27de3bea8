"""Rules of the activity log: what an entry says and how entries are chained. Pure."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

GENESIS = "0" * 64
"""What the first entry of a user is chained to."""


@dataclass(frozen=True)
class Entry:
    """One thing that happened. `n` counts from 1 per user without gaps."""

    n: int
    event_id: str
    action: str
    """`noun.verb`, e.g. `chat.message.completed`."""
    subject: str
    details: dict[str, Any]
    occurred_at: datetime
    trace_id: str
    previous_hash: str


@dataclass(frozen=True)
class Head:
    """The end of a user's chain."""

    n: int
    hash: str


EMPTY = Head(n=0, hash=GENESIS)


def entry_hash(entry: Entry) -> str:
    """SHA-256 over the entry's canonical JSON, the hash before it included."""
    canonical = json.dumps(asdict(entry), sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain)
    return hashlib.sha256(canonical.encode()).hexdigest()


def first_break(entries: Iterable[tuple[Entry, str]]) -> int | None:
    """The number of the first entry, with its stored hash, that was changed, removed or moved; None when all hold.

    `entries` is a whole chain from its beginning.
    """
    head = EMPTY
    for entry, stored_hash in entries:
        if entry.n != head.n + 1 or entry.previous_hash != head.hash or entry_hash(entry) != stored_hash:
            return head.n + 1
        head = Head(n=entry.n, hash=stored_hash)
    return None


def _plain(value: object) -> str:
    assert isinstance(value, datetime), f"{type(value)} has no canonical form"
    return value.isoformat(timespec="microseconds")
