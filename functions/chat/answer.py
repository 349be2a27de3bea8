"""What a model has said so far: its deltas become the events of the log, and the events of a log become it again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from functions.chat.domain import merged_reasoning
from shared.openrouter import AnnotationsDelta, ReasoningDelta, ReasoningDetails, TextDelta, ToolCallDelta

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from functions.chat.generation_log import Event
    from shared.openrouter import Delta

MAX_ANSWER_BYTES = 800_000
"""What of an answer is kept: a Firestore document takes 1 MiB. The model is stopped there, as by its token limit."""


class Answer:
    """Not thread-safe. `is_full` says that the rest will not be kept."""

    def __init__(self) -> None:
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._details: list[Mapping[str, Any]] = []
        self._calls: dict[int, dict[str, Any]] = {}
        self._citations: list[dict[str, Any]] = []
        self._bytes = 0
        self.is_full = False

    @classmethod
    def from_log(cls, events: Iterable[Event]) -> Answer:
        """What the events of a log say: all that is known of an answer whose producer has died."""
        answer = cls()
        for event in events:
            answer._add(event)
        return answer

    def take(self, deltas: Iterable[Delta]) -> list[Event]:
        """The deltas of one read as few events: neighbours of one kind are joined."""
        events: list[Event] = []
        for delta in deltas:
            event = _event_of(delta)
            if event is None:
                continue
            if event["type"] == "tool_call" and event["index"] not in self._calls and not event["id"]:
                event["id"] = f"call_{event['index']}"  # who answers the call has to name it
            self._bytes += _size(event)
            if self._bytes > MAX_ANSWER_BYTES:
                self.is_full = True
                break
            self._add(event)
            last = events[-1] if events else None
            if last is not None and last["type"] == event["type"] and event["type"] in ("text", "reasoning"):
                last["text"] += event["text"]
            else:
                events.append(event)
        return events

    @property
    def says_something(self) -> bool:
        return bool(self._text or self._reasoning or self._calls)

    @property
    def text(self) -> str:
        return "".join(self._text)

    def said(self) -> dict[str, Any]:
        """The fields of an `Outcome` that it gives."""
        return {
            "text": self.text,
            "reasoning": "".join(self._reasoning),
            "reasoning_details": merged_reasoning(self._details),
            "tool_calls": tuple({"index": index, **call} for index, call in sorted(self._calls.items())),
            "citations": tuple(self._citations),
        }

    def _add(self, event: Event) -> None:
        kind = event["type"]
        if kind == "text":
            self._text.append(event["text"])
        elif kind == "reasoning":
            self._reasoning.append(event["text"])
        elif kind == "reasoning_details":
            self._details += event["items"]
        elif kind == "tool_call":
            call = self._calls.setdefault(event["index"], {"id": "", "name": "", "arguments": ""})
            call["id"] = call["id"] or event["id"] or ""
            call["name"] = call["name"] or event["name"] or ""
            call["arguments"] += event["arguments"]
        elif kind == "citations":
            self._citations += event["items"]


def _event_of(delta: Delta) -> Event | None:
    if isinstance(delta, TextDelta):
        return {"type": "text", "text": _storable(delta.text)}
    if isinstance(delta, ReasoningDelta):
        return {"type": "reasoning", "text": _storable(delta.text)}
    if isinstance(delta, ReasoningDetails):
        return {"type": "reasoning_details", "items": _storable_items(delta.items)}
    if isinstance(delta, ToolCallDelta):
        return {
            "type": "tool_call",
            "index": delta.index,
            "id": delta.id and _storable(delta.id),
            "name": delta.name and _storable(delta.name),
            "arguments": _storable(delta.arguments),
        }
    if isinstance(delta, AnnotationsDelta):
        citations = [_citation(item) for item in delta.items if item.get("type") == "url_citation"]
        return {"type": "citations", "items": _storable_items(citations)} if citations else None
    return None


def _citation(item: Mapping[str, Any]) -> dict[str, Any]:
    cited = item.get("url_citation")
    about = cited if isinstance(cited, dict) else item
    return {
        "url": str(about.get("url") or ""),
        "title": str(about.get("title") or ""),
        "start": _place(about.get("start_index")),
        "end": _place(about.get("end_index")),
    }


def _place(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _size(event: Event) -> int:
    kind = event["type"]
    if kind in ("text", "reasoning"):
        text: str = event["text"]
        return len(text) if text.isascii() else len(text.encode())
    if kind == "tool_call":
        return len(event["arguments"].encode()) + len(event["name"] or "") + 100
    return len(_json(event["items"]).encode())


def _storable(text: str) -> str:
    """The text without halves of surrogate pairs, which models do send and no encoding can hold."""
    return text if text.isascii() else text.encode(errors="replace").decode()


def _storable_items(items: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same of all texts in what the provider's JSON held."""
    whole: list[dict[str, Any]] = [dict(item) for item in items]
    text = _json(whole)
    if (storable := _storable(text)) != text:
        whole = json.loads(storable)
    return whole


def _json(items: Any) -> str:
    return json.dumps(items, ensure_ascii=False, separators=(",", ":"))
