"""Embeddings: unit vectors of hashed words and letter groups, so that similar texts lie close together."""

from __future__ import annotations

import asyncio
import math
import re
import sys
import zlib
from array import array
from base64 import b64encode
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from emulator.openrouter import catalogue, errors, text
from emulator.openrouter.accounts import preflight
from emulator.openrouter.calls import Call
from emulator.openrouter.pricing import Bill, Tokens
from emulator.openrouter.providers import choose

if TYPE_CHECKING:
    from emulator.openrouter.catalogue import Model

MAX_INPUTS: Final = 2048
GROUP_LENGTH: Final = 4
WORD_WEIGHT: Final = 2.0
# Beyond this the ends of words say little new; it keeps long documents cheap.
MAX_FEATURE_CHARACTERS: Final = 20_000
_WORD: Final = re.compile(r"\w+")
_SIGN_BIT: Final = 1 << 31


def vector(content: str, dimensions: int) -> list[float]:
    """A unit vector: every word and every group of four letters adds or takes away at a place its hash chooses."""
    values = [0.0] * dimensions
    for feature, weight in _features(content):
        digest = zlib.crc32(feature.encode("utf-8", "replace"))
        values[digest % dimensions] += weight if digest & _SIGN_BIT else -weight
    length = math.sqrt(sum(value * value for value in values))
    if length == 0:  # nothing but punctuation, or features that cancel out
        values[zlib.crc32(content.encode("utf-8", "replace")) % dimensions] = length = 1.0
    return [value / length for value in values]


def _features(content: str) -> list[tuple[str, float]]:
    features = []
    for word in _WORD.findall(content[:MAX_FEATURE_CHARACTERS].lower()):
        features.append((word, WORD_WEIGHT))
        padded = f" {word} "
        groups = range(max(1, len(padded) - GROUP_LENGTH + 1))
        features += [(f"#{padded[start : start + GROUP_LENGTH]}", 1.0) for start in groups]
    return features


@lru_cache(maxsize=512)
def packed(content: str, dimensions: int) -> bytes:
    """The vector as little-endian float32, the way base64 answers carry it."""
    floats = array("f", vector(content, dimensions))
    if sys.byteorder == "big":
        floats.byteswap()
    return floats.tobytes()


def similarity(first: str, second: str, dimensions: int = 1536) -> float:
    """The cosine of two texts, between -1 and 1."""
    return sum(a * b for a, b in zip(vector(first, dimensions), vector(second, dimensions), strict=True))


@dataclass(frozen=True, slots=True)
class Input:
    content: str
    tokens: int


def read_inputs(value: Any) -> list[Input]:
    """A string, strings, token ids, lists of them, or objects with parts. Raises ApiError 400."""
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, list) or not value or len(value) > MAX_INPUTS:
        raise errors.invalid_request(f"Invalid request parameters: input: expected 1 to {MAX_INPUTS} inputs")
    if all(_is_token(each) for each in value):
        return [_of_tokens(value)]
    return [_input(each) for each in value]


def _input(value: Any) -> Input:
    if isinstance(value, str) and value:
        return Input(text.clean(value), text.count_tokens(value))
    if isinstance(value, list) and value and all(_is_token(each) for each in value):
        return _of_tokens(value)
    if isinstance(value, dict) and isinstance(value.get("content"), list) and value["content"]:
        parts = [text.clean(part["text"]) for part in value["content"] if _is_text_part(part)]
        content = "\n".join(parts)
        return Input(content, max(1, text.count_tokens(content)))
    raise errors.invalid_request("Invalid request parameters: input: expected text, token ids or content parts")


def _of_tokens(ids: list[int]) -> Input:
    return Input(" ".join(map(str, ids)), len(ids))


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


async def create(call: Call) -> None:
    """POST /embeddings."""
    body = call.body if isinstance(call.body, dict) else {}
    model = _model(body)
    provider = choose(model, body.get("provider"))
    call.raise_asked_error(call.faults, model.id, provider)
    inputs = read_inputs(body.get("input"))
    if call.faults.flag("context_overflow") or any(each.tokens > model.context_length for each in inputs):
        longest = max(each.tokens for each in inputs)
        raise errors.context_length_exceeded(model.context_length, longest, 0)
    dimensions = _dimensions(body, model)
    as_base64 = _wants_base64(body)
    tokens = Tokens(prompt=sum(each.tokens for each in inputs))
    account = call.account
    preflight(account.balance, model.price, prompt_tokens=tokens.prompt, max_tokens=0, free=model.is_free)
    generation = call.new_generation(model, model.id, provider, "embeddings")
    bill = Bill(tokens, model.price.cost(tokens), byok=call.faults.flag("byok"))
    try:
        await asyncio.sleep((call.faults.number("first_token_delay_ms") or 0) / 1000)
    except asyncio.CancelledError:
        call.settle(generation, Bill(tokens, bill.cost, waived=True), cancelled=True)
        raise
    if call.faults.choice("error_200"):
        call.settle(generation, Bill(tokens, bill.cost, waived=True))
        await call.send_json({"error": {"code": 502, "message": "Provider returned error"}})
        return
    call.settle(generation, bill)
    shown = model.canonical_slug if call.faults.flag("permaslug") else model.id
    await call.send_json(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "embedding": _shown(each.content, dimensions, as_base64=as_base64), "index": n}
                for n, each in enumerate(inputs)
            ],
            "model": shown,
            "usage": _usage(bill, noisy=call.faults.flag("float_noise")),
            "provider": provider,
            "id": generation.id,
        },
        headers={"X-Generation-Id": generation.id},
    )


def _model(body: dict[str, Any]) -> Model:
    name = body.get("model")
    if not isinstance(name, str):
        raise errors.invalid_request("No models provided")
    resolved = catalogue.find(name.partition("#")[0])
    if resolved is None:
        raise errors.invalid_request(f"{text.clean(name)} is not a valid model ID")
    if not resolved.model.dimensions:
        raise errors.not_found("No endpoints found that support the requested output modalities: embeddings")
    return resolved.model


def _dimensions(body: dict[str, Any], model: Model) -> int:
    asked = body.get("dimensions")
    if asked is None:
        return model.dimensions
    if not _is_token(asked) or not 1 <= asked <= model.dimensions:
        raise errors.invalid_request(f"Invalid request parameters: dimensions: expected 1 to {model.dimensions}")
    return int(asked)


def _wants_base64(body: dict[str, Any]) -> bool:
    asked = body.get("encoding_format") or "float"
    if asked not in ("float", "base64"):
        raise errors.invalid_request("Invalid request parameters: encoding_format: expected float or base64")
    return bool(asked == "base64")


def _shown(content: str, dimensions: int, *, as_base64: bool) -> str | list[float]:
    return b64encode(packed(content, dimensions)).decode() if as_base64 else vector(content, dimensions)


def _usage(bill: Bill, *, noisy: bool) -> dict[str, Any]:
    usage = bill.usage(noisy=noisy)
    return {
        "prompt_tokens": usage["prompt_tokens"],
        "total_tokens": usage["total_tokens"],
        "cost": usage["cost"],
        "is_byok": usage["is_byok"],
        "cost_details": usage["cost_details"],
        "prompt_tokens_details": {"text_tokens": usage["prompt_tokens"]},
    }
