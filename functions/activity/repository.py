"""Every Firestore path of the activity log: the chain's end is activity/{uid}, its links activity/{uid}/entries/{n}."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from google.cloud.firestore import LastUpdateOption

from functions.activity.domain import EMPTY, Entry, Head, entry_hash
from shared import store
from shared.clients import firestore_client
from shared.pages import READ_TIMEOUT_S, page

if TYPE_CHECKING:
    from google.cloud.firestore import DocumentReference, DocumentSnapshot, WriteBatch


def _chain(uid: str) -> DocumentReference:
    return firestore_client().collection("activity").document(uid)


def read_head(uid: str) -> tuple[Head, Any]:
    """The chain's end, and the version it was read at: None when there is no chain yet."""
    with store.translated_errors():
        snapshot = _chain(uid).get(timeout=READ_TIMEOUT_S)
    if not snapshot.exists:
        return EMPTY, None
    return Head(n=snapshot.get("n"), hash=snapshot.get("hash")), snapshot.update_time


def append(batch: WriteBatch, uid: str, entry: Entry, version: Any) -> None:
    """Add the entry behind the head that was read at `version`; the batch fails if the chain has grown since."""
    digest = entry_hash(entry)
    head = {"n": entry.n, "hash": digest}
    if version is None:
        batch.create(_chain(uid), head)
    else:
        batch.update(_chain(uid), head, option=LastUpdateOption(version))
    document = {**asdict(entry), "hash": digest}
    batch.create(_chain(uid).collection("entries").document(f"{entry.n:012d}"), document)


def list_entries(uid: str, limit: int, cursor: str | None) -> tuple[list[DocumentSnapshot[Any]], str | None]:
    """Newest first."""
    entries = _chain(uid).collection("entries")
    return page(entries, "occurred_at", newest_first=True, limit=limit, cursor=cursor)
