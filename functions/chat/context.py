"""What of a conversation goes to the model: the newest messages of one branch, and a summary of what lies before. Pure.

The context is kept beside the conversation, packed as one text, so that a turn reads the same little of a conversation
of two messages and of two thousand. It is a copy: whoever changes the tree otherwise throws it away, and the next turn
makes it anew from the messages.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from functions.chat.domain import MAX_HISTORY_MESSAGES, MESSAGE_OVERHEAD_TOKENS, Message, text_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

KEPT_BEYOND_BUDGET = 1.5
"""More is kept than is sent, so that a summary has time to be written before the oldest messages leave."""
MAX_KEPT_BYTES = 400 * 1024
MAX_SUMMARY_BYTES = 6 * 1024
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
        """The context after these messages; the oldest ones leave when there are too many."""
        room = min(int(budget_bytes * KEPT_BEYOND_BUDGET), MAX_KEPT_BYTES)
        kept: list[Message] = []
        for message in reversed([*self.messages, *new]):
            room -= size_of(message)
            if kept and (room < 0 or len(kept) >= 2 * MAX_HISTORY_MESSAGES):
                break
            kept.append(_cut(message, MAX_KEPT_BYTES // 2))
        return replace(self, tip=new[-1].id if new else self.tip, messages=tuple(kept[::-1]))

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

    A message that would fit in no budget is cut in its middle. No tokenizer in use makes more tokens than the text has
    bytes, so a budget in bytes bounds the tokens.
    """
    summary = _middle_out(context.summary, min(MAX_SUMMARY_BYTES, budget_bytes // 4))
    left = budget_bytes - len(summary.encode())
    chosen: list[Message] = []
    for message in reversed(context.messages):
        size = size_of(message)
        if size > left and not chosen:
            message = _cut(message, max(left - MESSAGE_OVERHEAD_TOKENS, 0))  # noqa: PLW2901  # the same one, shorter
            size = size_of(message)
        left -= size
        if left < 0 or len(chosen) == MAX_HISTORY_MESSAGES:
            break
        chosen.append(message)
    return summary, _well_formed(chosen[::-1])


def size_of(message: Message) -> int:
    """How much of the budget a message takes. Attachments are held for on their own."""
    details = len((message.reasoning_details or "").encode())
    return MESSAGE_OVERHEAD_TOKENS + sum(map(text_bytes, message.parts)) + details


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
