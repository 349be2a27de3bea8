"""What of a conversation goes to the model: the newest messages of one branch, and a summary of what lies before. Pure.

The context is kept beside the conversation, packed as one text, so that a turn reads the same little of a conversation
of two messages and of two thousand. It is a copy: whoever changes the tree otherwise throws it away, and the next turn
makes it anew from the messages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from functions.chat.domain import MAX_HISTORY_MESSAGES, MESSAGE_OVERHEAD_TOKENS, Message, Role, text_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from functions.chat.domain import Part

KEPT_BEYOND_BUDGET = 1.5
"""More is kept than is sent, so that a summary has time to be written before the oldest messages leave."""
MAX_KEPT_BYTES = 400 * 1024
MAX_PACKED_BYTES = 900_000
"""What fits into a document beside the summary. Packed, a text takes up to six times its size."""
MAX_SUMMARY_BYTES = 6 * 1024
_AROUND_A_TEXT, _AROUND_A_MESSAGE = 2, 1_500
"""What joins the texts of a message; and the most that is packed beside the text of a part or a message."""
_CUT = "\n[…]\n"


@dataclass(frozen=True)
class Context:
    """The end of one branch. `messages` are the newest up to `tip`, the oldest first."""

    tip: str | None = None
    messages: tuple[Message, ...] = ()
    summary: str = ""
    summarised_to: str | None = None
    """The newest message that the summary covers; those after it are in `messages`, or were never summarised."""

    def up_to(self, message_id: str | None) -> Context | None:
        """The same branch, ending at one of its messages; None when that is not among those kept."""
        if message_id == self.tip:
            return self
        for place, message in enumerate(self.messages):
            if message.id == message_id:
                return replace(self, tip=message_id, messages=self.messages[: place + 1])
        return None

    def followed_by(self, new: Sequence[Message], *, budget_bytes: int) -> Context:
        """The context after these messages; the oldest ones leave when there are too many. Messages are kept whole:
        the last question may be answered once more.

        One of no branch, to be made anew by the next turn, when the last exchange is more than is kept.
        """
        messages = [*self.messages, *new]
        exchange_bytes = sum(map(size_of, _last_exchange(messages)))
        room = max(min(int(budget_bytes * KEPT_BEYOND_BUDGET), MAX_KEPT_BYTES), exchange_bytes)
        kept = _newest(messages, room, 2 * MAX_HISTORY_MESSAGES)
        after = replace(self, tip=new[-1].id if new else self.tip, messages=tuple(kept))
        if exchange_bytes <= MAX_KEPT_BYTES and _can_be_packed(after):
            return after
        return replace(self, tip=None, messages=())

    def summarised(self, summary: str, to: str) -> Context:
        """With a new summary in the place of its messages up to `to`."""
        places = [place for place, message in enumerate(self.messages) if message.id == to]
        left = self.messages[places[0] + 1 :] if places else self.messages
        return replace(self, messages=left, summary=summary, summarised_to=to)

    @property
    def bytes(self) -> int:
        return sum(map(size_of, self.messages))


def fitting(context: Context, budget_bytes: int) -> tuple[str, list[Message]]:
    """The summary, and the newest messages that fit the budget with it, the oldest first.

    The last question always goes along with all that followed it: what is too long of it is cut in its middle. No
    tokenizer in use makes more tokens than the text has bytes, so a budget in bytes bounds the tokens.
    """
    summary = _middle_out(context.summary, min(MAX_SUMMARY_BYTES, budget_bytes // 4))
    chosen = _newest(context.messages, budget_bytes - len(summary.encode()), MAX_HISTORY_MESSAGES)
    return summary, _well_formed(chosen)


def size_of(message: Message) -> int:
    """How much of the budget a message takes. Attachments are held for on their own."""
    details = len((message.reasoning_details or "").encode())
    return MESSAGE_OVERHEAD_TOKENS + parts_size(message.parts) + details


def parts_size(parts: Iterable[Part]) -> int:
    """What the parts of a message take. Each result of a tool goes to the model as a message of its own."""
    return sum(
        text_bytes(part)
        + (
            len((part.get("id") or part.get("tool_call_id") or "").encode()) + MESSAGE_OVERHEAD_TOKENS
            if part["type"] in ("tool_call", "tool_result")
            else _AROUND_A_TEXT
        )
        for part in parts
    )


def to_json(context: Context) -> str:
    packed = [
        [each.id, each.parent_id, each.role, [dict(part) for part in each.parts], each.reasoning_details]
        for each in context.messages
    ]
    return json.dumps(packed, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> tuple[Message, ...]:
    return tuple(
        Message(id=message_id, parent_id=parent_id, role=role, parts=tuple(parts), reasoning_details=details)
        for message_id, parent_id, role, parts, details in json.loads(text)
    )


def for_context(message_id: str, parent_id: str | None, role: str, parts: Sequence[dict[str, object]]) -> Message:
    """A message with what a model is shown of it: neither its reasoning nor its citations."""
    shown = tuple(part for part in parts if part["type"] not in ("reasoning", "citation"))
    return Message(id=message_id, parent_id=parent_id, role=role, parts=shown)


def _newest(messages: Sequence[Message], room: int, most: int) -> list[Message]:
    """The newest messages, at most so many and so large, the oldest first; the last exchange in any case, shortened
    when it has to be. Nothing when that cannot be shortened so much.
    """
    exchange = _last_exchange(messages)
    if len(exchange) > most or sum(map(size_of, exchange)) > room:
        return _shortened(exchange, room, most)
    chosen: list[Message] = []
    for message in reversed(messages):
        room -= size_of(message)
        if room < 0 or len(chosen) == most:
            break
        chosen.append(message)
    return chosen[::-1]


def _last_exchange(messages: Sequence[Message]) -> Sequence[Message]:
    """The last question and what followed it: the answer, or calls of tools and their results, one after the other."""
    places = [place for place, message in enumerate(messages) if message.role == Role.USER]
    return messages[places[-1] :] if places else messages[-1:]


def _shortened(exchange: Sequence[Message], room: int, most: int) -> list[Message]:
    """An exchange with its longest texts cut, and when that is not enough, without the oldest answers in its middle.

    Its question stays, and its end: results of tools mean nothing to a model without the calls that they answer.
    """
    question, answers = exchange[0], list(exchange[1:])
    while True:
        cut = _levelled([question, *answers], room) if len(answers) < most else []
        if cut and sum(map(size_of, cut)) <= room:
            return cut
        answers = answers[1:]
        while answers and answers[0].role == Role.TOOL:
            answers = answers[1:]
        if not answers:
            return []


def _levelled(messages: Sequence[Message], room: int) -> list[Message]:
    """The messages with the texts of the largest cut to one size, so that together they fit, if texts are all."""
    for place, size in enumerate(sorted(map(size_of, messages))):
        share = max(room, 0) // (len(messages) - place)
        if size > share:
            return [_cut(message, share) for message in messages]
        room -= size
    return list(messages)


def _can_be_packed(context: Context) -> bool:
    """Measured only where it is in doubt: nearly every context is far smaller than a document may be."""
    around = sum(1 + len(message.parts) for message in context.messages) * _AROUND_A_MESSAGE
    return 6 * context.bytes + around <= MAX_PACKED_BYTES or len(to_json(context).encode()) <= MAX_PACKED_BYTES


def _well_formed(messages: list[Message]) -> list[Message]:
    """Without what models refuse at the start: an answer to nothing, or results of calls that were cut off."""
    for place, message in enumerate(messages):
        if message.role == "user":
            return messages[place:]
    return []


def _cut(message: Message, most_bytes: int) -> Message:
    """The message with its texts cut in the middle until they fit."""
    too_much = size_of(message) - most_bytes
    if too_much <= 0:
        return message
    parts = []
    for part in message.parts:
        if part["type"] in ("text", "tool_result") and too_much > 0:
            shorter = _middle_out(part["text"], max(len(part["text"].encode()) - too_much, 0))
            too_much -= len(part["text"].encode()) - len(shorter.encode())
            parts.append({**part, "text": shorter})
        else:
            parts.append(dict(part))
    return replace(message, parts=tuple(parts), reasoning_details=None)


def _middle_out(text: str, most_bytes: int) -> str:
    if len(text.encode()) <= most_bytes:
        return text
    room = most_bytes - len(_CUT.encode())
    if room <= 0:
        return ""
    raw = text.encode()
    head = raw[: room // 2].decode(errors="ignore")
    tail = raw[len(raw) - (room - room // 2) :].decode(errors="ignore")
    return f"{head}{_CUT}{tail}"
