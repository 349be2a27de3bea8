"""Rules of the activity log: what an entry says, how entries are chained, and what of them can be erased. Pure.

What an entry says about a person (subject and details) is not in its hash itself; a salted hash of it is. Taking away
the content and its salt leaves a chain that still holds, and nothing from which the content could be guessed.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any

GENESIS = "0" * 64
"""What the first entry of a user is chained to."""

ACCOUNT_ERASED = "account.erased"
"""The action of the entry that explains why the entries before it have no content."""

_PERSONAL = ("subject", "details", "salt")


@dataclass(frozen=True)
class Entry:
    """One thing that happened. `n` counts from 1 per user without gaps."""

    n: int
    event_id: str
    action: str
    """`noun.verb`, e.g. `chat.message.completed`."""
    occurred_at: datetime
    trace_id: str
    previous_hash: str
    personal_hash: str
    """Commits to what follows: see `personal_hash`."""
    subject: str | None
    details: dict[str, Any] | None
    salt: str | None
    """Random, in hexadecimal. None together with subject and details once they are erased."""

    @property
    def is_erased(self) -> bool:
        return self.subject is None and self.details is None and self.salt is None


@dataclass(frozen=True)
class Head:
    """The end of a user's chain."""

    n: int
    hash: str


EMPTY = Head(n=0, hash=GENESIS)


def next_entry(
    head: Head,
    *,
    event_id: str,
    action: str,
    subject: str,
    details: dict[str, Any],
    salt: str,
    occurred_at: datetime,
    trace_id: str,
) -> Entry:
    """The entry that continues the chain from its end."""
    return Entry(
        n=head.n + 1,
        event_id=event_id,
        action=action,
        occurred_at=occurred_at,
        trace_id=trace_id,
        previous_hash=head.hash,
        personal_hash=personal_hash(subject, details, salt),
        subject=subject,
        details=details,
        salt=salt,
    )


def erased(entry: Entry) -> Entry:
    """The entry without what it says about a person; its hash stays what it was."""
    return replace(entry, subject=None, details=None, salt=None)


def personal_hash(subject: str, details: dict[str, Any], salt: str) -> str:
    """SHA-256 over the salt's bytes and the canonical JSON of subject and details."""
    return hashlib.sha256(bytes.fromhex(salt) + _canonical({"subject": subject, "details": details})).hexdigest()


def entry_hash(entry: Entry) -> str:
    """SHA-256 over the entry's canonical JSON: the hash before it included, the personal fields only by their hash."""
    return hashlib.sha256(
        _canonical({name: value for name, value in asdict(entry).items() if name not in _PERSONAL})
    ).hexdigest()


def first_break(entries: Iterable[tuple[Entry, str]]) -> int | None:
    """The number of the first entry, with its stored hash, that was changed, removed or moved; None when all hold.

    `entries` is a whole chain from its beginning. An entry without content holds only in front of one that says the
    account was erased: otherwise somebody else has taken the content away.
    """
    head = EMPTY
    broken: int | None = None
    unexplained: int | None = None
    for entry, stored_hash in entries:
        if entry.action == ACCOUNT_ERASED and not entry.is_erased:
            unexplained = None
        if broken is not None:
            continue
        if not _continues(head, entry, stored_hash):
            broken = head.n + 1
        elif entry.is_erased:
            unexplained = unexplained or entry.n
        head = Head(n=entry.n, hash=stored_hash)
    return min((n for n in (broken, unexplained) if n is not None), default=None)


def _continues(head: Head, entry: Entry, stored_hash: str) -> bool:
    in_place = entry.n == head.n + 1 and entry.previous_hash == head.hash
    return in_place and entry_hash(entry) == stored_hash and _content_holds(entry)


def _content_holds(entry: Entry) -> bool:
    if entry.is_erased:
        return True
    if entry.subject is None or entry.details is None or entry.salt is None:
        return False
    try:
        return personal_hash(entry.subject, entry.details, entry.salt) == entry.personal_hash
    except ValueError:
        return False  # the salt is no longer hexadecimal


def _canonical(value: dict[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, default=_plain).encode()


def _plain(value: object) -> str:
    assert isinstance(value, datetime), f"{type(value)} has no canonical form"
    return value.isoformat(timespec="microseconds")
