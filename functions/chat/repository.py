"""The Firestore paths and queries of conversations, messages, generations and what they used.

users/{uid}/conversations/{id}/messages/{id} · users/{uid}/contexts/{conversation id} · users/{uid}/generations/{id} ·
usage_records/{id}
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from functions.chat import context as contexts
from functions.chat import schemas
from functions.chat.context import Context
from functions.chat.domain import NO_COST, ConversationState, Generation, Message, Outcome, Status, TokenUsage
from shared import store
from shared.clients import firestore_client
from shared.pages import page
from shared.store import DELETE_FIELD, READING, Batch, Increment, LastUpdateOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from google.cloud.firestore import CollectionReference, DocumentSnapshot, Query

    from functions.chat.utility import Said
    from shared.store import Reading, Reference

_CLOCK_SKEW = timedelta(seconds=2)
_READ_AHEAD = 16
"""More than the branch needs, because messages of other branches lie between."""


@dataclass(frozen=True)
class Opened:
    """A conversation with its context, as of one moment."""

    conversation: schemas.Conversation
    context: Context
    """Of the branch in use; of no branch, with a summary at most, when it has to be made anew."""
    context_version: datetime | None


class Opening:
    """A conversation that is being read."""

    def __init__(self, conversation_id: str, reading: Reading) -> None:
        self._conversation_id, self._reading = conversation_id, reading

    def result(self) -> Opened | None:
        """None when there is no such conversation. Raises Unavailable."""
        document, packed = self._reading.result()
        if document is None:
            return None
        conversation = schemas.Conversation(id=self._conversation_id, **document.to_dict())
        context = _to_context(packed.to_dict()) if packed else Context()
        if context.tip != conversation.tip:
            context = replace(context, tip=None, messages=())
        return Opened(conversation, context, packed.update_time if packed else None)


def _conversations(uid: str) -> CollectionReference:
    reference: CollectionReference = firestore_client().collection("users").document(uid).collection("conversations")
    return reference


def _conversation(uid: str, conversation_id: str) -> Reference:
    return store.document("users", uid, "conversations", conversation_id)


def _context(uid: str, conversation_id: str) -> Reference:
    return store.document("users", uid, "contexts", conversation_id)


def _messages(uid: str, conversation_id: str) -> CollectionReference:
    reference: CollectionReference = _conversations(uid).document(conversation_id).collection("messages")
    return reference


def _message(uid: str, conversation_id: str, message_id: str) -> Reference:
    return store.document("users", uid, "conversations", conversation_id, "messages", message_id)


def _generation(uid: str, generation_id: str) -> Reference:
    return store.document("users", uid, "generations", generation_id)


def _usage_record(generation_id: str) -> Reference:
    return store.document("usage_records", generation_id)


def _get(reference: Reference) -> dict[str, Any] | None:
    snapshot = store.read(reference)
    return snapshot.to_dict() if snapshot else None


def _run(query: Query) -> list[DocumentSnapshot[Any]]:
    with store.translated_errors():
        return list(query.get(**READING))


# Conversations


def create_conversation(batch: Batch, uid: str, conversation: schemas.Conversation) -> None:
    batch.create(_conversation(uid, conversation.id), _conversation_document(conversation))


def find_conversation(uid: str, conversation_id: str) -> schemas.Conversation | None:
    document = _get(_conversation(uid, conversation_id))
    return schemas.Conversation(id=conversation_id, **document) if document else None


def start_opening(uid: str, conversation_id: str) -> Opening:
    """Begin to read a conversation with its context: one round trip, during which the caller does something else."""
    reading = store.start_reading([_conversation(uid, conversation_id), _context(uid, conversation_id)])
    return Opening(conversation_id, reading)


def find_opened(uid: str, conversation_id: str) -> Opened | None:
    return start_opening(uid, conversation_id).result()


def list_conversations(
    uid: str,
    limit: int,
    cursor: str | None,
    *,
    state: ConversationState = ConversationState.ACTIVE,
    folder_id: str | None = None,
    tag: str | None = None,
    pinned: bool | None = None,
) -> tuple[list[schemas.Conversation], str | None]:
    """Newest activity first."""
    query: Any = _conversations(uid).where(filter=store.field_filter("state", "==", state.value))
    if folder_id is not None:
        query = query.where(filter=store.field_filter("folder_id", "==", folder_id))
    if tag is not None:
        query = query.where(filter=store.field_filter("tags", "array_contains", tag))
    if pinned is not None:
        query = query.where(filter=store.field_filter("pinned", "==", pinned))
    found, next_cursor = page(query, "updated_at", newest_first=True, limit=limit, cursor=cursor)
    return [schemas.Conversation(id=snapshot.id, **_document(snapshot)) for snapshot in found], next_cursor


def begin_in_conversation(batch: Batch, generation: Generation) -> None:
    """Note the generation at its conversation; the batch fails when the conversation is not there."""
    assert generation.conversation_id is not None, "only those in a conversation are noted there"
    change = {"updated_at": generation.started_at, "generation_id": generation.id}
    batch.update(_conversation(generation.uid, generation.conversation_id), change)


def change_conversation(batch: Batch, uid: str, conversation_id: str, change: Mapping[str, Any]) -> None:
    batch.update(_conversation(uid, conversation_id), dict(change))


def settings_field(settings: schemas.ConversationSettings | None) -> dict[str, Any]:
    return settings.model_dump(exclude_none=True) if settings else {}


def _conversation_document(conversation: schemas.Conversation) -> dict[str, Any]:
    document = conversation.model_dump(exclude={"id", "settings", "share", "state"}, exclude_none=True)
    return {**document, "state": conversation.state.value, "settings": settings_field(conversation.settings)}


# Contexts


def set_context(
    batch: Batch, uid: str, conversation_id: str, context: Context, at: datetime, *, keep_summary: bool
) -> None:
    """Store the context; with `keep_summary` whatever summary is there by then stays, and is applied by its reader."""
    document = {"tip": context.tip, "messages": contexts.to_json(context), "updated_at": at}
    if not keep_summary:
        document |= {"summary": context.summary, "summarised_to": context.summarised_to}
    batch.set(_context(uid, conversation_id), document, merge=keep_summary)


def replace_context(
    batch: Batch, uid: str, conversation_id: str, context: Context, *, unchanged_since: datetime
) -> None:
    """Put a summary in the place of messages; the batch fails when a turn has ended since."""
    change = {
        "messages": contexts.to_json(context),
        "summary": context.summary,
        "summarised_to": context.summarised_to,
    }
    batch.update(_context(uid, conversation_id), change, option=LastUpdateOption(unchanged_since))


def forget_context(batch: Batch, uid: str, conversation_id: str) -> None:
    """Have the next turn make the context anew: after any change of the tree but a turn's own. The summary stays."""
    batch.set(_context(uid, conversation_id), {"tip": None, "messages": "[]"}, merge=True)


def _to_context(document: dict[str, Any]) -> Context:
    """What a turn stored that had begun before the summary was made still has the messages that it covers."""
    context = Context(tip=document["tip"], messages=contexts.from_json(document["messages"]))
    covered = document.get("summarised_to")
    return context.summarised(document.get("summary", ""), covered) if covered else context


# Messages


def find_node(uid: str, conversation_id: str, message_id: str) -> Message | None:
    document = _get(_message(uid, conversation_id, message_id))
    return _tree_node(message_id, document) if document else None


def find_message(uid: str, conversation_id: str, message_id: str) -> schemas.Message | None:
    document = _get(_message(uid, conversation_id, message_id))
    return schemas.Message.from_document(message_id, document) if document else None


def list_messages(
    uid: str, conversation_id: str, limit: int, cursor: str | None
) -> tuple[list[schemas.Message], str | None]:
    """Oldest first, all branches."""
    messages = _messages(uid, conversation_id)
    found, next_cursor = page(messages, "created_at", newest_first=False, limit=limit, cursor=cursor)
    return [schemas.Message.from_document(snapshot.id, _document(snapshot)) for snapshot in found], next_cursor


def find_branch(uid: str, conversation_id: str, message_id: str, limit: int) -> list[tuple[str, dict[str, Any]]]:
    """A message and those it follows, the newest first, at most `limit` documents; none without the message.

    A parent is nearly always among the messages written just before its child, so they are read in bulk.
    """
    branch: list[tuple[str, dict[str, Any]]] = []
    known: dict[str, dict[str, Any]] = {}
    wanted: str | None = message_id
    while wanted is not None and len(branch) < limit:
        document = known.pop(wanted, None)
        if document is None:
            document = _get(_message(uid, conversation_id, wanted))
            if document is None:
                break
            known |= _written_before(uid, conversation_id, document["created_at"], limit - len(branch))
            known.pop(wanted, None)
        branch.append((wanted, document))
        wanted = document.get("parent_id")
    return branch


def _written_before(uid: str, conversation_id: str, at: datetime, limit: int) -> dict[str, dict[str, Any]]:
    newest = _messages(uid, conversation_id).order_by("created_at", direction="DESCENDING")
    # An answer and the next question may carry the same time, or be a little out of order between two processes.
    start = newest.start_at({"created_at": at + _CLOCK_SKEW})
    return {snapshot.id: _document(snapshot) for snapshot in _run(start.limit(limit + _READ_AHEAD))}


def find_context(uid: str, conversation_id: str, message_id: str, *, limit: int) -> Context | None:
    """The context of a branch, made of its messages; None without the message."""
    branch = find_branch(uid, conversation_id, message_id, limit)
    if not branch:
        return None
    return Context(message_id, tuple(_tree_node(each, document) for each, document in reversed(branch)))


def add_turn(
    batch: Batch,
    generation: Generation,
    question: schemas.Message | None,
    answer: schemas.Message,
    reasoning_details: str | None,
) -> None:
    """The turn's messages and the conversation's new tip."""
    assert generation.conversation_id is not None, "what belongs to no conversation keeps no messages"
    place = generation.uid, generation.conversation_id
    if generation.parent_id is not None:
        batch.require(_message(*place, generation.parent_id))  # it may have been deleted meanwhile
    if question is not None:
        batch.create(_message(*place, question.id), question.to_document())
    details = {"reasoning_details": reasoning_details} if reasoning_details else {}
    batch.create(_message(*place, answer.id), {**answer.to_document(), **details})
    change = {
        "tip": answer.id,
        "model": generation.model,
        "message_count": Increment(2 if question else 1),
        "updated_at": answer.created_at,
    }
    batch.update(_conversation(generation.uid, generation.conversation_id), change)


def _tree_node(message_id: str, document: dict[str, Any]) -> Message:
    node = contexts.for_context(message_id, document.get("parent_id"), document["role"], document["parts"])
    return replace(node, reasoning_details=document.get("reasoning_details"))


def correct_message(batch: Batch, generation: Generation, usage: schemas.Usage | None, charge: schemas.Charge) -> None:
    """Show at a message what it cost; the batch fails when the message is not there."""
    assert generation.conversation_id is not None, "what belongs to no conversation keeps no messages"
    change = {"usage": usage.model_dump() if usage else None, "credits": charge.model_dump()}
    batch.update(_message(generation.uid, generation.conversation_id, generation.message_id), change)


# Generations


def start_generation(batch: Batch, generation: Generation) -> None:
    document = {each.name: getattr(generation, each.name) for each in fields(Generation) if each.name != "id"}
    document["question"] = [dict(part) for part in generation.question]
    batch.create(_generation(generation.uid, generation.id), document)


def forget_generation(batch: Batch, generation: Generation) -> None:
    batch.delete(_generation(generation.uid, generation.id))


def end_generation(batch: Batch, generation: Generation, outcome: Outcome, *, settlement_pending: bool) -> None:
    """The question lives on as a message, so it leaves this record."""
    change = {
        "status": outcome.status.value,
        "ended_at": outcome.ended_at,
        "error": outcome.error_code,
        "upstream_id": outcome.upstream_id,
        "model_used": outcome.model_used,
        "model": generation.model,
        "markup_percent": generation.markup_percent,
        "settlement_pending": settlement_pending,
        "settle_after": outcome.ended_at if settlement_pending else None,
        "question": DELETE_FIELD,
    }
    batch.update(_generation(generation.uid, generation.id), change)


def settle_generation(batch: Batch, generation: Generation) -> None:
    batch.update(_generation(generation.uid, generation.id), {"settlement_pending": False})


def ask_for_cost_again(batch: Batch, generation: Generation, at: datetime) -> None:
    batch.update(_generation(generation.uid, generation.id), {"settle_after": at})


def find_generation(uid: str, generation_id: str) -> Generation | None:
    document = _get(_generation(uid, generation_id))
    return _to_generation(generation_id, document) if document else None


def list_running(started_before: datetime, limit: int) -> list[Generation]:
    """Generations of all users that have not ended, oldest first."""
    query = (
        firestore_client()
        .collection_group("generations")
        .where(filter=store.field_filter("status", "==", Status.RUNNING.value))
        .where(filter=store.field_filter("started_at", "<=", started_before))
        .order_by("started_at")
        .limit(limit)
    )
    return [_to_generation(snapshot.id, _document(snapshot)) for snapshot in _run(query)]


def has_running(uid: str) -> bool:
    """Whether a generation of the user has not ended."""
    generations = firestore_client().collection("users").document(uid).collection("generations")
    running = generations.where(filter=store.field_filter("status", "==", Status.RUNNING.value))
    return bool(_run(running.select([]).limit(1)))


def list_unsettled(now: datetime, limit: int) -> list[Generation]:
    """Generations of all users whose cost was not known at their end, and is to be asked for now."""
    query = (
        firestore_client()
        .collection_group("generations")
        .where(filter=store.field_filter("settlement_pending", "==", True))  # noqa: FBT003  # the value is what is asked for
        .where(filter=store.field_filter("settle_after", "<=", now))
        .order_by("settle_after")
        .limit(limit)
    )
    return [_to_generation(snapshot.id, _document(snapshot)) for snapshot in _run(query)]


def _to_generation(generation_id: str, document: dict[str, Any]) -> Generation:
    known = {field.name for field in fields(Generation)} - {"id"}
    values = {name: value for name, value in document.items() if name in known}
    values["question"] = tuple(document.get("question", ()))
    values["status"] = Status(document["status"])
    return Generation(id=generation_id, **values)


# Usage


def record_usage(
    batch: Batch, generation: Generation, outcome: Outcome, *, charged_micro: int, settlement_pending: bool
) -> None:
    usage = outcome.usage or NO_COST
    document = {
        "uid": generation.uid,
        "capability": "chat" if generation.conversation_id else "openai_api",
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
    batch.create(_usage_record(generation.id), document)


def correct_usage(batch: Batch, generation_id: str, usage: TokenUsage, *, charged_micro: int) -> None:
    change = {**asdict(usage), "charged_micro": charged_micro, "settlement_pending": False}
    batch.update(_usage_record(generation_id), change)


def _document(snapshot: DocumentSnapshot[Any]) -> dict[str, Any]:
    document = snapshot.to_dict()
    assert document is not None, "queries return documents that exist"
    return document


# What a cheap model adds off the reply path


def find_conversation_version(uid: str, conversation_id: str) -> tuple[schemas.Conversation, datetime] | None:
    """A conversation, and when it was last written."""
    found = store.read(_conversation(uid, conversation_id))
    return (schemas.Conversation(id=conversation_id, **found.to_dict()), found.update_time) if found else None


def name_conversation(batch: Batch, uid: str, conversation_id: str, title: str, *, unchanged_since: datetime) -> None:
    """Give a title that nobody chose; the batch fails when the conversation was written since, or is gone."""
    change = {"title": title, "title_source": "model"}
    batch.update(_conversation(uid, conversation_id), change, option=LastUpdateOption(unchanged_since))


def require_conversation(batch: Batch, uid: str, conversation_id: str) -> None:
    """Make the batch fail when the conversation is gone; it changes nothing of it."""
    batch.require(_conversation(uid, conversation_id))


def record_errand(
    batch: Batch, record_id: str, uid: str, conversation_id: str, said: Said, *, purpose: str, at: datetime
) -> None:
    """What the product itself asked of a model for a conversation: its user pays nothing."""
    document = {
        "uid": uid,
        "capability": "chat",
        "purpose": purpose,
        "conversation_id": conversation_id,
        "model_asked": said.model_asked,
        "model": said.model,
        "status": said.status,
        "upstream_id": said.upstream_id,
        "charged_micro": 0,
        "settlement_pending": False,
        "at": at,
        **asdict(said.usage),
    }
    batch.create(_usage_record(record_id), document)
