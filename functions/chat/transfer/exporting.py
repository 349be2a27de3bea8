"""Conversations on their way out, page by page: JSON that holds everything, Markdown to read.

The JSON is a format of our own that `formats.py` reads again:

    {"format": "craftpilot.conversation", "version": 1, "exported_at": …,
     "conversation": {id, title, model, tip, state, pinned, folder, tags, settings, created_at, updated_at},
     "messages": [{id, parent_id, role, parts, status, model, finish_reason, usage, credits, continues, created_at}]}

`parent_id` makes the messages a tree, whose branch in use ends at `tip`; times are ISO 8601 in UTC; `credits` says what
a message cost. Parts are those of the API; of attachments there are names and types. Many conversations are
`{"format": "craftpilot.conversations", "version": 1, "exported_at": …, "conversations": [the above, …]}`.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from functions.chat.folders import repository as folders
from functions.chat.sharing.domain import is_web_link
from functions.chat.transfer import repository
from functions.chat.transfer.formats import OUR_VERSION, OURS, OURS_MANY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from functions.chat.schemas import Conversation

_MESSAGE_FIELDS = ("role", "parts", "status", "model", "finish_reason", "usage", "credits", "continues", "created_at")
_CONVERSATION_FIELDS = {
    "id",
    "title",
    "model",
    "tip",
    "state",
    "pinned",
    "tags",
    "settings",
    "created_at",
    "updated_at",
}
_NEVER_LEAVES = frozenset({"upload_id"})
_SPEAKERS = {"user": "You", "assistant": "Assistant", "tool": "Tool"}
_CHUNK_CHARS = 64 * 1024


def conversation_as_json(uid: str, conversation: Conversation, *, now: datetime) -> Iterator[bytes]:
    return _in_chunks(_one_as_json(uid, conversation, now))


def all_as_json(uid: str, *, now: datetime) -> Iterator[bytes]:
    """Every conversation of the user, whatever its state."""
    return _in_chunks(_many_as_json(uid, now))


def conversation_as_markdown(uid: str, conversation: Conversation, *, now: datetime) -> Iterator[bytes]:
    """The branch in use."""
    branch = repository.branch_ids(uid, conversation.id, conversation.tip) if conversation.tip else []
    return _in_chunks(_markdown(conversation, repository.walk_branch(uid, conversation.id, branch), now))


def _in_chunks(texts: Iterable[str]) -> Iterator[bytes]:
    """Few large pieces in place of many small ones."""
    waiting: list[str] = []
    size = 0
    for text in texts:
        waiting.append(text)
        size += len(text)
        if size >= _CHUNK_CHARS:
            yield "".join(waiting).encode()
            waiting, size = [], 0
    yield "".join(waiting).encode()


# JSON


def _many_as_json(uid: str, now: datetime) -> Iterator[str]:
    yield f'{_json(_head(OURS_MANY, now))[:-1]},"conversations":['
    names = _Folders(uid)
    end, separator = "", ""
    for each in repository.walk_everything(uid):
        if isinstance(each, tuple):
            yield separator + _json(_exported(*each))
            separator = ",\n"
        else:
            yield end + _beginning(each, names, now)
            end, separator = "]},\n", "\n"
    yield "]}]}\n" if end else "]}\n"


def _one_as_json(uid: str, conversation: Conversation, now: datetime) -> Iterator[str]:
    yield _beginning(conversation, _Folders(uid), now)
    separator = "\n"
    for message_id, document in repository.walk_messages(uid, conversation.id):
        yield separator + _json(_exported(message_id, document))
        separator = ",\n"
    yield "]}\n"


def _head(name: str, now: datetime) -> dict[str, Any]:
    return {"format": name, "version": OUR_VERSION, "exported_at": now}


def _beginning(conversation: Conversation, names: _Folders, now: datetime) -> str:
    """A conversation up to its messages."""
    shown = conversation.model_dump(include=_CONVERSATION_FIELDS, exclude_none=True)
    shown["folder"] = names.name_of(conversation.folder_id)
    return f'{_json({**_head(OURS, now), "conversation": shown})[:-1]},"messages":['


class _Folders:
    """Names of folders, each looked up once."""

    def __init__(self, uid: str) -> None:
        self._uid = uid
        self._known: dict[str, str | None] = {}

    def name_of(self, folder_id: str | None) -> str | None:
        if folder_id is None:
            return None
        if folder_id not in self._known:
            folder = folders.find(self._uid, folder_id)
            self._known[folder_id] = folder.name if folder else None
        return self._known[folder_id]


def _exported(message_id: str, document: Mapping[str, Any]) -> dict[str, Any]:
    shown = {name: document[name] for name in _MESSAGE_FIELDS if document.get(name) is not None}
    shown["parts"] = [
        {name: value for name, value in part.items() if name not in _NEVER_LEAVES} for part in document["parts"]
    ]
    return {"id": message_id, "parent_id": document.get("parent_id"), **shown}


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_plain)


def _plain(value: object) -> str:
    assert isinstance(value, datetime), f"{type(value)} has no form in JSON"
    return value.astimezone(UTC).isoformat()


# Markdown


def _markdown(
    conversation: Conversation, messages: Iterable[tuple[str, Mapping[str, Any]]], now: datetime
) -> Iterator[str]:
    yield f"# {_line(conversation.title)}\n\n"
    yield f"Begun {_minute(conversation.created_at)}, exported {_minute(now)}.\n"
    for _, document in messages:
        yield from _message_as_markdown(document)


def _message_as_markdown(document: Mapping[str, Any]) -> Iterator[str]:
    parts = document["parts"]
    texts = [part["text"] for part in parts if part["type"] == "text" and part["text"]]
    files = [part for part in parts if part["type"] in ("image", "file")]
    sources = [part for part in parts if part["type"] == "citation"]
    if not (texts or files or sources):
        return
    said_by = [
        _SPEAKERS.get(document["role"], document["role"]),
        document.get("model"),
        _minute(document["created_at"]),
    ]
    yield f"\n## {' · '.join(filter(None, said_by))}\n\n"
    # The text is left alone: what is code in it must stay code.
    yield "\n\n".join(texts) + "\n" if texts else ""
    if files:
        yield "\n" + "".join(f"- Attached: {_line(part['name'])} ({part['content_type']})\n" for part in files)
    if sources:
        yield "\nSources:\n\n" + "".join(f"{n}. {_link(part)}\n" for n, part in enumerate(sources, start=1))


def _link(citation: Mapping[str, Any]) -> str:
    url = re.sub(r"[\s<>]", "", citation["url"])
    title = re.sub(r"([\\\[\]])", r"\\\1", _line(citation["title"]) or url)
    return f"[{title}](<{url}>)" if is_web_link(url) else title


def _line(text: str) -> str:
    return " ".join(text.split())


def _minute(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
