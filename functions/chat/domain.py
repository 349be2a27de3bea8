"""Rules of conversations and turns. Pure: no Firestore, no clock, no network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from shared.errors import InvalidRequest

DEFAULT_CONTEXT_TOKENS = 32_000
"""How much of a conversation goes along with a question, unless its user says otherwise; part of what is held."""
MIN_CONTEXT_TOKENS, MAX_CONTEXT_TOKENS = 1_000, 256_000
MESSAGE_OVERHEAD_TOKENS = 8
"""An upper bound of what a chat format adds around each message."""
MAX_HISTORY_MESSAGES = 64
MAX_PARTS = 32
TITLE_CHARS = 60
UNTITLED = "New conversation"
MAX_TAGS = 20
DEFAULT_RETENTION = timedelta(hours=24)
"""How long a temporary chat is kept."""
MAX_RETENTION = timedelta(days=30)

_FRAGMENTS = ("text", "summary", "data")

Part = Mapping[str, Any]
"""What a message is made of; `type` says which of `schemas.Part` it is."""


class Status(StrEnum):
    """Where a generation, and the message it makes, stands."""

    RUNNING = "running"
    COMPLETED = "completed"
    STOPPED = "stopped"
    """The user ended it; what was written is kept."""
    FAILED = "failed"
    """The provider failed; what had arrived before is kept."""
    INTERRUPTED = "interrupted"
    """The process that made it died; what it had logged is kept."""


class Role(StrEnum):
    """Who says a message."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


class ConversationState(StrEnum):
    """Where a conversation is kept."""

    ACTIVE = "active"
    ARCHIVED = "archived"
    TEMPORARY = "temporary"
    """In no list, not searched, without a title, and deleted after a while."""


@dataclass(frozen=True)
class Message:
    """A node of the message tree, as far as the rules need it."""

    id: str
    parent_id: str | None
    role: str
    parts: tuple[Part, ...]
    reasoning_details: str | None = None
    """What the provider said about its reasoning, as JSON: it wants it back unchanged with the results of tools."""

    @property
    def text(self) -> str:
        return "\n\n".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def tool_calls(self) -> list[Part]:
        return [part for part in self.parts if part["type"] == "tool_call"]

    @property
    def tool_results(self) -> list[Part]:
        return [part for part in self.parts if part["type"] == "tool_result"]

    @property
    def attachments(self) -> list[Part]:
        return [part for part in self.parts if part["type"] in ("image", "file")]


@dataclass(frozen=True)
class Settings:
    """How a conversation's answers are made. What is None is left to the model and to the product."""

    system_prompt: str | None = None
    model: str | None = None
    fallbacks: tuple[str, ...] | None = None
    context_tokens: int | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning: Mapping[str, Any] | None = None

    def over(self, weaker: Settings) -> Settings:
        """These settings, and of the weaker ones what these leave open."""
        said = {name: value for name, value in self.said().items() if value is not None}
        return replace(weaker, **said)

    def said(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}


@dataclass(frozen=True)
class Question:
    """What a user asks, and how the answer shall be made. At most one of the three places is given."""

    parts: tuple[Part, ...] = ()
    role: Role = Role.USER
    parent_id: str | None = None
    """The message this one follows; the end of the conversation when None."""
    replaces: str | None = None
    """The user's message in whose place this one stands: its sibling."""
    regenerates: str | None = None
    """The message to answer once more; there is no message of the user's own then."""
    continues: str | None = None
    """The answer to go on with; there is no message of the user's own then."""
    settings: Settings = field(default_factory=Settings)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """What else the model is told, by the names OpenRouter has for it: tools, the form of the answer."""

    @property
    def adds_message(self) -> bool:
        return self.regenerates is None and self.continues is None


@dataclass(frozen=True)
class Prompt:
    """A request to a model outside any conversation, in the words of OpenRouter."""

    messages: tuple[Mapping[str, Any], ...]
    model: str | None = None
    fallbacks: tuple[str, ...] = ()
    max_tokens: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Everything else that goes to the model: temperature, tools, the form of the answer."""


@dataclass(frozen=True)
class Generation:
    """One answer in the making, as it is stored while it runs: enough for somebody else to end it properly."""

    id: str
    uid: str
    conversation_id: str | None
    """None when it belongs to no conversation, and nothing of it is kept but its cost."""
    message_id: str
    user_message_id: str | None
    """The message that is stored together with the answer, if there is one."""
    parent_id: str | None
    """What the user's message follows; without one, what the answer follows."""
    model: str
    markup_percent: int
    started_at: datetime
    question: tuple[Part, ...] = ()
    question_role: str = Role.USER.value
    continues: str | None = None
    status: Status = Status.RUNNING
    ended_at: datetime | None = None
    error: str | None = None
    settlement_pending: bool = False
    settle_after: datetime | None = None
    upstream_id: str | None = None
    model_used: str | None = None


@dataclass(frozen=True)
class TokenUsage:
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    cost_pico_usd: int


NO_COST = TokenUsage(prompt_tokens=0, completion_tokens=0, reasoning_tokens=0, cached_tokens=0, cost_pico_usd=0)


@dataclass(frozen=True)
class Outcome:
    """How a generation ended. `usage` is None while the provider has not told the cost."""

    status: Status
    ended_at: datetime
    text: str = ""
    reasoning: str = ""
    reasoning_details: tuple[Mapping[str, Any], ...] = ()
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    """Each with `index`, `id`, `name` and `arguments` (JSON text)."""
    citations: tuple[Mapping[str, Any], ...] = ()
    """Each with `url`, `title`, `start` and `end`."""
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    upstream_id: str | None = None
    model_used: str | None = None
    error_code: str | None = None

    @property
    def says_something(self) -> bool:
        return bool(self.text or self.reasoning or self.tool_calls)

    @property
    def parts(self) -> list[dict[str, Any]]:
        """The answer as the parts of a message."""
        parts: list[dict[str, Any]] = []
        if self.reasoning:
            parts.append({"type": "reasoning", "text": self.reasoning})
        if self.text or not self.tool_calls:
            parts.append({"type": "text", "text": self.text})
        for call in self.tool_calls:
            named = {name: call[name] for name in ("id", "name", "arguments")}
            parts.append({"type": "tool_call", **named})
        parts += [{"type": "citation", **citation} for citation in self.citations]
        return parts


def overflowing_field(generation: Generation) -> str:
    """What of the request to make shorter, or otherwise, when the model cannot read so much."""
    if generation.conversation_id is None:
        return "messages"
    if generation.user_message_id is None:
        return "model"  # an answer is made anew, or gone on with: nothing was sent but how
    return "tool_results" if generation.question_role == Role.TOOL else "content"


def require_answers_to_calls(results: Sequence[Part], asked: Message | None) -> None:
    """Results of tools answer exactly the calls of the message they follow. Raises InvalidRequest naming the field."""
    open_calls = {call["id"] for call in asked.tool_calls} if asked else set()
    for place, result in enumerate(results):
        if result["tool_call_id"] not in open_calls:
            problem = "answers no open call of the message it follows"
            raise InvalidRequest.of(f"tool_results[{place}].tool_call_id", problem)
        open_calls.remove(result["tool_call_id"])
    if open_calls:
        missing = ", ".join(sorted(open_calls))
        raise InvalidRequest.of("tool_results", f"must answer every call of the message; without an answer: {missing}")


def text_bytes(part: Part) -> int:
    """How much text of a part reaches a model."""
    kind = part["type"]
    if kind in ("text", "tool_result"):
        return len(part["text"].encode())
    if kind == "tool_call":
        return len(part["arguments"].encode()) + len(part["name"].encode())
    return 0


def title_from(text: str) -> str:
    """A title made of the first words of what the user asked."""
    line = " ".join(text.split())
    if len(line) <= TITLE_CHARS:
        return line or UNTITLED
    words, _, _ = line[:TITLE_CHARS].rpartition(" ")
    return f"{words or line[: TITLE_CHARS - 1]}…"


def merged_reasoning(items: Sequence[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    """Fragments of reasoning details as whole ones: neighbours of the same index and type, their texts joined.

    Providers take them back only whole and in order
    (https://openrouter.ai/docs/use-cases/reasoning-tokens#preserving-reasoning-blocks).
    """
    whole: list[dict[str, Any]] = []
    for item in items:
        last = whole[-1] if whole else None
        if last is not None and all(last.get(name) == item.get(name) for name in ("type", "index")):
            for name, value in item.items():
                if name in _FRAGMENTS and isinstance(value, str) and isinstance(last.get(name), str):
                    last[name] += value
                elif value is not None:
                    last[name] = value
        else:
            whole.append(dict(item))
    return tuple(whole)


def json_bytes(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
