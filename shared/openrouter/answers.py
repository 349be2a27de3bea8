"""What OpenRouter's answers mean to us: typed, immutable, money as integers of 1e-12 USD.

Fields that OpenRouter adds without notice are ignored; fields of an unexpected type count as absent.
"""

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

_PICO_DIGITS = 12
_COST_LIMIT_USD = 10**9


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens and the price of one call. `cost_pico_usd` is None when OpenRouter did not say, or not all of it.

    Of a call on our own provider key (`is_byok`) `cost` is OpenRouter's fee alone; the provider's price is added here.
    """

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    image_tokens: int = 0
    cost_pico_usd: int | None = None
    is_byok: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """The first thing of a stream that has an id."""

    generation_id: str
    model: str | None
    provider: str | None


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDetails:
    """Blocks to hand back unchanged on the next turn; their text repeats what `ReasoningDelta` said."""

    items: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of tool call `index`: id and name come once, `arguments` are fragments to join, possibly none at all."""

    index: int
    id: str | None
    name: str | None
    arguments: str


@dataclass(frozen=True, slots=True)
class ImagesDelta:
    """Whole images, as OpenRouter's `image_url` parts with data URLs."""

    items: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class AnnotationsDelta:
    """Citations and parsed files."""

    items: tuple[dict[str, Any], ...]


Delta = Started | TextDelta | ReasoningDelta | ReasoningDetails | ToolCallDelta | ImagesDelta | AnnotationsDelta


@dataclass(frozen=True, slots=True)
class ToolCall:
    """`arguments` is JSON text; a call for which the provider sent none gets `{}`."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole reply. `message` is the assistant's message as it came, with images and annotations."""

    text: str
    reasoning: str
    tool_calls: tuple[ToolCall, ...]
    finish_reason: str | None
    native_finish_reason: str | None
    usage: Usage | None
    generation_id: str | None
    model: str | None
    provider: str | None
    message: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One packed vector (see `vectors`) for each input, in their order."""

    vectors: tuple[str, ...] = field(repr=False)
    usage: Usage | None
    generation_id: str | None
    model: str | None


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """OpenRouter's own record of a generation: the last word on what it cost, also after a cancelled stream."""

    generation_id: str
    model: str | None
    provider: str | None
    cost_pico_usd: int | None
    is_byok: bool
    prompt_tokens: int
    completion_tokens: int
    native_prompt_tokens: int
    native_completion_tokens: int
    native_reasoning_tokens: int
    native_cached_tokens: int
    cancelled: bool
    streamed: bool
    finish_reason: str | None
    native_finish_reason: str | None


def usage_of(raw: dict[str, Any]) -> Usage:
    """Read a `usage` object whose fractions were parsed as Decimal.

    Recorded oddities are kept as they are: more reasoning than completion tokens, no prompt tokens for a video.
    """
    prompt, completion = _object(raw, "prompt_tokens_details"), _object(raw, "completion_tokens_details")
    is_byok = raw.get("is_byok") is True
    return Usage(
        prompt_tokens=_count(raw, "prompt_tokens"),
        completion_tokens=_count(raw, "completion_tokens"),
        reasoning_tokens=_count(completion, "reasoning_tokens"),
        cached_tokens=_count(prompt, "cached_tokens"),
        cache_write_tokens=_count(prompt, "cache_write_tokens"),
        image_tokens=_count(completion, "image_tokens"),
        cost_pico_usd=_total(raw.get("cost"), _object(raw, "cost_details").get("upstream_inference_cost"), is_byok),
        is_byok=is_byok,
    )


def generation_of(raw: dict[str, Any], generation_id: str) -> GenerationRecord:
    """Read the `data` of `GET /generation` whose fractions were parsed as Decimal."""
    is_byok = raw.get("is_byok") is True
    return GenerationRecord(
        generation_id=text_of(raw, "id") or generation_id,
        model=text_of(raw, "model"),
        provider=text_of(raw, "provider_name"),
        cost_pico_usd=_total(raw.get("total_cost"), raw.get("upstream_inference_cost"), is_byok),
        is_byok=is_byok,
        prompt_tokens=_count(raw, "tokens_prompt"),
        completion_tokens=_count(raw, "tokens_completion"),
        native_prompt_tokens=_count(raw, "native_tokens_prompt"),
        native_completion_tokens=_count(raw, "native_tokens_completion"),
        native_reasoning_tokens=_count(raw, "native_tokens_reasoning"),
        native_cached_tokens=_count(raw, "native_tokens_cached"),
        cancelled=raw.get("cancelled") is True,
        streamed=raw.get("streamed") is True,
        finish_reason=text_of(raw, "finish_reason"),
        native_finish_reason=text_of(raw, "native_finish_reason"),
    )


def pico_usd(amount: object) -> int | None:
    """Dollars as an integer of 1e-12 USD; None for what is no amount of money.

    The wire carries float noise (0.0076509169000000005): what lies beyond the twelfth digit is rounded away.
    """
    if isinstance(amount, bool) or not isinstance(amount, int | Decimal):
        return None
    exact = Decimal(amount)
    # The comparison also keeps `1E+999999` from becoming an integer of a million digits.
    if not (exact.is_finite() and 0 <= exact < _COST_LIMIT_USD):
        return None
    return round(exact.scaleb(_PICO_DIGITS))


def text_of(raw: dict[str, Any], name: str) -> str | None:
    value = raw.get(name)
    return value if isinstance(value, str) else None


def objects_of(raw: dict[str, Any], name: str) -> tuple[dict[str, Any], ...]:
    """The objects of the list `name`; none when it is absent, null or no list."""
    value = raw.get(name)
    return tuple(item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def _total(cost: object, provider_cost: object, is_byok: bool) -> int | None:  # noqa: FBT001  # a fact, not a switch
    fee = pico_usd(cost)
    if not is_byok or fee is None:
        return fee
    price = pico_usd(provider_cost)
    return None if price is None else fee + price


def _object(raw: dict[str, Any], name: str) -> dict[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _count(raw: dict[str, Any], name: str) -> int:
    value = raw.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0
