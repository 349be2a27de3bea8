"""From the bytes of a chat answer to deltas, or to the one error that stands for every way it can end badly.

Pure: it owns no socket, so recordings, tests and the client go through the same code. How a stream ends:

    finish_reason, then [DONE] or the end of the bytes    success: the answer is whole (only its usage may be missing)
    [DONE] after content, without a finish_reason         success: OpenRouter says that this was all
    the end of the bytes without either                   failure: the connection broke in the middle
    a chunk with an `error`, finish_reason "error"        failure, whatever was said before
    a cut or malformed chunk, an oversized event          failure
"""

import json
import re
from decimal import Decimal
from typing import Any

from shared.errors import UpstreamError
from shared.openrouter.answers import (
    AnnotationsDelta,
    Completion,
    Delta,
    Embeddings,
    ImagesDelta,
    ReasoningDelta,
    ReasoningDetails,
    Started,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
    objects_of,
    text_of,
    usage_of,
)
from shared.openrouter.errors import UpstreamFailedMidStream, broken, failed_after_200
from shared.openrouter.sse import MAX_EVENT_BYTES, EventDecoder
from shared.openrouter.vectors import packed_if_embedding

_DONE = b"[DONE]"
_TEMPLATE_TRIES = 4
_LONGEST_RUN = 64
"""Events read at once: when one among them has to be parsed, so many at most were looked at in vain."""
_TEXT_KEY = re.compile(r'"content"\s*:\s*"')
_PROBES = ("a", "b")
_scan = json.JSONDecoder().raw_decode
_CONTENT = (TextDelta, ReasoningDelta, ToolCallDelta, ImagesDelta)


class ChatEvents:
    """One streamed answer as it unfolds: feed bytes, get deltas; `ended` and `failure` say how it stands."""

    def __init__(self, generation_id: str | None = None, *, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self.generation_id = generation_id
        self.model: str | None = None
        self.provider: str | None = None
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.native_finish_reason: str | None = None
        self.content_delivered = False
        self.ended = False
        self.failure: UpstreamFailedMidStream | None = None
        self._started = False
        self._max_event_bytes = max_event_bytes
        self._decoder = EventDecoder(max_event_bytes)
        self._template = TextTemplate()

    def feed(self, received: bytes) -> list[Delta]:
        """The deltas that `received` completes; those before a failure are given out before it counts."""
        deltas: list[Delta] = []
        position, end = 0, len(received)
        while position < end and not self.ended:
            if self._decoder.is_between_events and end <= self._max_event_bytes:
                run = self._template.run_in(received, position)
                if run is not None:
                    text, position = run
                    if text:
                        deltas.append(TextDelta(text))
                    continue
            start, position = position, self._template.next_in(received, position)
            self._read(received[start:position], deltas)
        return deltas

    def _read(self, received: bytes, deltas: list[Delta]) -> None:
        for payload in self._decoder.feed(received):
            self._take(payload, deltas)
            if self.ended:
                return
        if self._decoder.oversized:
            self.fail(broken("oversized_event"))

    def end(self, cause: UpstreamError | None = None) -> list[Delta]:
        """There will be no more bytes: because the body ended, or because of `cause`."""
        deltas: list[Delta] = []
        for payload in self._decoder.end():
            if not self.ended:
                self._take(payload, deltas)
        if not self.ended:
            if self.finish_reason is None:
                self.fail(cause or broken("ended_early"))
            self.ended = True
        return deltas

    def fail(self, reason: UpstreamError) -> None:
        self.ended = True
        self.failure = UpstreamFailedMidStream(
            reason,
            usage=self.usage,
            content_delivered=self.content_delivered,
            generation_id=self.generation_id,
        )

    def _take(self, payload: bytes, deltas: list[Delta]) -> None:
        if payload.startswith(_DONE):
            self._finish()
            return
        if not payload.strip():
            return
        chunk = _object_in(payload)
        if chunk is None:
            self.fail(broken("malformed_chunk"))
            return
        if not self._started:
            self._start(chunk, deltas)
        if type(chunk.get("usage")) is dict:
            self.usage = usage_of(_exact(payload)["usage"])
        choice = _first_choice(chunk)
        if choice is not None:
            self._take_choice(choice, deltas)
        error = _error_in(chunk, choice)
        if error is not None:
            self.fail(failed_after_200(error))
        elif self._template.wanted and _is_only_text(chunk, choice):
            self._template.learn(payload)

    def _start(self, chunk: dict[str, Any], deltas: list[Delta]) -> None:
        generation_id = text_of(chunk, "id") or self.generation_id
        if generation_id is None:
            return
        self._started = True
        self.generation_id = generation_id
        self.model = text_of(chunk, "model")
        self.provider = text_of(chunk, "provider")
        deltas.append(Started(generation_id, self.model, self.provider))

    def _take_choice(self, choice: dict[str, Any], deltas: list[Delta]) -> None:
        delta = choice.get("delta")
        if type(delta) is dict:
            known = len(deltas)
            read_delta(delta, deltas)
            if not self.content_delivered:
                self.content_delivered = any(isinstance(new, _CONTENT) for new in deltas[known:])
        # The last chunk may say it again (recorded): the first one counts.
        if self.finish_reason is None and choice.get("finish_reason"):
            self.finish_reason = text_of(choice, "finish_reason")
            self.native_finish_reason = text_of(choice, "native_finish_reason")

    def _finish(self) -> None:
        if self.finish_reason is None and not self.content_delivered:
            self.fail(broken("empty_answer"))
        self.ended = True


class TextTemplate:
    """Reads events that differ from an earlier one in their text alone, at a fraction of the cost of parsing them.

    Most events of a stream repeat each other around the text: `data: {"id":…,"delta":{"role":…,"content":"` + text +
    `"},"finish_reason":null,…}` and a blank line. An event with the same head, the inside of one JSON string and the
    same tail can mean nothing else, and a whole run of them is taken apart at once; every other event is parsed.
    """

    def __init__(self) -> None:
        self._head = self._tail = self._between = b""
        self._tries_left = _TEMPLATE_TRIES

    @property
    def wanted(self) -> bool:
        """Whether another chunk is worth learning from; a stream whose chunks all differ is left alone soon."""
        return self._tries_left > 0

    def learn(self, payload: bytes) -> None:
        """Take a chunk that says nothing but its text (the caller made sure) for the model of those to come."""
        self._tries_left -= 1
        chunk = payload.decode()
        found = _TEXT_KEY.search(chunk)
        if found is None or "\n" in chunk:  # of several `data:` lines: on the wire it looks otherwise
            return
        _, end = _scan(chunk, found.end() - 1)
        head, tail = chunk[: found.end()], chunk[end - 1 :]
        # Only the value at the one right place is the text: prove it with other texts there. What stands elsewhere may
        # equal one of them by chance, and not both.
        if all(_content_of(f"{head}{probe}{tail}") == probe for probe in _PROBES):
            self._head, self._tail = b"data: " + head.encode(), tail.encode() + b"\n\n"
            self._between = self._tail + self._head

    def next_in(self, received: bytes, position: int) -> int:
        """Where after `position` the next event begins that may fit; before that, nothing is worth being cut apart."""
        blank = received.find(b"\n\n" + (self._head or b"data:"), position)
        return len(received) if blank < 0 else blank + 2

    def run_in(self, received: bytes, position: int) -> tuple[str, int] | None:
        """The joined texts of whole events from `position` on that fit, and where they end; None for an event that has
        to be parsed.
        """
        if not self._head or not received.startswith(self._head, position):
            return None
        inside = position + len(self._head)
        blank = received.find(b"\n\n", inside)
        if blank < 0 or not received.endswith(self._tail, inside, blank + 2):
            return None
        texts = received[inside:].split(self._between, _LONGEST_RUN)
        last, tail, rest = texts.pop().partition(self._tail)
        if tail:
            texts.append(last)
            end = len(received) - len(rest)
        else:  # the last event is not whole yet
            end = len(received) - len(last) - len(self._head)
        text = _inside_of_strings(texts) if texts else None
        return None if text is None else (text, end)


def _content_of(chunk: str) -> object:
    choice = _first_choice(json.loads(chunk))
    return None if choice is None else choice["delta"].get("content")


def _inside_of_strings(pieces: list[bytes]) -> str | None:
    """What the strings mean of whose JSON these are the insides, joined; None unless every piece is one such inside."""
    quotes = 2 * (len(pieces) - 1)
    try:
        # Joined by ASCII, no piece can lend its neighbour the half of a character.
        inside = b'","'.join(pieces).decode()
        if inside.isprintable() and "\\" not in inside and inside.count('"') == quotes:
            # Without quotes, backslashes and control characters a JSON string is its own meaning.
            return inside.replace('","', "")
        # A piece with quotes of its own would break the list, add to it or put another list inside, unless its
        # neighbour's backslash hides one.
        if any((len(piece) - len(piece.rstrip(b"\\"))) % 2 for piece in pieces):
            return None
        values = json.loads(f'["{inside}"]')
    except (ValueError, RecursionError):
        return None
    is_whole = len(values) == len(pieces) and all(type(value) is str for value in values)
    return "".join(values) if is_whole else None


def read_delta(delta: dict[str, Any], deltas: list[Delta]) -> None:
    """Append what a chunk's `delta` holds; empty texts and empty lists, which most chunks repeat, hold nothing."""
    reasoning = delta.get("reasoning")
    if reasoning and isinstance(reasoning, str):
        deltas.append(ReasoningDelta(reasoning))
    if delta.get("reasoning_details") and (details := objects_of(delta, "reasoning_details")):
        deltas.append(ReasoningDetails(details))
    content = delta.get("content")
    if content and isinstance(content, str):
        deltas.append(TextDelta(content))
    if delta.get("tool_calls"):
        deltas.extend(_tool_call(call, place) for place, call in enumerate(objects_of(delta, "tool_calls")))
    if delta.get("images") and (images := objects_of(delta, "images")):
        deltas.append(ImagesDelta(images))
    if delta.get("annotations") and (annotations := objects_of(delta, "annotations")):
        deltas.append(AnnotationsDelta(annotations))


def completion_of(body: bytes, generation_id: str | None = None) -> Completion:
    """Read the body of a plain answer with status 200; UpstreamFailedMidStream when it is an error after all."""
    answer = _object_in(body)
    if answer is None:
        raise _failed(broken("malformed_answer"), None, generation_id)
    choice = _first_choice(answer)
    completion = _completion(answer, choice or {}, body, generation_id)
    error = _error_in(answer, choice)
    if error is not None:
        raise _failed(failed_after_200(error), completion, generation_id)
    if completion.finish_reason is None and not _says_something(completion):
        raise _failed(broken("empty_answer"), completion, generation_id)
    return completion


def embeddings_of(body: bytes, count: int, generation_id: str | None = None) -> Embeddings:
    """Read the body of embeddings with status 200; UpstreamFailedMidStream when it is not what was asked for."""
    answer = _object_in(body)
    if answer is None:
        raise _failed_embeddings(broken("malformed_answer"), None, generation_id)
    # Not parsed exactly from the body: a hundred thousand numbers may stand in it.
    usage = usage_of(_exact(json.dumps(answer["usage"]).encode())) if isinstance(answer.get("usage"), dict) else None
    generation_id = text_of(answer, "id") or generation_id
    if answer.get("error") is not None:
        raise _failed_embeddings(failed_after_200(answer["error"]), usage, generation_id)
    by_place = {_place_of(item, place): item for place, item in enumerate(objects_of(answer, "data"))}
    vectors = [packed_if_embedding(by_place.get(place, {}).get("embedding")) for place in range(count)]
    if None in vectors or len(by_place) != count:
        raise _failed_embeddings(broken("malformed_answer"), usage, generation_id)
    whole = tuple(vector for vector in vectors if vector is not None)
    return Embeddings(whole, usage, generation_id, text_of(answer, "model"))


def _place_of(item: dict[str, Any], place: int) -> int:
    index = item.get("index")
    return index if isinstance(index, int) else place


def _failed_embeddings(
    reason: UpstreamError, usage: Usage | None, generation_id: str | None
) -> UpstreamFailedMidStream:
    return UpstreamFailedMidStream(reason, usage=usage, content_delivered=False, generation_id=generation_id)


def _completion(answer: dict[str, Any], choice: dict[str, Any], body: bytes, generation_id: str | None) -> Completion:
    message = choice.get("message")
    if not isinstance(message, dict):
        message = {}
    calls = (_tool_call(call, place) for place, call in enumerate(objects_of(message, "tool_calls")))
    return Completion(
        text=text_of(message, "content") or "",
        reasoning=text_of(message, "reasoning") or "",
        tool_calls=tuple(ToolCall(call.id or "", call.name or "", call.arguments or "{}") for call in calls),
        finish_reason=text_of(choice, "finish_reason"),
        native_finish_reason=text_of(choice, "native_finish_reason"),
        usage=usage_of(_exact(body)["usage"]) if isinstance(answer.get("usage"), dict) else None,
        generation_id=text_of(answer, "id") or generation_id,
        model=text_of(answer, "model"),
        provider=text_of(answer, "provider"),
        message=message,
    )


def _failed(reason: UpstreamError, partial: Completion | None, generation_id: str | None) -> UpstreamFailedMidStream:
    said_something = partial is not None and _says_something(partial)
    return UpstreamFailedMidStream(
        reason,
        usage=partial.usage if partial else None,
        content_delivered=False,
        generation_id=partial.generation_id if partial else generation_id,
        partial=partial if said_something else None,
    )


def _says_something(completion: Completion) -> bool:
    return bool(completion.text or completion.reasoning or completion.tool_calls or completion.message.get("images"))


def _first_choice(answer: dict[str, Any]) -> dict[str, Any] | None:
    """Choice 0, the only one we ever ask for."""
    choices = answer.get("choices")
    if type(choices) is not list or not choices:
        return None
    choice = choices[0]
    return choice if type(choice) is dict and not choice.get("index") else None


def _error_in(answer: dict[str, Any], choice: dict[str, Any] | None) -> object:
    """The error of an answer or a chunk, at any of the places where one was seen; `error: null` is none."""
    error = answer.get("error")
    if error is not None:
        return error
    if choice is None:
        return None
    error = choice.get("error")
    if error is not None:
        return error
    return {} if choice.get("finish_reason") == "error" else None


def _tool_call(call: dict[str, Any], place: int) -> ToolCallDelta:
    index = call.get("index")
    function = call.get("function")
    if not isinstance(function, dict):
        function = {}
    return ToolCallDelta(
        index=index if isinstance(index, int) else place,
        id=text_of(call, "id"),
        name=text_of(function, "name"),
        arguments=text_of(function, "arguments") or "",
    )


def _object_in(payload: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(payload.decode())
    except (ValueError, RecursionError):
        return None
    return value if type(value) is dict else None


def _is_only_text(chunk: dict[str, Any], choice: dict[str, Any] | None) -> bool:
    """Whether a chunk says nothing but its text, so that another text in its place makes the same kind of chunk."""
    if choice is None or choice.get("finish_reason") or type(chunk.get("usage")) is dict:
        return False
    said: list[Delta] = []
    delta = choice.get("delta")
    if type(delta) is dict:
        read_delta(delta, said)
    return len(said) == 1 and isinstance(said[0], TextDelta)


def _exact(payload: bytes) -> dict[str, Any]:
    """Parse once more with exact fractions: it costs more, so only what holds money goes through here."""
    exact: dict[str, Any] = json.loads(payload, parse_float=Decimal)
    return exact
