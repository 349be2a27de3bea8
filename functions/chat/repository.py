"""Every Firestore path and query of the chat capability.

users/{uid}/conversations/{id}/messages/{id} · users/{uid}/generations/{id} · usage_records/{id} · models/{id}
"""

from __future__ import annotations

from dataclasses import asdict, fields
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from google.cloud.firestore import DELETE_FIELD, Increment, Query
from google.cloud.firestore_v1.base_query import FieldFilter

from functions.chat import schemas
from functions.chat.domain import UNTITLED, Generation, Message, Model, Outcome, Status, TokenUsage
from shared import store
from shared.clients import firestore_client
from shared.pages import page
from shared.store import READING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.cloud.firestore import CollectionReference, DocumentReference, DocumentSnapshot, WriteBatch


def _user(uid: str) -> DocumentReference:
    return firestore_client().collection("users").document(uid)


def _conversation(uid: str, conversation_id: str) -> DocumentReference:
    reference: DocumentReference = _user(uid).collection("conversations").document(conversation_id)
    return reference


def _messages(uid: str, conversation_id: str) -> CollectionReference:
    reference: CollectionReference = _conversation(uid, conversation_id).collection("messages")
    return reference


def _generation(uid: str, generation_id: str) -> DocumentReference:
    reference: DocumentReference = _user(uid).collection("generations").document(generation_id)
    return reference


def _get(reference: DocumentReference) -> dict[str, Any] | None:
    with store.translated_errors():
        snapshot = reference.get(**READING)
    return snapshot.to_dict() if snapshot.exists else None


def _run(query: Query) -> list[DocumentSnapshot[Any]]:
    with store.translated_errors():
        return list(query.get(**READING))


# Conversations


def create_conversation(batch: WriteBatch, uid: str, conversation_id: str, title: str | None, at: datetime) -> None:
    document = {
        "title": title or UNTITLED,
        "model": None,
        "tip": None,
        "message_count": 0,
        "created_at": at,
        "updated_at": at,
    }
    batch.create(_conversation(uid, conversation_id), document)


def find_conversation(uid: str, conversation_id: str) -> schemas.Conversation | None:
    document = _get(_conversation(uid, conversation_id))
    return schemas.Conversation(id=conversation_id, **document) if document else None


def list_conversations(uid: str, limit: int, cursor: str | None) -> tuple[list[schemas.Conversation], str | None]:
    """Newest activity first."""
    conversations = _user(uid).collection("conversations")
    found, next_cursor = page(conversations, "updated_at", newest_first=True, limit=limit, cursor=cursor)
    return [schemas.Conversation(id=snapshot.id, **_document(snapshot)) for snapshot in found], next_cursor


def require_conversation(batch: WriteBatch, uid: str, conversation_id: str, at: datetime) -> None:
    """Make the batch fail when the conversation is not there."""
    batch.update(_conversation(uid, conversation_id), {"updated_at": at})


def rename_conversation(batch: WriteBatch, uid: str, conversation_id: str, title: str) -> None:
    batch.update(_conversation(uid, conversation_id), {"title": title})


# Messages


def recent_messages(uid: str, conversation_id: str, limit: int) -> dict[str, Message]:
    """The newest messages of all branches. Only what the rules need is read: decoding is most of what this costs."""
    newest = _messages(uid, conversation_id).order_by("created_at", direction=Query.DESCENDING).limit(limit)
    query = newest.select(["parent_id", "role", "parts"])
    return {snapshot.id: _tree_node(snapshot.id, _document(snapshot)) for snapshot in _run(query)}


def find_node(uid: str, conversation_id: str, message_id: str) -> Message | None:
    document = _get(_messages(uid, conversation_id).document(message_id))
    return _tree_node(message_id, document) if document else None


def find_message(uid: str, conversation_id: str, message_id: str) -> schemas.Message | None:
    document = _get(_messages(uid, conversation_id).document(message_id))
    return _message(message_id, document) if document else None


def list_messages(
    uid: str, conversation_id: str, limit: int, cursor: str | None
) -> tuple[list[schemas.Message], str | None]:
    """Oldest first, all branches."""
    messages = _messages(uid, conversation_id)
    found, next_cursor = page(messages, "created_at", newest_first=False, limit=limit, cursor=cursor)
    return [_message(snapshot.id, _document(snapshot)) for snapshot in found], next_cursor


def add_turn(
    batch: WriteBatch, generation: Generation, question: schemas.Message, answer: schemas.Message, model: str
) -> None:
    """Both messages and the conversation's new tip."""
    messages = _messages(generation.uid, generation.conversation_id)
    for message in (question, answer):
        batch.create(messages.document(message.id), message.model_dump(exclude={"id"}, exclude_none=True))
    change = {"tip": answer.id, "model": model, "message_count": Increment(2), "updated_at": answer.created_at}
    batch.update(_conversation(generation.uid, generation.conversation_id), change)


def _message(message_id: str, document: dict[str, Any]) -> schemas.Message:
    return schemas.Message.model_validate({"parent_id": None, **document, "id": message_id})


def _tree_node(message_id: str, document: dict[str, Any]) -> Message:
    text = "\n\n".join(part["text"] for part in document["parts"] if part["type"] == "text")
    return Message(id=message_id, parent_id=document.get("parent_id"), role=document["role"], text=text)


def correct_message(
    batch: WriteBatch, generation: Generation, usage: schemas.Usage | None, charge: schemas.Charge
) -> None:
    """Show at a message what it cost; the batch fails when the message is not there."""
    change = {"usage": usage.model_dump() if usage else None, "credits": charge.model_dump()}
    batch.update(_messages(generation.uid, generation.conversation_id).document(generation.message_id), change)


# Generations


def start_generation(batch: WriteBatch, generation: Generation) -> None:
    document = {name: value for name, value in asdict(generation).items() if name != "id"}
    batch.create(_generation(generation.uid, generation.id), document)


def forget_generation(batch: WriteBatch, generation: Generation) -> None:
    batch.delete(_generation(generation.uid, generation.id))


def end_generation(batch: WriteBatch, generation: Generation, outcome: Outcome, *, settlement_pending: bool) -> None:
    """The question lives on as a message, so it leaves this record."""
    change = {
        "status": outcome.status.value,
        "ended_at": outcome.ended_at,
        "error": outcome.error_code,
        "upstream_id": outcome.upstream_id,
        "model_used": outcome.model_used,
        "settlement_pending": settlement_pending,
        "question": DELETE_FIELD,
    }
    batch.update(_generation(generation.uid, generation.id), change)


def settle_generation(batch: WriteBatch, generation: Generation) -> None:
    batch.update(_generation(generation.uid, generation.id), {"settlement_pending": False})


def find_generation(uid: str, generation_id: str) -> Generation | None:
    document = _get(_generation(uid, generation_id))
    return _to_generation(generation_id, document) if document else None


def list_running(started_before: datetime, limit: int) -> list[Generation]:
    """Generations of all users that have not ended, oldest first."""
    query = (
        firestore_client()
        .collection_group("generations")
        .where(filter=FieldFilter("status", "==", Status.RUNNING.value))
        .where(filter=FieldFilter("started_at", "<=", started_before))
        .order_by("started_at")
        .limit(limit)
    )
    return [_to_generation(snapshot.id, _document(snapshot)) for snapshot in _run(query)]


def has_running(uid: str) -> bool:
    """Whether a generation of the user has not ended."""
    running = _user(uid).collection("generations").where(filter=FieldFilter("status", "==", Status.RUNNING.value))
    return bool(_run(running.select([]).limit(1)))


def list_unsettled(limit: int) -> list[Generation]:
    """Generations of all users whose cost was not known at their end, oldest first."""
    query = (
        firestore_client()
        .collection_group("generations")
        .where(filter=FieldFilter("settlement_pending", "==", True))  # noqa: FBT003  # the value is what is asked for
        .order_by("started_at")
        .limit(limit)
    )
    return [_to_generation(snapshot.id, _document(snapshot)) for snapshot in _run(query)]


def _to_generation(generation_id: str, document: dict[str, Any]) -> Generation:
    known = {field.name for field in fields(Generation)} - {"id"}
    values = {name: value for name, value in document.items() if name in known}
    values["question"] = document.get("question", "")
    values["status"] = Status(document["status"])
    return Generation(id=generation_id, **values)


# Usage


def record_usage(
    batch: WriteBatch, generation: Generation, outcome: Outcome, *, charged_micro: int, settlement_pending: bool
) -> None:
    usage = outcome.usage or TokenUsage(0, 0, 0, 0, 0)
    document = {
        "uid": generation.uid,
        "capability": "chat",
        "conversation_id": generation.conversation_id,
        "model_asked": generation.model,
        "model": outcome.model_used or generation.model,
        "status": outcome.status.value,
        "upstream_id": outcome.upstream_id,
        "charged_micro": charged_micro,
        "settlement_pending": settlement_pending,
        "at": outcome.ended_at,
        **asdict(usage),
    }
    batch.create(firestore_client().collection("usage_records").document(generation.id), document)


def correct_usage(batch: WriteBatch, generation_id: str, usage: TokenUsage, *, charged_micro: int) -> None:
    change = {**asdict(usage), "charged_micro": charged_micro, "settlement_pending": False}
    batch.update(firestore_client().collection("usage_records").document(generation_id), change)


# Models


def find_model(slug: str) -> Model | None:
    document = _get(firestore_client().collection("models").document(_model_id(slug)))
    return _to_model(document) if document else None


def list_models() -> list[Model]:
    query = firestore_client().collection("models").order_by("slug")
    return [_to_model(_document(snapshot)) for snapshot in _run(query)]


def save_models(models: Sequence[Model], at: datetime) -> None:
    """Write the catalogue and remove what is no longer in it."""
    collection = firestore_client().collection("models")
    wanted = {_model_id(model.slug): model for model in models}
    with store.translated_errors():
        gone = [snapshot.reference for snapshot in collection.select([]).stream() if snapshot.id not in wanted]
    for chunk in _chunks([*wanted.items()], 400):
        batch = store.new_batch()
        for document_id, model in chunk:
            batch.set(collection.document(document_id), {**_model_document(model), "updated_at": at})
        store.commit(batch)
    for references in _chunks(gone, 400):
        batch = store.new_batch()
        for reference in references:
            batch.delete(reference)
        store.commit(batch)


def _chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _model_id(slug: str) -> str:
    """A document id cannot hold a slash."""
    return slug.replace("/", "~")


def _model_document(model: Model) -> dict[str, Any]:
    """Prices as decimal text: Firestore's numbers are floats or integers, and neither holds them exactly."""
    return {name: str(value) if isinstance(value, Decimal) else value for name, value in asdict(model).items()}


def _to_model(document: dict[str, Any]) -> Model:
    prices = {name: Decimal(document[name]) for name in ("prompt_usd", "completion_usd", "request_usd")}
    return Model(
        slug=document["slug"],
        name=document["name"],
        context_tokens=document["context_tokens"],
        max_answer_tokens=document["max_answer_tokens"],
        **prices,
    )


def _document(snapshot: DocumentSnapshot[Any]) -> dict[str, Any]:
    document = snapshot.to_dict()
    assert document is not None, "queries return documents that exist"
    return document
