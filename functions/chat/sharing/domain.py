"""Rules of shared conversations: what others see of a message, and how a snapshot is cut into pieces. Pure."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from shared.errors import InvalidRequest
from shared.identity.secret_text import CheckedForm

TOKEN = CheckedForm(prefix="cp_share_", secret_chars=32)
"""Of the link: 190 bits of chance, and a checksum that tells a mistyped one without a look at anything."""
MAX_MESSAGES = 2_000
MAX_BYTES = 20 * 1024 * 1024
MAX_REVISIONS = 20
"""The oldest is forgotten when there would be more."""
PIECE_BYTES = 500 * 1024
"""What is read for one page."""
_MAX_MESSAGE_BYTES = 900 * 1024
"""A document of Firestore holds 1 MiB."""
_SHOWN_ROLES = ("user", "assistant")
_CURSOR = re.compile(r"([1-9][0-9]{0,5})-([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class Piece:
    """Messages that are stored together: which is the first, and all of them as JSON."""

    start: int
    content: str


@dataclass(frozen=True)
class Revision:
    """A branch as it was at one moment."""

    revision: int
    snapshot: str
    """What its pieces are stored under; the same when the same request comes again."""
    title: str
    created_at: datetime
    message_count: int
    starts: tuple[int, ...]
    """The place of the first message of each piece."""

    def piece_of(self, place: int) -> int:
        """The number of the piece that holds the message at this place."""
        return max(number for number, start in enumerate(self.starts) if start <= place)


@dataclass(frozen=True)
class Share:
    """A conversation that is shared: everything about it but the token. `version` is what a change depends on."""

    uid: str
    conversation_id: str
    revisions: tuple[Revision, ...]
    """The oldest first, never empty."""
    created_at: datetime
    updated_at: datetime
    version: Any = None

    @property
    def latest(self) -> Revision:
        return self.revisions[-1]

    def find_revision(self, number: int) -> Revision | None:
        return next((each for each in self.revisions if each.revision == number), None)

    def has_snapshot(self, snapshot: str) -> bool:
        return any(each.snapshot == snapshot for each in self.revisions)


@dataclass(frozen=True)
class Cursor:
    """Where a page begins. It names its revision, so that the pages of one reader go together."""

    revision: int
    place: int

    @classmethod
    def read(cls, text: str) -> Self:
        """Raises InvalidRequest naming `cursor`."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise unknown_cursor()
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.revision}-{self.place}"


def unknown_cursor() -> InvalidRequest:
    return InvalidRequest.of("cursor", "use the next_cursor of the page before, unchanged")


def shown(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """What others see of a stored message; None when that is nothing.

    Named one by one, so that what is added to messages one day is not shown by itself: no ids, costs, reasoning or
    tools.
    """
    if message["role"] not in _SHOWN_ROLES:
        return None
    parts = [part for part in map(_shown_part, message["parts"]) if part is not None]
    if not parts:
        return None
    return {
        "role": message["role"],
        "parts": parts,
        "model": message.get("model"),
        "created_at": message["created_at"].isoformat(),
    }


def _shown_part(part: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = part["type"]
    if kind == "text":
        return {"type": "text", "text": part["text"]} if part["text"] else None
    if kind in ("image", "file"):
        return {"type": kind, "name": part["name"], "content_type": part["content_type"]}
    if kind == "citation" and is_web_link(part["url"]):
        return {name: part.get(name) for name in ("type", "url", "title", "start", "end")}
    return None


def is_web_link(url: str) -> bool:
    """Whether following it can do no more than open a page."""
    return url.lower().startswith(("https://", "http://"))


def pieces_of(messages: Iterable[Mapping[str, Any]]) -> Iterator[Piece]:
    """A branch, cut where a piece is full. Raises InvalidRequest when it is larger than what can be shared."""
    packed: list[str] = []
    start = size = total = 0
    for message in messages:
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
        length = len(text.encode()) + 1
        total += length
        if start + len(packed) >= MAX_MESSAGES or total > MAX_BYTES or length > _MAX_MESSAGE_BYTES:
            raise too_much()
        if packed and size + length > PIECE_BYTES:
            yield Piece(start, f"[{','.join(packed)}]")
            start, size, packed = start + len(packed), 0, []
        packed.append(text)
        size += length
    if packed:
        yield Piece(start, f"[{','.join(packed)}]")


def too_much() -> InvalidRequest:
    return InvalidRequest(
        f"At most {MAX_MESSAGES} messages of {MAX_BYTES // 1024 // 1024} MiB in all can be shared; "
        "share a shorter branch by its `message_id`."
    )
