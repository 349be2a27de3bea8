"""Entries of OpenRouter's `GET /models`, and models made of them."""

from typing import Any

from functions.models.domain import Defaults, Model, Offer, Policy, composed, offer_from_upstream
from functions.models.repository import Entry

MARKUP = 20


def entry(slug: str = "acme/one", /, **changes: Any) -> dict[str, Any]:
    """A complete entry, as recorded, of a model that chats."""
    return {
        "id": slug,
        "canonical_slug": f"{slug}-20250929",
        "name": "Acme: One",
        "created": 1759161676,
        "description": "A model.",
        "context_length": 128_000,
        "architecture": {
            "modality": "text->text",
            "input_modalities": ["text"],
            "output_modalities": ["text"],
            "tokenizer": "Other",
            "instruct_type": None,
        },
        "pricing": {"prompt": "0.000001", "completion": "0.000002"},
        "top_provider": {"context_length": 128_000, "max_completion_tokens": 16_384, "is_moderated": False},
        "per_request_limits": None,
        "supported_parameters": ["max_tokens", "temperature", "tools"],
        "default_parameters": None,
        **changes,
    }


def priced(slug: str = "acme/one", /, **pricing: Any) -> dict[str, Any]:
    return entry(slug, pricing={"prompt": "0.000001", "completion": "0.000002", **pricing})


def offer(slug: str = "acme/one", /, **changes: Any) -> Offer:
    made = offer_from_upstream(entry(slug, **changes))
    assert made is not None
    return made


def model(slug: str = "acme/one", /, policy: Policy | None = None, **changes: Any) -> Model:
    return composed(offer(slug, **changes), policy or Policy(), Defaults(), markup_percent=MARKUP)


def stored(slug: str, /, policy: Policy | None = None, **changes: Any) -> Entry:
    return Entry(offer(slug, **changes), policy or Policy())
