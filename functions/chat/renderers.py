"""A generation's events as the bytes that each kind of client reads.

`UiMessageStream` is the AI SDK's UI message stream v1 (https://ai-sdk.dev/docs/ai-sdk-ui/stream-protocol), the native
format of the web app; `CallableFrames` is the streaming side of Firebase callables, whose clients break on comments, so
it sends none (firebase/firebase-ios-sdk#16605).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from functions.chat.domain import Status
from shared.errors import AppError
from shared.http.dialects import Callable
from shared.trace import current_trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from functions.chat.generation_log import Event
    from functions.chat.turn import Turn

_FINISH_REASONS = {"stop": "stop", "length": "length", "content_filter": "content-filter", "tool_calls": "tool-calls"}


class Renderer(Protocol):
    headers: ClassVar[Mapping[str, str]]

    def render(self, events: Iterable[Event]) -> bytes:
        """The frames of these events; the end event's frames close the stream."""
        ...


@dataclass
class _Call:
    """A tool call as far as it has come."""

    id: str
    name: str
    arguments: str = ""


class UiMessageStream:
    headers: ClassVar[Mapping[str, str]] = {
        "x-vercel-ai-ui-message-stream": "v1",
        "X-Accel-Buffering": "no",
        "Cache-Control": "private, no-store, no-transform",
    }

    def __init__(self) -> None:
        self._open: str | None = None
        self._part = 0
        self._calls: dict[int, _Call] = {}
        self._sources = 0

    def render(self, events: Iterable[Event]) -> bytes:
        return b"".join(_frame(chunk) for event in events for chunk in self._chunks(event))

    def _chunks(self, event: Event) -> list[dict[str, Any] | str]:
        kind = event["type"]
        if kind == "start":
            about = {name: event[name] for name in ("generation_id", "conversation_id", "user_message_id", "model")}
            return [
                {"type": "start", "messageId": event["message_id"], "messageMetadata": about},
                {"type": "start-step"},
            ]
        if kind in {"text", "reasoning"}:
            return [*self._opened(kind), {"type": f"{kind}-delta", "id": self._id(), "delta": event["text"]}]
        if kind == "tool_call":
            return [*self._closed(), *self._tool_call(event)]
        if kind == "citations":
            return [self._source(item) for item in event["items"]]
        if kind == "end":
            return [*self._closed(), *self._whole_calls(), *self._ending(event)]
        return []

    def _tool_call(self, event: Event) -> list[dict[str, Any] | str]:
        chunks: list[dict[str, Any] | str] = []
        call = self._calls.get(event["index"])
        if call is None:
            call = _Call(event["id"] or f"call-{event['index']}", event["name"] or "")
            self._calls[event["index"]] = call
            chunks.append({"type": "tool-input-start", "toolCallId": call.id, "toolName": call.name, "dynamic": True})
        if event["arguments"]:
            call.arguments += event["arguments"]
            chunks.append({"type": "tool-input-delta", "toolCallId": call.id, "inputTextDelta": event["arguments"]})
        return chunks

    def _whole_calls(self) -> list[dict[str, Any] | str]:
        """What each call asks for, once nothing can be added to it; arguments that are no JSON are said to be none."""
        chunks: list[dict[str, Any] | str] = []
        for call in self._calls.values():
            about = {"toolCallId": call.id, "toolName": call.name, "dynamic": True}
            try:
                chunks.append({"type": "tool-input-available", **about, "input": json.loads(call.arguments or "{}")})
            except ValueError:
                text = "The arguments are no JSON."
                chunks.append({"type": "tool-input-error", **about, "input": call.arguments, "errorText": text})
        return chunks

    def _source(self, citation: Mapping[str, Any]) -> dict[str, Any]:
        self._sources += 1
        return {
            "type": "source-url",
            "sourceId": f"source-{self._sources}",
            "url": citation["url"],
            "title": citation["title"],
        }

    def _ending(self, event: Event) -> list[dict[str, Any] | str]:
        metadata = {name: event.get(name) for name in ("status", "usage", "credits")}
        if event["status"] == Status.STOPPED:
            return [{"type": "message-metadata", "messageMetadata": metadata}, {"type": "abort"}, "[DONE]"]
        if event["status"] != Status.COMPLETED:
            text = json.dumps(event["error"], ensure_ascii=False)
            return [
                {"type": "message-metadata", "messageMetadata": metadata},
                {"type": "error", "errorText": text},
                "[DONE]",
            ]
        reason = _FINISH_REASONS.get(event["finish_reason"] or "", "other")
        return [
            {"type": "finish-step"},
            {"type": "finish", "finishReason": reason, "messageMetadata": metadata},
            "[DONE]",
        ]

    def _opened(self, kind: str) -> list[dict[str, Any] | str]:
        if self._open == kind:
            return []
        closing = self._closed()
        self._open = kind
        self._part += 1
        return [*closing, {"type": f"{kind}-start", "id": self._id()}]

    def _closed(self) -> list[dict[str, Any] | str]:
        if self._open is None:
            return []
        closing: list[dict[str, Any] | str] = [{"type": f"{self._open}-end", "id": self._id()}]
        self._open = None
        return closing

    def _id(self) -> str:
        return f"part-{self._part}"


class CallableFrames:
    """`data: {"message": event}` each, at last `data: {"result": …}` or `data: {"error": …}`."""

    headers: ClassVar[Mapping[str, str]] = {"X-Accel-Buffering": "no"}

    def __init__(self, turn: Turn) -> None:
        self._turn = turn

    def render(self, events: Iterable[Event]) -> bytes:
        return b"".join(self._last() if event["type"] == "end" else _frame({"message": event}) for event in events)

    def _last(self) -> bytes:
        try:
            answer = self._turn.answer()
        except AppError as error:
            return _frame({"error": Callable().error_object(error, current_trace())})
        return _frame({"result": answer.model_dump(mode="json")})


class RenderedTurn:
    """A turn as chunks of bytes. Closing it, at whatever point, lets the turn finish."""

    def __init__(self, turn: Turn, renderer: Renderer) -> None:
        self._turn, self._renderer = turn, renderer

    def __iter__(self) -> RenderedTurn:
        return self

    def __next__(self) -> bytes:
        return self._renderer.render(next(self._turn))

    def close(self) -> None:
        self._turn.close()


def _frame(chunk: dict[str, Any] | str) -> bytes:
    text = chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False, separators=(",", ":"))
    return f"data: {text}\n\n".encode()
