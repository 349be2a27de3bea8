"""Every Firestore path and query of the OpenAI-compatible API beside those of the turns it takes.

embedding_models/{id} · usage_records/{id}

An id is the model's name with `~` for its slash. Prices are stored as decimal text: Firestore's numbers are floats or
integers, and neither holds them exactly.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from functions.openai_api.domain import EmbeddingModel
from shared import store
from shared.clients import firestore_client
from shared.store import READING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from shared.store import Batch


def find_embedding_model(slug: str) -> EmbeddingModel | None:
    found = store.read(store.document("embedding_models", _model_id(slug)))
    return _model(found.to_dict()) if found else None


def list_embedding_models() -> list[EmbeddingModel]:
    query = firestore_client().collection("embedding_models").order_by("slug")
    with store.translated_errors():
        return [_model(snapshot.to_dict() or {}) for snapshot in query.get(**READING)]


def save_embedding_models(models: Sequence[EmbeddingModel], at: datetime) -> None:
    """Make the stored catalogue equal to this one; there are dozens of them, which one batch holds."""
    wanted = {_model_id(model.slug): model for model in models}
    with store.translated_errors():
        collection = firestore_client().collection("embedding_models")
        stored = [snapshot.id for snapshot in collection.select([]).stream(**READING)]
    batch = store.new_batch()
    for model_id, model in wanted.items():
        batch.set(store.document("embedding_models", model_id), {**_document(model), "updated_at": at})
    for model_id in stored:
        if model_id not in wanted:
            batch.delete(store.document("embedding_models", model_id))
    if batch:
        store.commit(batch)


def record_usage(batch: Batch, generation_id: str, record: Mapping[str, Any]) -> None:
    batch.create(store.document("usage_records", generation_id), record)


def _model_id(slug: str) -> str:
    """A document id cannot hold a slash."""
    return slug.replace("/", "~")


def _document(model: EmbeddingModel) -> dict[str, Any]:
    return {
        "slug": model.slug,
        "name": model.name,
        "context_tokens": model.context_tokens,
        "prompt_usd": str(model.prompt_usd),
        "request_usd": str(model.request_usd),
    }


def _model(document: Mapping[str, Any]) -> EmbeddingModel:
    return EmbeddingModel(
        slug=document["slug"],
        name=document["name"],
        context_tokens=document["context_tokens"],
        prompt_usd=Decimal(document["prompt_usd"]),
        request_usd=Decimal(document["request_usd"]),
    )
