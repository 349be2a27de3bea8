"""Folders over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functions.chat.folders import schemas, service
from shared.http.routes import Call, Routes
from shared.identity.permissions import Permission

if TYPE_CHECKING:
    from functions.chat.folders.domain import Folder

routes = Routes("chat")


@routes.get("/api/v1/folders", who=Permission.CHAT_READ, answer=schemas.FolderList)
def list_folders(call: Call[Any, Any]) -> schemas.FolderList:
    """The caller's folders, in their order."""
    return schemas.FolderList(items=[_view(folder) for folder in service.list_folders(call.caller.uid)])


@routes.post(
    "/api/v1/folders", who=Permission.CHAT_WRITE, body=schemas.CreateFolder, answer=schemas.FolderView, status=201
)
def create_folder(call: Call[schemas.CreateFolder, Any]) -> schemas.FolderView:
    """Make a folder. Its name is unique whatever the case; a user has at most 200."""
    folder_id = call.new_id("fld")
    return _view(service.create(call.caller.uid, folder_id, call.body.name, call.body.position, now=call.now))


@routes.patch(
    "/api/v1/folders/{folder_id}", who=Permission.CHAT_WRITE, body=schemas.ChangeFolder, answer=schemas.FolderView
)
def change_folder(call: Call[schemas.ChangeFolder, Any]) -> schemas.FolderView:
    """Rename a folder, or move it in the list."""
    said = call.body.model_fields_set
    changed = service.change(
        call.caller.uid,
        call.path["folder_id"],
        name=call.body.name if "name" in said else None,
        position=call.body.position if "position" in said else None,
        now=call.now,
    )
    return _view(changed)


@routes.delete("/api/v1/folders/{folder_id}", who=Permission.CHAT_WRITE, status=204)
def delete_folder(call: Call[Any, Any]) -> None:
    """Delete a folder. The conversations in it stay, and are in no folder then.

    With thousands of them it may answer 503 when it is half done: repeated, it goes on.
    """
    service.delete(call.caller.uid, call.path["folder_id"])


def _view(folder: Folder) -> schemas.FolderView:
    return schemas.FolderView(
        id=folder.id,
        name=folder.name,
        position=folder.position,
        created_at=folder.created_at,
        updated_at=folder.updated_at,
    )
