"""Every Firestore path and query of attachments.

users/{uid}/attachments/{id}
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functions.chat.uploads.domain import OPEN_FOR, State, Upload
from shared import store
from shared.clients import firestore_client
from shared.store import READING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from google.cloud.firestore import CollectionReference, DocumentReference, DocumentSnapshot

    from shared.store import Batch

_ABSENT_ONCE_KEPT = {"link_ends_at": store.DELETE_FIELD, "expires_at": store.DELETE_FIELD}


class Read:
    """An upload and the version it was read at, for writes that depend on it."""

    def __init__(self, snapshot: DocumentSnapshot[Any]) -> None:
        document = snapshot.to_dict()
        assert document is not None, "only what is there is read"
        self.upload = Upload(
            id=snapshot.id,
            name=document["name"],
            content_type=document["content_type"],
            size_bytes=document["size_bytes"],
            state=State(document["state"]),
            conversation_id=document["conversation_id"],
            created_at=document["created_at"],
            link_ends_at=document.get("link_ends_at"),
            expires_at=document.get("expires_at"),
        )
        self.option = store.LastUpdateOption(snapshot.update_time)


def _attachments(uid: str) -> CollectionReference:
    reference: CollectionReference = firestore_client().collection("users").document(uid).collection("attachments")
    return reference


def _attachment(uid: str, upload_id: str) -> DocumentReference:
    reference: DocumentReference = _attachments(uid).document(upload_id)
    return reference


def find_all(uid: str, upload_ids: Iterable[str]) -> dict[str, Read]:
    """Those that are there, by their ids; in one round trip."""
    references = [_attachment(uid, upload_id) for upload_id in upload_ids]
    if not references:
        return {}
    with store.translated_errors():
        found = list(firestore_client().get_all(references, **READING))
    return {snapshot.id: Read(snapshot) for snapshot in found if snapshot.exists}


def find(uid: str, upload_id: str) -> Read | None:
    return find_all(uid, [upload_id]).get(upload_id)


def count_open(uid: str, now: datetime) -> int:
    """Uploads that no message used, and that may still lie in the bucket or come there."""
    waiting: Any = _attachments(uid).where(filter=store.field_filter("expires_at", ">", now))
    with store.translated_errors():
        return int(waiting.count().get(**READING)[0][0].value)


def last_link_ends_at(uid: str) -> datetime | None:
    """Until when the longest of the user's links to put a file is good; None without one."""
    newest = _attachments(uid).order_by("link_ends_at", direction="DESCENDING").limit(1)
    with store.translated_errors():
        found = newest.get(**READING)
    return found[0].get("link_ends_at") if found else None


def list_of_conversation(uid: str, conversation_id: str, limit: int) -> list[str]:
    """The ids of attachments that were first used in the conversation."""
    used = _attachments(uid).where(filter=store.field_filter("conversation_id", "==", conversation_id))
    with store.translated_errors():
        return [snapshot.id for snapshot in used.select([]).limit(limit).get(**READING)]


# Writing: each adds to the caller's batch


def add(batch: Batch, uid: str, upload: Upload) -> None:
    """The batch fails with AlreadyExists when the same request was here before."""
    document = {
        "name": upload.name,
        "content_type": upload.content_type,
        "size_bytes": upload.size_bytes,
        "state": upload.state.value,
        "conversation_id": None,
        "created_at": upload.created_at,
        "link_ends_at": upload.link_ends_at,
        "expires_at": upload.expires_at,
    }
    batch.create(_attachment(uid, upload.id), document)


def add_link(batch: Batch, uid: str, read: Read, *, until: datetime) -> None:
    """Another link to the same upload; the batch fails when it has changed since it was read."""
    change = {"link_ends_at": until, "expires_at": until + OPEN_FOR}
    batch.update(_attachment(uid, read.upload.id), change, option=read.option)


def keep(batch: Batch, uid: str, read: Read, conversation_id: str, at: datetime) -> None:
    """The batch fails when the upload has changed since it was read."""
    change = {"state": State.KEPT.value, "conversation_id": conversation_id, "kept_at": at, **_ABSENT_ONCE_KEPT}
    batch.update(_attachment(uid, read.upload.id), change, option=read.option)


def remember_removed(batch: Batch, uid: str, read: Read, *, until: datetime) -> None:
    """Nothing is left of it but that its link is still good; the batch fails when it has changed since it was read."""
    change = {"state": State.REMOVED.value, "name": "", "expires_at": until}
    batch.update(_attachment(uid, read.upload.id), change, option=read.option)


def forget(batch: Batch, uid: str, upload_ids: Sequence[str]) -> None:
    for upload_id in upload_ids:
        batch.delete(_attachment(uid, upload_id))


def forget_as_read(batch: Batch, uid: str, read: Read) -> None:
    """The batch fails when it has changed since it was read."""
    batch.delete(_attachment(uid, read.upload.id), option=read.option)
