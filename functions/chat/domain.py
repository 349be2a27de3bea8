"""Rules of a chat turn. Pure: no Firestore, no clock, no network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from enum import StrEnum
from typing import Any

DEFAULT_MODEL = "openai/gpt-4o-mini"
DEFAULT_ANSWER_TOKENS = 2048
HISTORY_BUDGET_BYTES = 16 * 1024
"""How much of the conversation goes along with a new message; part of what a hold must cover."""
MESSAGE_OVERHEAD_TOKENS = 8
"""An upper bound of what a chat format adds around each message."""
MAX_HISTORY_MESSAGES = 24
TITLE_CHARS = 60
UNTITLED = "New conversation"

PICO_USD_PER_USD = 10**12


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


@dataclass(frozen=True)
class Model:
    """A model that may be asked, with its highest prices in USD per token (`request_usd`: per call)."""

    slug: str
    name: str
    context_tokens: int
    max_answer_tokens: int
    prompt_usd: Decimal
    completion_usd: Decimal
    request_usd: Decimal


@dataclass(frozen=True)
class Message:
    """A node of the message tree, as far as the rules need it."""

    id: str
    parent_id: str | None
    role: str
    text: str


@dataclass(frozen=True)
class Question:
    """What a user asks, and how the answer shall be made."""

    text: str
    model: str | None = None
    parent_id: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None


@dataclass(frozen=True)
class Generation:
    """One answer in the making, as it is stored while it runs: enough for somebody else to end it properly."""

    id: str
    uid: str
    conversation_id: str
    message_id: str
    user_message_id: str
    parent_id: str | None
    question: str
    model: str
    started_at: datetime
    status: Status = Status.RUNNING
    ended_at: datetime | None = None
    error: str | None = None
    settlement_pending: bool = False
    upstream_id: str | None = None
    model_used: str | None = None


@dataclass(frozen=True)
class TokenUsage:
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    cost_pico_usd: int


@dataclass(frozen=True)
class Outcome:
    """How a generation ended. `usage` is None while the provider has not told the cost."""

    status: Status
    ended_at: datetime
    text: str = ""
    reasoning: str = ""
    finish_reason: str | None = None
    usage: TokenUsage | None = None
    upstream_id: str | None = None
    model_used: str | None = None
    error_code: str | None = None


def model_from_upstream(entry: Mapping[str, Any]) -> Model | None:
    """A catalogue entry of OpenRouter as a model; None when it does not chat or its price cannot be bounded.

    A price of "-1" means variable and is never multiplied; prices that rise with the prompt or the hour (`overrides`)
    count at their highest. Source: OpenRouter's `GET /models`.
    """
    if "text" not in entry["architecture"]["output_modalities"]:
        return None
    prices = [entry["pricing"], *entry["pricing"].get("overrides", ())]
    highest = {
        kind: max(Decimal(price.get(kind, "0")) for price in prices) for kind in ("prompt", "completion", "request")
    }
    if any(Decimal(price.get(kind, "0")) < 0 for price in prices for kind in highest):
        return None
    context_tokens = entry.get("context_length") or DEFAULT_ANSWER_TOKENS * 2
    return Model(
        slug=entry["id"],
        name=entry["name"],
        context_tokens=context_tokens,
        max_answer_tokens=(entry.get("top_provider") or {}).get("max_completion_tokens") or context_tokens,
        prompt_usd=highest["prompt"],
        completion_usd=highest["completion"],
        request_usd=highest["request"],
    )


def answer_tokens(model: Model, asked: int | None) -> int:
    """How many tokens the answer may have: what was asked for, within what the model can do."""
    return min(asked or DEFAULT_ANSWER_TOKENS, model.max_answer_tokens)


def highest_cost_pico_usd(model: Model, *, question: str, max_answer_tokens: int) -> int:
    """What a turn can cost at most, whatever the conversation holds.

    No tokenizer in use makes more tokens than the text has bytes, so bytes bound the prompt.
    """
    prompt_tokens = len(question.encode()) + HISTORY_BUDGET_BYTES + MESSAGE_OVERHEAD_TOKENS * (MAX_HISTORY_MESSAGES + 1)
    usd = (
        model.prompt_usd * min(prompt_tokens, model.context_tokens)
        + model.completion_usd * max_answer_tokens
        + model.request_usd
    )
    return int((usd * PICO_USD_PER_USD).to_integral_value(ROUND_CEILING))


def path_to(message_id: str | None, messages: Mapping[str, Message]) -> tuple[list[Message], str | None]:
    """The branch that ends at `message_id`, oldest first, and the first ancestor that is not among `messages`."""
    path: list[Message] = []
    seen: set[str] = set()
    while message_id is not None and message_id not in seen:
        message = messages.get(message_id)
        if message is None:
            return path[::-1], message_id
        seen.add(message_id)
        path.append(message)
        message_id = message.parent_id
    return path[::-1], None


def within_budget(path: Sequence[Message]) -> list[Message]:
    """The newest messages of a branch that fit the history budget, oldest first; without empty ones."""
    chosen: list[Message] = []
    left = HISTORY_BUDGET_BYTES
    for message in reversed([message for message in path if message.text]):
        left -= len(message.text.encode())
        if left < 0 or len(chosen) == MAX_HISTORY_MESSAGES:
            break
        chosen.append(message)
    return chosen[::-1]


def title_from(text: str) -> str:
    """A title made of the first words of what the user asked."""
    line = " ".join(text.split())
    if len(line) <= TITLE_CHARS:
        return line or UNTITLED
    words, _, _ = line[:TITLE_CHARS].rpartition(" ")
    return f"{words or line[: TITLE_CHARS - 1]}…"
