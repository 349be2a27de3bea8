"""What can be read without generating: models, endpoints, providers, the key, the credits, a generation."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

from emulator.openrouter import catalogue, errors

if TYPE_CHECKING:
    from emulator.openrouter.calls import Call
    from emulator.openrouter.catalogue import Model

DEFAULT_LIMIT: Final = 500
MAX_LIMIT: Final = 1000


async def models(call: Call) -> None:
    """GET /models: filtered, then one page."""
    query = call.exchange.request.query
    found = [model for model in catalogue.MODELS if _wanted(model, query)]
    offset = _number(query, "offset", 0, 0, None)
    limit = _number(query, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT)
    page = found[offset : offset + limit]
    after = offset + limit
    following = (
        f"/api/v1/models?{urlencode({**query, 'offset': after, 'limit': limit})}" if after < len(found) else None
    )
    await call.send_json(
        {"data": [model.public for model in page], "total_count": len(found), "links": {"next": following}}
    )


async def model_count(call: Call) -> None:
    """GET /models/count."""
    query = call.exchange.request.query
    await call.send_json({"data": {"count": sum(_wanted(model, query) for model in catalogue.MODELS)}})


async def embedding_models(call: Call) -> None:
    """GET /embeddings/models."""
    found = [model.public for model in catalogue.MODELS if model.dimensions]
    await call.send_json({"data": found, "total_count": len(found), "links": {"next": None}})


async def model_endpoints(call: Call, author: str, slug: str) -> None:
    """GET /models/{author}/{slug}/endpoints."""
    await call.send_json({"data": _get(author, slug).endpoints()})


async def model(call: Call, author: str, slug: str) -> None:
    """GET /model/{author}/{slug}."""
    await call.send_json({"data": _get(author, slug).public})


async def providers(call: Call) -> None:
    """GET /providers."""
    await call.send_json({"data": [catalogue.provider_public(name) for name in catalogue.PROVIDERS]})


async def key(call: Call) -> None:
    """GET /key."""
    await call.send_json({"data": call.standin.accounts.describe(call.account)})


async def credits_left(call: Call) -> None:
    """GET /credits, for management keys."""
    await call.send_json({"data": call.standin.accounts.credits(call.account)})


async def generation(call: Call) -> None:
    """GET /generation?id=…: 404 until the delay after the end of the generation has passed."""
    wanted = call.exchange.request.query.get("id")
    if not wanted:
        raise errors.invalid_request("Invalid request parameters: id: expected a string")
    found = call.standin.generations.find(wanted)
    if found is None:
        raise errors.not_found(f"Generation {wanted} not found")
    await call.send_json({"data": found.describe()})


def _get(author: str, slug: str) -> Model:
    resolved = catalogue.find(f"{author}/{slug}")
    if resolved is None:
        raise errors.not_found("Model not found")
    return resolved.model


def _wanted(model: Model, query: dict[str, str]) -> bool:
    outputs = query.get("output_modalities", "text").split(",")
    parameters = _listed(query, "supported_parameters")
    words = query.get("q", "").lower()
    return (
        ("all" in outputs or any(each in model.outputs for each in outputs))
        and all(each in model.inputs for each in _listed(query, "input_modalities"))
        and all(each in model.parameters for each in parameters)
        and (not words or words in model.id or words in model.name.lower())
        and model.context_length >= _number(query, "context", 0, 0, None)
        and _price_within(model, query)
    )


def _price_within(model: Model, query: dict[str, str]) -> bool:
    """`min_price` and `max_price` are USD per million prompt tokens; a variable price is within no limits."""
    if "min_price" not in query and "max_price" not in query:
        return True
    price = Decimal(model.pricing["prompt"]) * 1_000_000
    return price >= 0 and _decimal(query, "min_price", "0") <= price <= _decimal(query, "max_price", "Infinity")


def _listed(query: dict[str, str], name: str) -> list[str]:
    return [each for each in query.get(name, "").split(",") if each]


def _decimal(query: dict[str, str], name: str, default: str) -> Decimal:
    try:
        return Decimal(query.get(name, default))
    except InvalidOperation:
        raise errors.invalid_request(f"Invalid request parameters: {name}: expected a number") from None


def _number(query: dict[str, Any], name: str, default: int, least: int, most: int | None) -> int:
    value = query.get(name)
    if value is None:
        return default
    if not (value.isascii() and value.isdigit() and len(value) < 10):  # noqa: PLR2004 - nine digits are plenty
        raise errors.invalid_request(f"Invalid request parameters: {name}: expected an integer")
    number = int(value)
    if number < least or (most is not None and number > most):
        raise errors.invalid_request(f"Invalid request parameters: {name}: out of range")
    return number
