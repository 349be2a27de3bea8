"""Attachments over HTTP: begin an upload, see what a message carries, remove it."""

from __future__ import annotations

from typing import Any

from functions.chat.uploads import schemas, service
from shared.http.routes import Call, Routes
from shared.identity.permissions import Permission

_MAX_BODY_BYTES = 8 * 1024

routes = Routes("chat")


@routes.post(
    "/api/v1/uploads",
    who=Permission.CHAT_WRITE,
    body=schemas.UploadRequest,
    answer=schemas.UploadAnswer,
    status=201,
    max_body_bytes=_MAX_BODY_BYTES,
)
def begin_upload(call: Call[schemas.UploadRequest, Any]) -> schemas.UploadAnswer:
    """A link to put an image or a file to, for ten minutes.

    A message takes it along as a part of its content: `{"type": "image" | "file", "upload_id": …}`. Then it is looked
    at and must be what it was said to be. What no message uses is deleted after a day.
    """
    upload_id = call.new_id("upl")
    upload = service.begin(
        call.caller.uid,
        upload_id,
        name=call.body.name,
        content_type=call.body.content_type,
        size_bytes=call.body.size_bytes,
        now=call.now,
    )
    return schemas.UploadAnswer(
        upload_id=upload_id,
        url=upload.url,
        headers=dict(upload.headers),
        expires_at=call.now + service.LINK_LIFETIME,
    )


@routes.get("/api/v1/uploads/{upload_id}", who=Permission.CHAT_READ, answer=schemas.AttachmentView)
def get_upload(call: Call[Any, Any]) -> schemas.AttachmentView:
    """What a message carries, and a link to it. An upload that no message has used yet is not found."""
    attachment = service.get_attachment(call.caller.uid, call.path["upload_id"])
    return schemas.AttachmentView(
        upload_id=attachment.id,
        type=attachment.kind,
        name=attachment.name,
        content_type=attachment.content_type,
        size_bytes=attachment.size_bytes,
        url=service.link_to(call.caller.uid, attachment, now=call.now),
    )


@routes.delete("/api/v1/uploads/{upload_id}", who=Permission.CHAT_WRITE, status=204)
def remove_upload(call: Call[Any, Any]) -> None:
    """Delete a file, before or after messages used it. They go on naming it, but nobody sees it any more."""
    service.remove(call.caller.uid, call.path["upload_id"], now=call.now)
