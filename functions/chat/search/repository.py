"""The search index of a user: users/{uid}/search_entries/{id}, and what of conversations and messages search reads.

An entry is named by its message, or `title:` and its conversation; further entries of a long text end in `~1`, `~2`…
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from functions.chat.search.domain import Entry, index_terms, word_list
from shared import store
from shared.clients import firestore_client
from shared.pages import cursor_after, page
from shared.store import READING, field_filter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.cloud.firestore import CollectionReference, DocumentReference, DocumentSnapshot

    from shared.store import Batch

ENTRIES_PER_DELETION = 40
"""An entry takes up to a thousand index entries with it, and a commit has room for some ten thousands."""
_IDS_PER_QUERY = 30
"""https://firebase.google.com/docs/firestore/query-data/queries#limits_on_or_queries"""


def _user(uid: str) -> DocumentReference:
    return firestore_client().collection("users").document(uid)


def _entries(uid: str) -> CollectionReference:
    entries: CollectionReference = _user(uid).collection("search_entries")
    return entries


def _conversation(uid: str, conversation_id: str) -> DocumentReference:
    reference: DocumentReference = _user(uid).collection("conversations").document(conversation_id)
    return reference


def _message(uid: str, conversation_id: str, message_id: str) -> DocumentReference:
    reference: DocumentReference = _conversation(uid, conversation_id).collection("messages").document(message_id)
    return reference


def _get_all(references: list[DocumentReference], fields: list[str]) -> dict[str, dict[str, Any]]:
    """By id: those that are there."""
    if not references:
        return {}
    found = store.start_reading(references, fields=fields).result()
    return {snapshot.id: snapshot.fields for snapshot in found if snapshot is not None}


# Writing


def put(
    batch: Batch,
    uid: str,
    conversation_id: str,
    text: str,
    *,
    message_id: str | None,
    role: str | None,
    at: datetime,
) -> int:
    """Add the entries of a text to the batch; gives the number of their terms. Again, they are the same entries."""
    spread = index_terms(text)
    name = message_id or title_id(conversation_id)
    for number, terms in enumerate(spread):
        document = {
            "conversation_id": conversation_id,
            "message_id": message_id,
            "role": role,
            "at": at,
            "terms": list(terms),
            "words": word_list(text) if len(spread) == 1 else None,
        }
        batch.set(_entries(uid).document(f"{name}~{number}" if number else name), document)
    return sum(map(len, spread))


def title_id(conversation_id: str) -> str:
    return f"title:{conversation_id}"


def remove_title(batch: Batch, uid: str, conversation_id: str) -> None:
    batch.delete(_entries(uid).document(title_id(conversation_id)))


def only_while_there(batch: Batch, uid: str, conversation_id: str, message_ids: Iterable[str] = ()) -> None:
    """Make the batch fail when the conversation or one of the messages is gone; it changes none of them."""
    batch.require(_conversation(uid, conversation_id))
    for message_id in message_ids:
        batch.require(_message(uid, conversation_id, message_id))


def remove_some_of(uid: str, conversation_id: str) -> int:
    """Delete the next entries of a conversation; how many there were."""
    of_it = _entries(uid).where(filter=field_filter("conversation_id", "==", conversation_id))
    with store.translated_errors():
        found = of_it.select([]).limit(ENTRIES_PER_DELETION).get(**READING)
    _delete([snapshot.reference for snapshot in found])
    return len(found)


def remove_of_messages(uid: str, message_ids: Sequence[str]) -> None:
    """Delete the entries of messages, a few at a time."""
    for start in range(0, len(message_ids), _IDS_PER_QUERY):
        some = list(message_ids[start : start + _IDS_PER_QUERY])
        with store.translated_errors():
            found = _entries(uid).where(filter=field_filter("message_id", "in", some)).select([]).get(**READING)
        _delete([snapshot.reference for snapshot in found])


def _delete(references: Sequence[DocumentReference]) -> None:
    for start in range(0, len(references), ENTRIES_PER_DELETION):
        batch = store.new_batch()
        for reference in references[start : start + ENTRIES_PER_DELETION]:
            batch.delete(reference)
        store.commit(batch)


# Reading


def list_candidates(uid: str, term: str, limit: int, cursor: str | None) -> tuple[list[Entry], str | None]:
    """Entries that hold the term, newest first; of one text at most one. Their terms, which are many, are not read.

    The emulator has no index of lists and compares every term of every entry of the user: a search over some hundred
    long messages takes it seconds.
    """
    with_it = _entries(uid).where(filter=field_filter("terms", "array_contains", term))
    read = with_it.select(["conversation_id", "message_id", "role", "at", "words"])
    found, next_cursor = page(read, "at", newest_first=True, limit=limit, cursor=cursor)
    return [_entry(snapshot) for snapshot in found], next_cursor


def _entry(snapshot: DocumentSnapshot[Any]) -> Entry:
    return Entry(id=snapshot.id, **(snapshot.to_dict() or {}))


def cursor_behind(entry: Entry) -> str:
    return cursor_after(entry.at, entry.id)


def find_conversations(uid: str, conversation_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Title, state and folder, by id, of those that are there."""
    references = [_conversation(uid, each) for each in conversation_ids]
    return _get_all(references, ["title", "state", "folder_id"])


def find_messages(uid: str, places: Iterable[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """Role, parts and time, by message id, of those of the (conversation id, message id) that are there."""
    references = [_message(uid, conversation_id, message_id) for conversation_id, message_id in places]
    return _get_all(references, ["role", "parts", "created_at"])


def list_messages(
    uid: str, conversation_id: str, limit: int, cursor: str | None
) -> tuple[dict[str, dict[str, Any]], str | None]:
    """Role, parts and time of a conversation's messages by their id, oldest first."""
    messages = _conversation(uid, conversation_id).collection("messages").select(["role", "parts", "created_at"])
    found, next_cursor = page(messages, "created_at", newest_first=False, limit=limit, cursor=cursor)
    return {snapshot.id: snapshot.to_dict() or {} for snapshot in found}, next_cursor
