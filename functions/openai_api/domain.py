"""Rules of the OpenAI-compatible API: which conversations make sense, and what embeddings may cost. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal, localcontext
from typing import Any

from shared.errors import FieldError, InvalidRequest, NotFound

PICO_USD_PER_USD = 10**12
_EXACT = Context(prec=80)
_OUR_IDS, _OPENAI_IDS = "gen_", "chatcmpl-"
_OPENAI = "openai/"
_MARKS = 2


class ModelNotFound(NotFound):
    """No model of this name is offered, or none for this purpose."""

    code, status, title = "model_not_found", 404, "There is no such model"


def model_not_found(name: str, field: str = "model") -> ModelNotFound:
    problem = FieldError(field, "is not offered; GET /v1/models lists what is")
    return ModelNotFound(
        f"The model {name[:200]!r} does not exist or is not offered; GET /v1/models lists what is.", fields=[problem]
    )


def slug_of(name: str) -> str:
    """Our name of a model: what comes without an author is taken for one of OpenAI's own (`gpt-4o-mini`)."""
    return name if "/" in name else f"{_OPENAI}{name}"


def completion_id(generation_id: str) -> str:
    return _OPENAI_IDS + generation_id.removeprefix(_OUR_IDS)


# Conversations


def require_sense(messages: Sequence[Mapping[str, Any]], tools: Iterable[str], chosen: str | None) -> None:
    """The rules that hold between messages. Raises InvalidRequest naming the field.

    Results of tools answer calls of the assistant's message before them, each once and all of them. That message says
    something or calls something; a tool that must be used is one of those given.
    """
    waiting: set[str] = set()
    asked_at = 0
    for place, message in enumerate(messages):
        role = message["role"]
        if role == "tool":
            if message["tool_call_id"] not in waiting:
                problem = "answers no open tool call of the assistant's message before it"
                raise InvalidRequest.of(f"messages[{place}].tool_call_id", problem)
            waiting.remove(message["tool_call_id"])
            continue
        _require_answered(waiting, asked_at)
        if role == "assistant":
            waiting, asked_at = _calls_of(message, place), place
    _require_answered(waiting, asked_at)
    if chosen is not None and chosen not in set(tools):
        raise InvalidRequest.of("tool_choice.function.name", "is none of the tools")


def _calls_of(message: Mapping[str, Any], place: int) -> set[str]:
    calls = message.get("tool_calls") or ()
    if not calls and message.get("content") is None and message.get("refusal") is None:
        raise InvalidRequest.of(f"messages[{place}].content", "is missing: there are no tool_calls either")
    seen: set[str] = set()
    for number, call in enumerate(calls):
        if call["id"] in seen:
            raise InvalidRequest.of(f"messages[{place}].tool_calls[{number}].id", "is that of another call")
        seen.add(call["id"])
    return seen


def _require_answered(waiting: set[str], place: int) -> None:
    if waiting:
        named = ", ".join(sorted(waiting)[:5])
        problem = f"must be followed by a tool message for every call; there is none for {named}"
        raise InvalidRequest.of(f"messages[{place}].tool_calls", problem)


# Embeddings


@dataclass(frozen=True)
class EmbeddingModel:
    """A model that makes embeddings, with its highest prices in USD per token (`request_usd`: per call)."""

    slug: str
    name: str
    context_tokens: int
    prompt_usd: Decimal
    request_usd: Decimal


@dataclass(frozen=True)
class Wish:
    """What shall be embedded. `inputs` are texts, or texts as the numbers of their tokens."""

    model: str
    inputs: tuple[str, ...] | tuple[tuple[int, ...], ...]
    dimensions: int | None = None


def embedding_model_from_upstream(entry: Mapping[str, Any]) -> EmbeddingModel | None:
    """An entry of OpenRouter's `GET /embeddings/models`; None when its price is not known or varies ("-1").

    Prices that rise with the prompt or the hour (`overrides`) count at their highest. Raises KeyError, TypeError,
    ValueError or ArithmeticError for an entry of an unknown shape.
    """
    pricing = entry["pricing"]
    each = [pricing, *({**pricing, **override} for override in pricing.get("overrides") or ())]
    prompt = [Decimal(prices["prompt"]) for prices in each]
    request = [Decimal(prices.get("request") or "0") for prices in each]
    known = all(price.is_finite() and price >= 0 for price in [*prompt, *request])
    if not known or "embeddings" not in entry["architecture"]["output_modalities"]:
        return None
    return EmbeddingModel(
        slug=str(entry["id"]),
        name=str(entry.get("name") or entry["id"]),
        context_tokens=int(entry["context_length"]),
        prompt_usd=max(prompt),
        request_usd=max(request),
    )


def most_tokens(wish: Wish) -> int:
    """No tokenizer in use makes more tokens than a text has bytes, but for the two that mark its ends."""
    return sum(_MARKS + (len(each.encode()) if isinstance(each, str) else len(each)) for each in wish.inputs)


def cost_pico_usd(model: EmbeddingModel, tokens: int) -> int:
    """What so many tokens cost at most, rounded up."""
    with localcontext(_EXACT):
        usd = model.prompt_usd * tokens + model.request_usd
        return int((usd * PICO_USD_PER_USD).to_integral_value(ROUND_CEILING))
