"""The Firestore paths and queries of shared conversations.

shares/{sha256 of the token}     whose, of which conversation, its revisions
share_pages/{snapshot}-{n}       the messages of a revision, a piece each, as others see them
users/{uid}/conversations/{id}   `share`: the token, so that its owner can copy the link again
"""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

from functions.chat import schemas
from functions.chat.sharing.domain import Revision, Share
from shared import store
from shared.clients import firestore_client
from shared.identity import secret_text
from shared.store import DELETE_FIELD, READING, LastUpdateOption

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from google.cloud.firestore import CollectionReference, DocumentSnapshot

    from functions.chat.sharing.domain import Piece

_DELETES_AT_ONCE = 400


def _conversation(uid: str, conversation_id: str) -> store.Reference:
    return store.document("users", uid, "conversations", conversation_id)


def _share(token: str) -> store.Reference:
    return store.document("shares", secret_text.digest(token))


def _piece(snapshot: str, number: int) -> store.Reference:
    return store.document("share_pages", f"{snapshot}-{number}")


def find_conversation(uid: str, conversation_id: str) -> tuple[schemas.Conversation, Any] | None:
    """The conversation, and the version of its document: whoever begins or ends sharing depends on it."""
    found = store.read(_conversation(uid, conversation_id))
    return (schemas.Conversation(id=conversation_id, **found.fields), found.update_time) if found else None


def find_share(token: str) -> Share | None:
    found = store.read(_share(token))
    if found is None:
        return None
    document = found.fields
    return Share(
        uid=document["uid"],
        conversation_id=document["conversation_id"],
        revisions=tuple(Revision(**{**each, "starts": tuple(each["starts"])}) for each in document["revisions"]),
        created_at=document["created_at"],
        updated_at=document["updated_at"],
        version=found.update_time,
    )


def find_piece(revision: Revision, number: int) -> list[dict[str, Any]] | None:
    found = store.read(_piece(revision.snapshot, number))
    if found is None:
        return None
    messages: list[dict[str, Any]] = json.loads(found.fields["content"])
    return messages


def store_piece(uid: str, conversation_id: str, snapshot: str, number: int, piece: Piece, *, at: datetime) -> None:
    document = {
        "uid": uid,
        "conversation_id": conversation_id,
        "snapshot": snapshot,
        "content": piece.content,
        "stored_at": at,
    }
    batch = store.new_batch()
    batch.set(_piece(snapshot, number), document)
    store.commit(batch)


def begin_share(batch: store.Batch, token: str, share: Share, *, conversation_version: Any) -> None:
    """The batch fails when the conversation changed: nobody may have begun or ended sharing it meanwhile."""
    batch.create(_share(token), _document(share))
    entry = {"token": token, "revision": share.latest.revision, "updated_at": share.updated_at}
    conversation = _conversation(share.uid, share.conversation_id)
    batch.update(conversation, {"share": entry}, option=LastUpdateOption(conversation_version))


def change_share(batch: store.Batch, token: str, share: Share) -> None:
    """The batch fails when the share changed, or went, after it was read."""
    batch.update(_share(token), _document(share), option=LastUpdateOption(share.version))
    entry = {"share.revision": share.latest.revision, "share.updated_at": share.updated_at}
    batch.update(_conversation(share.uid, share.conversation_id), entry)


def _document(share: Share) -> dict[str, Any]:
    return {
        "uid": share.uid,
        "conversation_id": share.conversation_id,
        "revisions": [{**asdict(each), "starts": list(each.starts)} for each in share.revisions],
        "created_at": share.created_at,
        "updated_at": share.updated_at,
    }


def end_share(batch: store.Batch, uid: str, conversation_id: str, *, conversation_version: Any) -> None:
    """The batch fails when the conversation changed."""
    change = {"share": DELETE_FIELD}
    batch.update(_conversation(uid, conversation_id), change, option=LastUpdateOption(conversation_version))


def delete_shares(batch: store.Batch, uid: str, conversation_id: str) -> set[str]:
    """Add to the batch that nobody can follow a link to the conversation any more; gives what was shown by it."""
    found = _of(firestore_client().collection("shares"), uid, conversation_id, "revisions")
    for each in found:
        batch.delete(each.reference)
    return {revision["snapshot"] for each in found for revision in each.get("revisions")}


def delete_pieces(uid: str, conversation_id: str, *, only: Callable[[str, datetime], bool] = lambda *_: True) -> None:
    """What is stored to be shown of the conversation: all of it, or what `only` says of snapshot and time."""
    found = _of(firestore_client().collection("share_pages"), uid, conversation_id, "snapshot", "stored_at")
    unwanted = iter([each.reference for each in found if only(each.get("snapshot"), each.get("stored_at"))])
    while some := list(islice(unwanted, _DELETES_AT_ONCE)):
        batch = store.new_batch()
        for reference in some:
            batch.delete(reference)
        store.commit(batch)


def _of(everybodys: CollectionReference, uid: str, conversation_id: str, *names: str) -> list[DocumentSnapshot[Any]]:
    query = everybodys.where(filter=store.field_filter("uid", "==", uid))
    query = query.where(filter=store.field_filter("conversation_id", "==", conversation_id))
    with store.translated_errors():
        return list(query.select(names).get(**READING))
