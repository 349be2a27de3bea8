"""users/{uid}/removals/{conversation id}, the marks of what is being removed, and what belongs to a conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functions.chat.domain import ConversationState, Status
from shared import store
from shared.clients import firestore_client
from shared.pages import page
from shared.store import READING, Increment, LastUpdateOption, field_filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from google.cloud.firestore import CollectionReference, DocumentReference, DocumentSnapshot

    from shared.store import Batch

_MESSAGES_PER_DELETION = 400
_NODES_PER_READ = 500


@dataclass(frozen=True)
class Found:
    """A conversation as it was read, as far as its removal needs it."""

    uid: str
    id: str
    tip: str | None
    version: Any


@dataclass(frozen=True)
class Ending:
    """Where the branch in use ends from now on, if the conversation is still what was read at `version`."""

    tip: str | None
    version: Any


def _user(uid: str) -> DocumentReference:
    return firestore_client().collection("users").document(uid)


def _conversation(uid: str, conversation_id: str) -> DocumentReference:
    reference: DocumentReference = _user(uid).collection("conversations").document(conversation_id)
    return reference


def _messages(uid: str, conversation_id: str) -> CollectionReference:
    messages: CollectionReference = _conversation(uid, conversation_id).collection("messages")
    return messages


def _context(uid: str, conversation_id: str) -> DocumentReference:
    reference: DocumentReference = _user(uid).collection("contexts").document(conversation_id)
    return reference


def _mark(uid: str, conversation_id: str) -> DocumentReference:
    reference: DocumentReference = _user(uid).collection("removals").document(conversation_id)
    return reference


def _owner(snapshot: DocumentSnapshot[Any]) -> str:
    """Whose document in a collection below `users/{uid}` it is."""
    owner: str = snapshot.reference.path.split("/")[1]
    return owner


def find(uid: str, conversation_id: str) -> Found | None:
    snapshot = store.read(_conversation(uid, conversation_id), fields=["tip"])
    return Found(uid, conversation_id, snapshot.fields.get("tip"), snapshot.update_time) if snapshot else None


def list_expired(now: datetime, limit: int) -> list[Found]:
    """Temporary conversations of all users whose time is over, the longest over first."""
    query = (
        firestore_client()
        .collection_group("conversations")
        .where(filter=field_filter("state", "==", ConversationState.TEMPORARY.value))
        .where(filter=field_filter("expires_at", "<=", now))
        .order_by("expires_at")
        .limit(limit)
    )
    with store.translated_errors():
        found = query.select(["tip"]).get(**READING)
    return [Found(_owner(each), each.id, (each.to_dict() or {}).get("tip"), each.update_time) for each in found]


# What is being removed


def take_away(batch: Batch, found: Found, *, reason: str, at: datetime) -> None:
    """Delete the conversation's own document and mark that the rest has to follow.

    The batch fails when the conversation changed since it was read.
    """
    batch.delete(_conversation(found.uid, found.id), option=LastUpdateOption(found.version))
    batch.set(_mark(found.uid, found.id), {"reason": reason, "at": at})


def marked(uid: str, conversation_ids: Iterable[str]) -> set[str]:
    """Of which of these something is still to be deleted: what is written below their ids now goes with it."""
    references = [_mark(uid, each) for each in conversation_ids]
    found = store.start_reading(references, fields=["at"]).result() if references else []
    return {mark.id for mark in found if mark}


def list_marked(before: datetime, limit: int) -> list[tuple[str, str]]:
    """User and conversation of the removals of all users that were begun by then, the oldest first."""
    query = firestore_client().collection_group("removals").where(filter=field_filter("at", "<=", before))
    with store.translated_errors():
        found = query.order_by("at").limit(limit).select([]).get(**READING)
    return [(_owner(each), each.id) for each in found]


def unmark(uid: str, conversation_id: str) -> None:
    batch = store.new_batch()
    batch.delete(_context(uid, conversation_id))
    batch.delete(_mark(uid, conversation_id))
    store.commit(batch)


def delete_some_messages(uid: str, conversation_id: str) -> int:
    """Delete the next messages; how many there were."""
    with store.translated_errors():
        found = _messages(uid, conversation_id).select([]).limit(_MESSAGES_PER_DELETION).get(**READING)
    if found:
        batch = store.new_batch()
        for snapshot in found:
            batch.delete(snapshot.reference)
        store.commit(batch)
    return len(found)


# Branches


def read_parents(uid: str, conversation_id: str) -> dict[str, str | None]:
    """The whole tree: the parent of each message."""
    parents: dict[str, str | None] = {}
    nodes = _messages(uid, conversation_id).select(["parent_id", "created_at"])
    cursor: str | None = None
    while True:
        found, cursor = page(nodes, "created_at", newest_first=False, limit=_NODES_PER_READ, cursor=cursor)
        parents |= {snapshot.id: (snapshot.to_dict() or {}).get("parent_id") for snapshot in found}
        if cursor is None:
            return parents


def delete_messages(
    batch: Batch, uid: str, conversation_id: str, message_ids: Sequence[str], *, ending: Ending | None = None
) -> None:
    """Delete messages and what the next turn would remember of them; the conversation counts them no more.

    The batch fails when the conversation is gone, and with an `ending` when it changed since it was read.
    """
    for message_id in message_ids:
        batch.delete(_messages(uid, conversation_id).document(message_id))
    change: dict[str, Any] = {"message_count": Increment(-len(message_ids))}
    if ending is None:
        batch.update(_conversation(uid, conversation_id), change)
    else:
        option = LastUpdateOption(ending.version)
        batch.update(_conversation(uid, conversation_id), {**change, "tip": ending.tip}, option=option)
    # The summary goes too: it may tell what they said.
    batch.delete(_context(uid, conversation_id))


def list_running_below(uid: str, conversation_id: str) -> set[str]:
    """The messages that answers in the making follow."""
    return {parent_id for parent_id in find_running(uid, conversation_id).values() if parent_id}


def find_running(uid: str, conversation_id: str) -> dict[str, str | None]:
    """The generations that make answers here, with the messages that they follow."""
    running = _user(uid).collection("generations").where(filter=field_filter("status", "==", Status.RUNNING.value))
    with store.translated_errors():
        found = running.select(["conversation_id", "parent_id"]).get(**READING)
    documents = {snapshot.id: snapshot.to_dict() or {} for snapshot in found}
    return {name: each["parent_id"] for name, each in documents.items() if each["conversation_id"] == conversation_id}
