"""What one can do with folders."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from functions.chat.folders import repository
from functions.chat.folders.domain import MAX_FOLDERS, Folder, in_order, name_key
from shared import store
from shared.errors import Conflict, InvalidRequest, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from functions.chat.folders.repository import Names
    from shared.store import Batch

T = TypeVar("T")

PAGES_AT_ONCE = 30
"""How many pages of conversations one request takes out of a folder."""
_ATTEMPTS = 5


def list_folders(uid: str) -> list[Folder]:
    """In the order they are shown in."""
    return sorted(repository.list_folders(uid), key=in_order)


def create(uid: str, folder_id: str, name: str, position: int | None, *, now: datetime) -> Folder:
    """A new folder; the one that is there when the same request made it before.

    Raises Conflict when another one has the name, or when there are as many as there may be.
    """
    return _patiently(lambda: _create(uid, folder_id, name, position, now))


def _create(uid: str, folder_id: str, name: str, position: int | None, now: datetime) -> Folder:
    names = repository.read_names(uid)
    if folder_id in names.keys:
        return _get(uid, folder_id)
    _require_unused(names, folder_id, name)
    if len(names.keys) >= MAX_FOLDERS:
        raise Conflict(f"There are {MAX_FOLDERS} folders, as many as there may be; delete one first.")
    last = max(names.positions.values(), default=-1)
    place = position if position is not None else last + 1
    folder = Folder(id=folder_id, name=name, position=place, created_at=now, updated_at=now)
    batch = store.new_batch()
    repository.put(batch, uid, folder, names, is_new=True)
    store.commit(batch)
    return folder


def change(uid: str, folder_id: str, *, name: str | None, position: int | None, now: datetime) -> Folder:
    """Rename or move a folder. Raises NotFound, or Conflict when another one has the name."""
    return _patiently(lambda: _change(uid, folder_id, name, position, now))


def _change(uid: str, folder_id: str, name: str | None, position: int | None, now: datetime) -> Folder:
    names = repository.read_names(uid)
    folder = _get(uid, folder_id)
    if name is not None:
        _require_unused(names, folder_id, name)
    changed = replace(
        folder,
        name=folder.name if name is None else name,
        position=folder.position if position is None else position,
    )
    if changed == folder:
        return folder
    changed = replace(changed, updated_at=now)
    batch = store.new_batch()
    repository.put(batch, uid, changed, names, is_new=False)
    store.commit(batch)
    return changed


def delete(uid: str, folder_id: str) -> None:
    """Delete a folder. Its conversations stay, and are in none.

    The folder goes last, so a repetition goes on where this stopped. Raises NotFound, and Unavailable when there are
    more conversations than one request may take out: repeated, it goes on.
    """
    _get(uid, folder_id)
    _take_out(uid, folder_id)
    _patiently(lambda: _delete(uid, folder_id))
    # A conversation may have come in since; what comes now is refused (`require_into`).
    _take_out(uid, folder_id)


def _delete(uid: str, folder_id: str) -> None:
    batch = store.new_batch()
    repository.remove(batch, uid, folder_id, repository.read_names(uid))
    store.commit(batch)


def _take_out(uid: str, folder_id: str) -> None:
    for _ in range(PAGES_AT_ONCE):
        if _patiently(lambda: repository.take_out_some(uid, folder_id)) < repository.CONVERSATIONS_PER_BATCH:
            return
    raise Unavailable("The folder holds many conversations; repeat this to go on.", retry_after_s=1)


def require(uid: str, folder_id: str) -> None:
    """Raises InvalidRequest naming `folder_id` when the user has no such folder."""
    if repository.find(uid, folder_id) is None:
        raise InvalidRequest.of("folder_id", "names no folder of yours")


def require_into(batch: Batch, uid: str, folder_id: str) -> None:
    """Make the batch that puts a conversation into the folder fail when the folder is gone by then."""
    repository.only_while_there(batch, uid, folder_id)


def _get(uid: str, folder_id: str) -> Folder:
    folder = repository.find(uid, folder_id)
    if folder is None:
        raise NotFound("There is no such folder.")
    return folder


def _require_unused(names: Names, folder_id: str, name: str) -> None:
    key = name_key(name)
    if any(key == other for other_id, other in names.keys.items() if other_id != folder_id):
        raise Conflict("Another folder has this name; choose another.", reason="name_taken")


def _patiently(act: Callable[[], T]) -> T:
    """Try again while something that was read changes before it is written."""
    for _ in range(_ATTEMPTS):
        try:
            return act()
        except (store.StaleWrite, store.AlreadyExists):
            continue
    raise Unavailable("Too many changes at the same time; try again.", retry_after_s=1)
