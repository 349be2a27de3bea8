"""Export and import over HTTP."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from functions.chat import repository
from functions.chat.transfer import exporting, importing, schemas
from shared.errors import AppError, NotFound
from shared.http.routes import Call, FileBody, Routes, Stream
from shared.identity.permissions import Permission

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILE_BYTES = 16 * 1024 * 1024
_HOW_TO_SPLIT = (
    "the file is a list of conversations: send it in several parts, each a list of some of them. Parts that are sent "
    "twice do no harm"
)
_JSON, _MARKDOWN = "application/json", "text/markdown; charset=utf-8"
_WHOLE_ACCOUNT_COUNTS, _FILE_COUNTS, _CONVERSATION_COUNTS = 30, 10, 3
"""Of the limits: each of them reads or writes as much as so many other requests, or more."""
_MAX_NAME_CHARS = 80

routes = Routes("chat")


@routes.get(
    "/api/v1/conversations/export",
    who=Permission.CHAT_READ,
    query=schemas.ExportAllQuery,
    weight=_WHOLE_ACCOUNT_COUNTS,
)
def export_all(call: Call[Any, schemas.ExportAllQuery]) -> Stream:
    """Take all conversations along, as one JSON file that can be imported again.

    Firebase Hosting ends an answer after 60 seconds: for a large account call the function's own URL. A file that
    broke off on its way is not valid JSON.
    """
    chunks = exporting.all_as_json(call.caller.uid, now=call.now)
    return _download(chunks, f"conversations-{call.now:%Y-%m-%d}", "json", _JSON)


@routes.post(
    "/api/v1/conversations/import",
    who=Permission.CHAT_WRITE,
    body=FileBody,
    answer=schemas.ImportAnswer,
    max_body_bytes=MAX_FILE_BYTES,
    too_large=_HOW_TO_SPLIT,
    weight=_FILE_COUNTS,
)
def import_conversations(call: Call[FileBody, Any]) -> schemas.ImportAnswer:
    """Take in conversations: the body is the file itself.

    Known are `conversations.json` of ChatGPT and Claude, exports of LibreChat and Open WebUI as JSON, and our own.
    Branches, titles, tags and times are kept; of attachments there remain the names; tools are left out. The same file
    again takes in what is missing and nothing twice: that is also how to go on when the answer says `more`. At most 500
    conversations and 20,000 messages are taken in by one request.
    """
    return importing.import_conversations(call.caller.uid, call.body.content, now=call.now)


@routes.get(
    "/api/v1/conversations/{conversation_id}/export",
    who=Permission.CHAT_READ,
    query=schemas.ExportQuery,
    weight=_CONVERSATION_COUNTS,
)
def export_conversation(call: Call[Any, schemas.ExportQuery]) -> Stream:
    """Take a conversation along: as JSON with all branches, or as Markdown to read."""
    uid = call.caller.uid
    conversation = repository.find_conversation(uid, call.path["conversation_id"])
    if conversation is None:
        raise NotFound("There is no such conversation.")
    if call.query.format == "markdown":
        chunks = exporting.conversation_as_markdown(uid, conversation, now=call.now)
        return _download(chunks, conversation.title, "md", _MARKDOWN)
    chunks = exporting.conversation_as_json(uid, conversation, now=call.now)
    return _download(chunks, conversation.title, "json", _JSON)


def _download(chunks: Iterator[bytes], title: str, extension: str, content_type: str) -> Stream:
    """A file to save. When it breaks off, the connection does too: half a file must not look like a whole one."""
    failures: list[AppError] = []

    def watched() -> Iterator[bytes]:
        try:
            yield from chunks
        except AppError as error:
            failures.append(error)
            raise

    return Stream(
        watched(),
        headers={"Content-Disposition": _attachment(title, extension)},
        content_type=content_type,
        failure=lambda: failures[0] if failures else None,
    )


def _attachment(title: str, extension: str) -> str:
    """The file's name for old and new clients (RFC 6266, with RFC 8187 for what is not ASCII)."""
    plain = re.sub(r"[^A-Za-z0-9]+", "-", title)[:_MAX_NAME_CHARS].strip("-") or "conversation"
    exact = quote(f"{title[:_MAX_NAME_CHARS]}.{extension}", safe="")
    return f"attachment; filename=\"{plain}.{extension}\"; filename*=UTF-8''{exact}"
