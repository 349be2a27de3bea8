"""Reading whole conversations piece by piece, and writing those that come in. Only a page is in memory at any time."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from functions.chat import schemas
from shared import store
from shared.clients import firestore_client
from shared.pages import page
from shared.store import READING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.cloud.firestore import CollectionReference, DocumentSnapshot

    Stored = tuple[str, dict[str, Any]]
    """A message's id and its document."""

_DOCUMENTS_AT_ONCE = 200
_MESSAGES_AT_ONCE = 50
_PARENTS_AT_ONCE = 1000
_IDS_AT_ONCE = 100


def _conversations(uid: str) -> CollectionReference:
    reference: CollectionReference = firestore_client().collection("users").document(uid).collection("conversations")
    return reference


def _messages(uid: str, conversation_id: str) -> CollectionReference:
    reference: CollectionReference = _conversations(uid).document(conversation_id).collection("messages")
    return reference


def walk_everything(uid: str) -> Iterator[schemas.Conversation | Stored]:
    """All of a user's conversations in whatever state, each before its messages; by name, so in no order of time.

    One walk through all of it takes far fewer round trips than one through each conversation.
    """
    current: str | None = None
    for snapshot in _pages(_conversations(uid).recursive(), _DOCUMENTS_AT_ONCE):
        document = snapshot.to_dict() or {}
        below = snapshot.reference.path.split("/")[3:]
        if len(below) == 1:
            current = snapshot.id
            yield schemas.Conversation(id=snapshot.id, **document)
        elif below[0] == current:  # else what an import left that did not come to its end
            yield snapshot.id, document


def walk_messages(uid: str, conversation_id: str) -> Iterator[Stored]:
    """The messages of all branches, the oldest first."""
    messages = _messages(uid, conversation_id)
    cursor = None
    while True:
        found, cursor = page(messages, "created_at", newest_first=False, limit=_MESSAGES_AT_ONCE, cursor=cursor)
        for snapshot in found:
            yield snapshot.id, snapshot.to_dict() or {}
        if cursor is None:
            return


def branch_ids(uid: str, conversation_id: str, message_id: str) -> list[str]:
    """The ids of the branch that ends at a message, the oldest first; none when there is no such message.

    Of all messages only the parents are read: two round trips for the whole tree, however its branches lie.
    """
    parents = dict(_walk_parents(uid, conversation_id))
    branch: list[str] = []
    wanted: str | None = message_id
    while wanted is not None and wanted in parents:
        branch.append(wanted)
        wanted = parents.pop(wanted)
    return branch[::-1]


def _walk_parents(uid: str, conversation_id: str) -> Iterator[tuple[str, str | None]]:
    for snapshot in _pages(
        _messages(uid, conversation_id).select(["parent_id"]).order_by("__name__"), _PARENTS_AT_ONCE
    ):
        yield snapshot.id, (snapshot.to_dict() or {}).get("parent_id")


def _pages(query: Any, at_once: int) -> Iterator[DocumentSnapshot[Any]]:
    """What a query finds that goes by name, as recursive ones do."""
    asked = query.limit(at_once)
    while True:
        with store.translated_errors():
            found = list(asked.get(**READING))
        yield from found
        if len(found) < at_once:
            return
        asked = query.start_after(found[-1]).limit(at_once)


def walk_branch(uid: str, conversation_id: str, ids: Iterable[str]) -> Iterator[Stored]:
    """These messages, in this order; those that went meanwhile are left out."""
    remaining = iter(ids)
    while some := list(islice(remaining, _MESSAGES_AT_ONCE)):
        references = [_message(uid, conversation_id, each) for each in some]
        for found in store.start_reading(references).result():
            if found is not None:
                yield found.id, found.fields


def existing(uid: str, conversation_ids: Iterable[str]) -> set[str]:
    """Which of these conversations are there."""
    remaining = iter(conversation_ids)
    there: set[str] = set()
    while some := list(islice(remaining, _IDS_AT_ONCE)):
        references = [store.document("users", uid, "conversations", each) for each in some]
        there |= {each.id for each in store.start_reading(references, fields=["created_at"]).result() if each}
    return there


def add_message(batch: store.Batch, uid: str, conversation_id: str, message: schemas.Message) -> None:
    """The same message again is the same document: whoever repeats an import after a crash goes on with it."""
    batch.set(_message(uid, conversation_id, message.id), message.to_document())


def _message(uid: str, conversation_id: str, message_id: str) -> store.Reference:
    return store.document("users", uid, "conversations", conversation_id, "messages", message_id)
