"""Rules of an import: what a conversation that came in looks like here, whatever its file says. Pure.

Nothing here calls itself: a file may be as deep as it likes.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import isfinite
from typing import TYPE_CHECKING, Any

from shared.ids import derived_id
from shared.texts import shown_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_TEXT_CHARS = 100_000
MAX_SYSTEM_PROMPT_CHARS = 8_000
MAX_MESSAGES = 20_000
"""Of one conversation, and of one request."""
MAX_ENTRIES = 60_000
"""Of one conversation, together with those that are left out."""
MAX_TITLE_CHARS, MAX_TAGS, MAX_TAG_CHARS, MAX_MODEL_CHARS = 200, 20, 40, 200
MAX_PLACE_CHARS = 200
UNTITLED = "Imported conversation"
_EARLIEST = datetime(2015, 1, 1, tzinfo=UTC)
"""There was nobody to chat with before."""
_STEP = timedelta(microseconds=1)
_MILLISECONDS_FROM = 10**11
"""As seconds that would be the year 5138: such numbers are milliseconds."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_MAX_STEP_CHARS = 60


class Unreadable(Exception):
    """A conversation that cannot be taken in, and why."""


@dataclass(frozen=True)
class Problem:
    """Something in the file that was not taken as it is: where, and what became of it."""

    place: str
    message: str


class Problems:
    """The first of them, and how many there were."""

    KEPT = 100

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self.count = 0

    def note(self, place: str, message: str) -> None:
        self.count += 1
        if len(self.kept) < self.KEPT:
            self.kept.append(Problem(place[:MAX_PLACE_CHARS], message))

    def add(self, others: Problems) -> None:
        self.count += others.count
        self.kept += others.kept[: self.KEPT - len(self.kept)]


@dataclass(slots=True)
class Found:
    """A message as its file has it. Without a role it is left out, and its children follow what it follows."""

    id: str
    parent_id: str | None
    role: str | None
    text: str
    place: str
    at: datetime | None = None
    model: str | None = None


@dataclass(slots=True)
class Source:
    """A conversation as its file has it."""

    product: str
    id: str | None
    place: str
    title: str | None = None
    messages: list[Found] = field(default_factory=list)
    tip: str | None = None
    system_prompt: str | None = None
    tags: tuple[str, ...] = ()
    archived: bool = False
    pinned: bool = False
    created_at: datetime | None = None
    updated_at: datetime | None = None
    problems: Problems = field(default_factory=Problems)


@dataclass(frozen=True, slots=True)
class NewMessage:
    id: str
    parent_id: str | None
    role: str
    text: str
    model: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class NewConversation:
    """A conversation as it is going to be here."""

    id: str
    title: str
    messages: Sequence[NewMessage]
    """Parents before their children."""
    tip: str
    model: str | None
    system_prompt: str | None
    tags: tuple[str, ...]
    archived: bool
    pinned: bool
    created_at: datetime
    updated_at: datetime


def conversation_id(uid: str, source: Source) -> str:
    """The same for the same conversation of the same user: a second import finds the first one's."""
    identity = f"id\n{source.id!a}" if source.id else f"content\n{_digest(source)}"
    return derived_id("conv", f"import\n{uid}\n{source.product}\n{identity}")


def _digest(source: Source) -> str:
    hashed = sha256(ascii(source.title).encode())
    for each in source.messages:
        hashed.update(f"{each.id!a}\n{each.parent_id!a}\n{each.role!a}\n{each.text!a}\n".encode())
    return hashed.hexdigest()


def converted(source: Source, new_id: str, *, now: datetime) -> NewConversation:
    """Raises Unreadable when there is nothing in it, or too much."""
    nodes = _by_id(source.messages, source.problems)
    parents = _parents(nodes, source.problems)
    kept = {each: parent for each, parent in parents.items() if nodes[each].role is not None}
    if not kept:
        raise Unreadable("It has no messages with text.")
    if len(kept) > MAX_MESSAGES:
        raise Unreadable(f"It has more than {MAX_MESSAGES} messages.")
    begun_at = _sane(source.created_at, now)
    times = _times(nodes, kept, begun_at, now)
    ids = {each: derived_id("msg", f"{new_id}\n{each!a}") for each in kept}
    messages = [
        NewMessage(
            id=ids[each],
            parent_id=ids[parent] if (parent := kept[each]) is not None else None,
            role=nodes[each].role or "",
            text=nodes[each].text,
            model=nodes[each].model,
            at=times[each],
        )
        for each in times
    ]
    tip = _tip(source.tip, nodes, parents, times)
    return NewConversation(
        id=new_id,
        title=line_of(source.title, MAX_TITLE_CHARS) or UNTITLED,
        messages=messages,
        tip=ids[tip],
        model=_last_model(tip, nodes, kept),
        system_prompt=source.system_prompt,
        tags=source.tags,
        archived=source.archived,
        pinned=source.pinned,
        created_at=begun_at or messages[0].at,
        updated_at=max(_sane(source.updated_at, now) or times[tip], begun_at or messages[0].at),
    )


def _by_id(messages: Iterable[Found], problems: Problems) -> dict[str, Found]:
    nodes: dict[str, Found] = {}
    for each in messages:
        if each.id in nodes:
            problems.note(each.place, "has the id of another message; only the first one is taken")
        else:
            nodes[each.id] = each
    return nodes


def _parents(nodes: Mapping[str, Found], problems: Problems) -> dict[str, str | None]:
    """Each message's nearest ancestor that is not left out; circles are opened, and what is not there is no parent."""
    nearest: dict[str, str | None] = {}
    for first in nodes:
        way: list[str] = []
        on_way: set[str] = set()
        here: str | None = first
        while here is not None and here not in nearest and here not in on_way:
            way.append(here)
            on_way.add(here)
            here = _named_parent(nodes, nodes[here], problems)
        if here in on_way and here is not None:
            problems.note(nodes[here].place, "follows itself in a circle; it begins a branch of its own")
        for each in reversed(way):
            parent = None if here in on_way and each == way[-1] else here
            nearest[each] = parent if parent is None or nodes[parent].role is not None else nearest[parent]
            here = each
    return nearest


def _named_parent(nodes: Mapping[str, Found], node: Found, problems: Problems) -> str | None:
    if node.parent_id is None or node.parent_id in nodes:
        return node.parent_id
    problems.note(node.place, "follows a message that is not in the file; it begins a branch of its own")
    return None


def _times(
    nodes: Mapping[str, Found], kept: Mapping[str, str | None], begun_at: datetime | None, now: datetime
) -> dict[str, datetime]:
    """When each message was written, parents before their children: here no answer is older than its question."""
    children: dict[str | None, list[str]] = {}
    for each, parent in kept.items():
        children.setdefault(parent, []).append(each)
    # Without a time of its own a message comes right after the one before it, and the whole of them is in the past.
    unknown = begun_at or now - timedelta(seconds=1)
    times: dict[str, datetime] = {}
    waiting = deque(children.get(None, ()))
    while waiting:
        each = waiting.popleft()
        parent = kept[each]
        earliest = times[parent] + _STEP if parent is not None else _EARLIEST
        at = _sane(nodes[each].at, now)
        if at is None:
            at = unknown = max(unknown + _STEP, earliest)
        times[each] = max(at, earliest)
        waiting.extend(children.get(each, ()))
    return times


def _tip(
    named: str | None,
    nodes: Mapping[str, Found],
    parents: Mapping[str, str | None],
    times: Mapping[str, datetime],
) -> str:
    """The end of the branch in use: what the file says, else the newest message."""
    if named in nodes and named is not None:
        here = named if nodes[named].role is not None else parents[named]
        if here is not None:
            return here
    newest, _ = max(times.items(), key=lambda item: item[1])
    return newest


def _last_model(tip: str, nodes: Mapping[str, Found], kept: Mapping[str, str | None]) -> str | None:
    here: str | None = tip
    while here is not None:
        if nodes[here].role == "assistant" and nodes[here].model:
            return nodes[here].model
        here = kept[here]
    return None


def _sane(at: datetime | None, now: datetime) -> datetime | None:
    return at if at is not None and _EARLIEST <= at <= now else None


# Values of foreign files


def step(place: str, name: str | int) -> str:
    """The place of something in something: `[3].mapping` and `abc` are `[3].mapping.abc`."""
    if len(place) > MAX_PLACE_CHARS:
        return place
    if isinstance(name, int):
        return f"{place}[{name}]"
    shown = clean(name)[:_MAX_STEP_CHARS]
    return f"{place}.{shown}" if place else shown


def clean(text: str) -> str:
    """Text that can be stored: half a character, as files cut in its middle have it, becomes a mark."""
    return _SURROGATES.sub("\ufffd", text)


def moment(value: Any) -> datetime | None:
    """Seconds or milliseconds since 1970, or ISO 8601; None for everything else."""
    if isinstance(value, str):
        try:
            parsed = datetime.fromisoformat(value[:40])
        except ValueError:
            return None
        return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else _in_utc(parsed)
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite_number(value):
        return None
    seconds = value / 1000 if abs(value) >= _MILLISECONDS_FROM else value
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def isfinite_number(value: float) -> bool:
    try:
        return isfinite(value)
    except OverflowError:
        return False  # an integer that no float holds


def _in_utc(at: datetime) -> datetime | None:
    try:
        return at.astimezone(UTC)
    except OverflowError:
        return None


def tags_of(values: Iterable[Any]) -> tuple[str, ...]:
    """Tags as they are allowed here, without repetitions."""
    found: dict[str, str] = {}
    for value in values:
        line = line_of(value, MAX_TAG_CHARS)
        if line and len(found) < MAX_TAGS:
            found.setdefault(line.casefold(), line)
    return tuple(found.values())


def line_of(value: Any, max_chars: int) -> str | None:
    """A text that is shown on one line; None when there is nothing to see."""
    if not isinstance(value, str):
        return None
    some = " ".join(value[: max_chars * 4].split())
    return shown_line(some, max_chars=max_chars)


def bounded_text(text: str, place: str, problems: Problems) -> str:
    """The text without what cannot be stored; a huge one is cut, visibly."""
    if len(text) > MAX_TEXT_CHARS:
        problems.note(place, f"is {len(text)} characters long; the first {MAX_TEXT_CHARS} are taken")
        text = f"{text[:MAX_TEXT_CHARS]}\n\n[… cut: {MAX_TEXT_CHARS} of {len(text)} characters]"
    return clean(text)


def system_prompt_of(text: str, place: str, problems: Problems) -> str | None:
    """The text if it can be a system prompt here."""
    if len(text) > MAX_SYSTEM_PROMPT_CHARS:
        problems.note(place, f"a system prompt has at most {MAX_SYSTEM_PROMPT_CHARS} characters; this one is left out")
        return None
    return clean(text).strip() or None
