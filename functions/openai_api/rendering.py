"""Turns and embeddings as the JSON and the event streams that OpenAI's SDKs read.

What readers make of a stream, tried out with openai-python 2.54 and 3.54 and openai-node 7, read up on for the AI SDK:

- nothing but `data:` lines: an `id:` or a `retry:` beside a comment breaks openai-python;
- `choices` is a list in every chunk, the first delta names the role, every piece of a tool call its `index`;
- a list inside a delta comes once: a second one openai-python joins by an `index` that not every list has;
- a failure is an object with `error` alone: beside `choices` the AI SDK passes over it. An end without it counts as
  success everywhere.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

from functions.chat.domain import merged_reasoning
from functions.openai_api.domain import completion_id
from shared.errors import UpstreamError
from shared.http.dialects import OpenAI
from shared.openrouter.vectors import numbers_of
from shared.trace import current_trace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from functions.chat.domain import Outcome
    from functions.chat.turn import Turn
    from functions.openai_api.service import Embedded

    Event = Mapping[str, Any]

STREAM_HEADERS = {"X-Accel-Buffering": "no", "Cache-Control": "private, no-store, no-transform"}
_DONE = b"data: [DONE]\n\n"
_MARK = "\x00"
_FINISH_REASONS = {"stop", "length", "tool_calls", "content_filter"}
_WELL = {"completed", "stopped"}


class Chunks:
    """A turn as chat completion chunks. Closing it, at whatever point, lets the turn finish.

    A stream is mostly text. So all of a chunk but its text is made once, and a text only becomes a JSON string.
    """

    def __init__(self, turn: Turn, *, include_usage: bool, with_reasoning: bool = True) -> None:
        self._turn, self._include_usage, self._with_reasoning = turn, include_usage, with_reasoning
        self._head = self._tail = b""
        self._about: dict[str, Any] = {}
        self._annotations: list[dict[str, Any]] = []
        self._details: list[Mapping[str, Any]] = []
        self._argued: dict[int, bool] = {}

    def __iter__(self) -> Chunks:
        return self

    def __next__(self) -> bytes:
        return self.render(next(self._turn))

    def close(self) -> None:
        self._turn.close()

    def render(self, events: Iterable[Event]) -> bytes:
        """The chunks of these events; those of the end event close the stream."""
        pieces: list[bytes] = []
        for event in events:
            if event["type"] == "text":
                if not self._head:
                    self._prepare()
                pieces += (self._head, encode_basestring(event["text"]).encode(), self._tail)
            else:
                pieces += self._chunks(event)
        return b"".join(pieces)

    def _chunks(self, event: Event) -> list[bytes]:
        kind = event["type"]
        if kind == "start":
            return [self._begin(event["model"])]
        if kind == "reasoning" and self._with_reasoning:
            # Under both names that clients look for.
            return [self._chunk({"reasoning": event["text"], "reasoning_content": event["text"]})]
        if kind == "reasoning_details" and self._with_reasoning:
            self._details += event["items"]
        elif kind == "tool_call":
            return [self._chunk({"tool_calls": [self._tool_call(event)]})]
        elif kind == "citations":
            self._annotations += [annotation_of(item) for item in event["items"]]
        elif kind == "end":
            return self._ending(event)
        return []

    def _begin(self, model: str) -> bytes:
        generation = self._turn.generation
        self._about = {
            "id": completion_id(generation.id),
            "object": "chat.completion.chunk",
            "created": int(generation.started_at.timestamp()),
            "model": model,
            "system_fingerprint": None,
        }
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def _prepare(self) -> None:
        """Make the frame of texts. By now the model is known that answers, in place of one that failed perhaps."""
        self._about["model"] = self._turn.generation.model
        frame = self._chunk({"content": _MARK})
        # The mark stands where the texts will; no model's name holds it.
        self._head, self._tail = frame.split(_json(_MARK).encode())

    def _tool_call(self, event: Event) -> dict[str, Any]:
        index = event["index"]
        is_first = index not in self._argued
        self._argued[index] = self._argued.get(index, False) or bool(event["arguments"])
        piece: dict[str, Any] = {"index": index}
        if is_first:
            piece |= {"id": event["id"] or f"call_{index}", "type": "function"}
        function = {"name": event["name"] or ""} if is_first else {}
        return piece | {"function": {**function, "arguments": event["arguments"]}}

    def _ending(self, event: Event) -> list[bytes]:
        if event["status"] not in _WELL:
            return [self._failure(), _DONE]
        pieces = [
            self._chunk({"tool_calls": [{"index": index, "function": {"arguments": "{}"}}]})
            for index, argued in self._argued.items()
            if not argued
        ]
        lists = {"reasoning_details": merged_reasoning(self._details), "annotations": self._annotations}
        if given := {name: items for name, items in lists.items() if items}:
            pieces.append(self._chunk(given))
        pieces.append(self._chunk({}, finish_reason_of(event["finish_reason"], calls_tools=bool(self._argued))))
        if self._include_usage and event["usage"]:
            usage = {"choices": [], "usage": usage_of(event["usage"]), "credits": event["credits"]}
            pieces.append(_frame(self._about | usage))
        return [*pieces, _DONE]

    def _failure(self) -> bytes:
        error = self._turn.failure or UpstreamError()
        told = OpenAI().error_object(error, current_trace())
        return _frame({"error": {**told, "generation_id": self._turn.generation.id}})

    def _chunk(self, delta: Mapping[str, Any], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        usage = {"usage": None} if self._include_usage else {}
        return _frame({**self._about, "choices": [choice], **usage})


def completion(turn: Turn, outcome: Outcome, charge: Mapping[str, Any], *, with_reasoning: bool = True) -> str:
    """A turn that ended well as one chat completion."""
    message: dict[str, Any] = {"role": "assistant", "content": outcome.text, "refusal": None}
    if outcome.tool_calls:
        message["content"] = outcome.text or None
        message["tool_calls"] = [
            {
                "id": call["id"] or f"call_{call['index']}",
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"] or "{}"},
            }
            for call in outcome.tool_calls
        ]
    if with_reasoning and outcome.reasoning:
        message |= {"reasoning": outcome.reasoning, "reasoning_content": outcome.reasoning}
    if with_reasoning and outcome.reasoning_details:
        message["reasoning_details"] = list(outcome.reasoning_details)
    if outcome.citations:
        message["annotations"] = [annotation_of(item) for item in outcome.citations]
    reason = finish_reason_of(outcome.finish_reason, calls_tools=bool(outcome.tool_calls))
    document = {
        "id": completion_id(turn.generation.id),
        "object": "chat.completion",
        "created": int(turn.generation.started_at.timestamp()),
        "model": outcome.model_used or turn.generation.model,
        "system_fingerprint": None,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        "usage": usage_of(vars(outcome.usage)) if outcome.usage else None,
        "credits": dict(charge),
    }
    return _json(document)


def finish_reason_of(said: str | None, *, calls_tools: bool) -> str:
    """One of those that OpenAI has; some providers say `stop` of an answer that calls tools."""
    if calls_tools and said in (None, "stop"):
        return "tool_calls"
    return said if said in _FINISH_REASONS else "stop"


def usage_of(usage: Mapping[str, int]) -> dict[str, Any]:
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "completion_tokens": usage["completion_tokens"],
        "total_tokens": usage["prompt_tokens"] + usage["completion_tokens"],
        "prompt_tokens_details": {"cached_tokens": usage["cached_tokens"], "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage["reasoning_tokens"], "audio_tokens": 0},
    }


def annotation_of(citation: Mapping[str, Any]) -> dict[str, Any]:
    cited = {
        "url": citation["url"],
        "title": citation["title"],
        "start_index": citation["start"] or 0,
        "end_index": citation["end"] or 0,
    }
    return {"type": "url_citation", "url_citation": cited}


def embeddings(embedded: Embedded, *, as_floats: bool) -> Iterator[bytes]:
    """The list of embeddings, vector by vector: as numbers a large one would take more memory than there is."""
    yield b'{"object":"list","data":['
    for place, vector in enumerate(embedded.vectors):
        shown = f"[{','.join([f'{number:.9g}' for number in numbers_of(vector)])}]" if as_floats else f'"{vector}"'
        comma = "," if place else ""
        yield f'{comma}{{"object":"embedding","index":{place},"embedding":{shown}}}'.encode()
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    rest = _json({"model": embedded.model, "usage": usage, "credits": embedded.credits})
    yield f"],{rest[1:]}".encode()


def _frame(chunk: Mapping[str, Any]) -> bytes:
    return f"data: {_json(chunk)}\n\n".encode()


def _json(value: object) -> str:
    """Without halves of surrogate pairs, which no encoding can hold."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if text.isascii() else text.encode(errors="replace").decode()
