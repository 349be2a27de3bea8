"""users/{uid}/folders/{id}, the names of all in users/{uid}/folder_names/all, and which conversations are in one.

Every change of a folder also changes the one document of names at the version it was read at. So names stay unique and
their number bounded, without a transaction: folders change seldom, and of two changes at once the second reads anew.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from functions.chat.folders.domain import MAX_FOLDERS, Folder, name_key
from shared import store
from shared.clients import firestore_client
from shared.store import DELETE_FIELD, READING, LastUpdateOption, field_filter

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from google.cloud.firestore import DocumentReference

    from shared.store import Batch

CONVERSATIONS_PER_BATCH = 300


@dataclass(frozen=True)
class Names:
    """By the folder's id, what makes its name unique and its place; as of `version`, None before the first folder."""

    keys: Mapping[str, str]
    positions: Mapping[str, int]
    version: datetime | None


def _user(uid: str) -> DocumentReference:
    return firestore_client().collection("users").document(uid)


def _folder(uid: str, folder_id: str) -> DocumentReference:
    reference: DocumentReference = _user(uid).collection("folders").document(folder_id)
    return reference


def _names(uid: str) -> DocumentReference:
    reference: DocumentReference = _user(uid).collection("folder_names").document("all")
    return reference


def read_names(uid: str) -> Names:
    snapshot = store.read(_names(uid))
    if snapshot is None:
        return Names({}, {}, None)
    entries: dict[str, dict[str, Any]] = snapshot.fields["folders"]
    keys = {folder_id: entry["key"] for folder_id, entry in entries.items()}
    positions = {folder_id: entry["position"] for folder_id, entry in entries.items()}
    return Names(keys, positions, snapshot.update_time)


def find(uid: str, folder_id: str) -> Folder | None:
    snapshot = store.read(_folder(uid, folder_id))
    return Folder(id=folder_id, **snapshot.fields) if snapshot else None


def list_folders(uid: str) -> list[Folder]:
    with store.translated_errors():
        found = _user(uid).collection("folders").limit(MAX_FOLDERS).get(**READING)
    return [Folder(id=snapshot.id, **(snapshot.to_dict() or {})) for snapshot in found]


def put(batch: Batch, uid: str, folder: Folder, names: Names, *, is_new: bool) -> None:
    """Create or change a folder; the batch fails when another one changed since the names were read."""
    document = {name: value for name, value in asdict(folder).items() if name != "id"}
    if is_new:
        batch.create(_folder(uid, folder.id), document)
    else:
        batch.update(_folder(uid, folder.id), document)
    entry = {"key": name_key(folder.name), "position": folder.position}
    if names.version is None:
        batch.create(_names(uid), {"folders": {folder.id: entry}})
    else:
        _change_names(batch, uid, {f"folders.`{folder.id}`": entry}, names.version)


def remove(batch: Batch, uid: str, folder_id: str, names: Names) -> None:
    """Delete a folder; the batch fails when another one changed since the names were read."""
    batch.delete(_folder(uid, folder_id))
    if names.version is not None:
        _change_names(batch, uid, {f"folders.`{folder_id}`": DELETE_FIELD}, names.version)


def _change_names(batch: Batch, uid: str, change: dict[str, Any], version: datetime) -> None:
    batch.update(_names(uid), change, option=LastUpdateOption(version))


def only_while_there(batch: Batch, uid: str, folder_id: str) -> None:
    """Make the batch fail when the folder is gone; it does not change it."""
    batch.require(_folder(uid, folder_id))


def take_out_some(uid: str, folder_id: str) -> int:
    """Have the next conversations leave the folder; how many there were. Raises store.StaleWrite when one was removed
    at the same time.
    """
    inside = _user(uid).collection("conversations").where(filter=field_filter("folder_id", "==", folder_id))
    with store.translated_errors():
        found = inside.select([]).limit(CONVERSATIONS_PER_BATCH).get(**READING)
    if found:
        batch = store.new_batch()
        for snapshot in found:
            batch.update(snapshot.reference, {"folder_id": DELETE_FIELD})
        store.commit(batch)
    return len(found)
