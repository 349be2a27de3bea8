"""The files that can be imported, as their makers write them. Pure: from parsed JSON to `domain.Source`.

- ChatGPT: `conversations.json` of its data export, a list of conversations, each a `mapping` of nodes
- LibreChat: the export of a conversation as JSON, its `messages` flat (`parentMessageId`) or nested (`children`)
- Open WebUI: the export of chats, each with `chat.history.messages`
- Claude: `conversations.json` of its data export, each with `chat_messages`
- ours: `craftpilot.conversation` and `craftpilot.conversations`, as `exporting.py` writes them

What products write changes without notice, so nothing is taken for granted: a value of another type than expected is
as good as none, and what is left out of a conversation for it is told by its place.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from functions.chat.transfer.domain import (
    MAX_ENTRIES,
    MAX_MODEL_CHARS,
    Found,
    Problems,
    Source,
    Unreadable,
    bounded_text,
    line_of,
    moment,
    step,
    system_prompt_of,
    tags_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sized

OURS, OURS_MANY, OUR_VERSION = "craftpilot.conversation", "craftpilot.conversations", 1
_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "ai": "assistant", "model": "assistant"}
_NO_PARENT = "00000000-0000-0000-0000-000000000000"
"""What LibreChat and Claude call the parent of a first message."""
_CHATGPT_CITATION = re.compile("\ue200[^\ue200\ue201]*\ue201")
"""Marks that only ChatGPT's own page turns into links."""
_CHATGPT_TEXTS = ("text", "multimodal_text", "code")


def items_of(content: Any) -> Iterator[tuple[str, Any]]:
    """What a file may hold conversations in, each with its place."""
    if isinstance(content, dict) and isinstance(content.get("conversations"), list):
        for number, item in enumerate(content["conversations"]):
            yield step("conversations", number), item
    elif isinstance(content, list):
        for number, item in enumerate(content):
            yield step("", number), item
    else:
        yield "", content


def read(item: Any, place: str) -> Source:
    """The conversation. Raises Unreadable when it is none of a product that is known here."""
    reader = _reader_of(item)
    if reader is None:
        raise Unreadable("It is not a conversation of a format that is known here.")
    return reader(item, place)


def is_known(item: Any) -> bool:
    return _reader_of(item) is not None


def title_of(item: Any) -> str | None:
    """What to call a conversation that could not be read."""
    for holder in (item, _dict(item, "conversation"), _dict(item, "chat")):
        title = holder.get("title") or holder.get("name") if isinstance(holder, dict) else None
        if shown := line_of(title, 200):
            return shown
    return None


def _reader_of(item: Any) -> Callable[[Any, str], Source] | None:
    if not isinstance(item, dict):
        return None
    known = {
        _ours: item.get("format") == OURS,
        _chatgpt: "mapping" in item,
        _claude: "chat_messages" in item,
        _open_webui: bool(_dict(item, "chat")) or isinstance(_dict(item, "history").get("messages"), dict),
        _librechat: "messagesTree" in item or ("messages" in item and "conversationId" in item),
    }
    return next((reader for reader, fits in known.items() if fits), None)


# ChatGPT


def _chatgpt(item: dict[str, Any], place: str) -> Source:
    mapping_place = step(place, "mapping")
    mapping = item.get("mapping")
    if not isinstance(mapping, dict):
        raise Unreadable(f"{mapping_place} is no object.")
    _require_few(mapping)
    source = Source(
        product="chatgpt",
        id=_text(item, "conversation_id") or _text(item, "id"),
        place=place,
        title=_text(item, "title"),
        tip=_text(item, "current_node"),
        archived=item.get("is_archived") is True,
        pinned=item.get("is_starred") is True,
        created_at=moment(item.get("create_time")),
        updated_at=moment(item.get("update_time")),
    )
    parents = _parents_by_children(mapping)
    for name, node in mapping.items():
        here = step(mapping_place, name)
        if not isinstance(node, dict):
            source.problems.note(here, "is no object; it is left out")
            continue
        parent = node.get("parent")
        parent_id = parent if isinstance(parent, str) else parents.get(name)
        found = Found(id=name, parent_id=parent_id, role=None, text="", place=here)
        message = node.get("message")
        if isinstance(message, dict):
            _fill_from_chatgpt(found, message, step(here, "message"), source)
        elif message is not None:
            source.problems.note(step(here, "message"), "is no object; it is left out")
        source.messages.append(found)
    return source


def _parents_by_children(mapping: dict[str, Any]) -> dict[str, str]:
    """For nodes that do not name their parent themselves."""
    parents: dict[str, str] = {}
    for name, node in mapping.items():
        for child in _list(node, "children"):
            if isinstance(child, str) and child in mapping:
                parents.setdefault(child, name)
    return parents


def _fill_from_chatgpt(found: Found, message: dict[str, Any], place: str, source: Source) -> None:
    metadata = _dict(message, "metadata")
    role = _dict(message, "author").get("role")
    content = _dict(message, "content")
    content_place = step(place, "content")
    if metadata.get("is_visually_hidden_from_conversation") is True or message.get("recipient", "all") != "all":
        return
    kind = content.get("content_type", "text")
    if kind not in _CHATGPT_TEXTS:
        return
    names = _attachment_names(metadata)
    texts = [_CHATGPT_CITATION.sub("", text) for text in _chatgpt_texts(content, content_place, names, source.problems)]
    text = bounded_text("\n\n".join(filter(str.strip, texts)), content_place, source.problems)
    if kind == "code" and text.strip():
        text = f"```\n{text}\n```"
    _say(found, role, text, content_place, source)
    found.at = moment(message.get("create_time"))
    found.model = line_of(metadata.get("model_slug"), MAX_MODEL_CHARS)


def _chatgpt_texts(content: dict[str, Any], place: str, names: dict[str, str], problems: Problems) -> Iterator[str]:
    whole = content.get("text")
    if isinstance(whole, str):
        yield whole
    parts = content.get("parts")
    if parts is not None and not isinstance(parts, list):
        problems.note(step(place, "parts"), "is no list; it is left out")
        return
    shown = set()
    for number, part in enumerate(parts or ()):
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            pointer = part.get("asset_pointer")
            kind = part.get("content_type")
            if isinstance(part.get("text"), str):
                yield part["text"]
            elif kind == "image_asset_pointer":
                asset = pointer.rpartition("/")[2] if isinstance(pointer, str) else ""
                shown.add(asset)
                yield _image(names.get(asset))
            elif isinstance(kind, str):
                yield f"[{line_of(kind, 40) or 'file'}]"
        elif part is not None:
            problems.note(step(step(place, "parts"), number), "is no text; it is left out")
    for asset, name in names.items():
        if asset not in shown:
            yield _file(name)


def _attachment_names(metadata: dict[str, Any]) -> dict[str, str]:
    """The names of a message's files by their ids."""
    names = {}
    for number, attachment in enumerate(_list(metadata, "attachments")):
        name = line_of(attachment.get("name"), 200) if isinstance(attachment, dict) else None
        if name:
            names[_text(attachment, "id") or str(number)] = name
    return names


# LibreChat


def _librechat(item: dict[str, Any], place: str) -> Source:
    name = "messagesTree" if "messagesTree" in item else "messages"
    messages = item.get(name)
    if not isinstance(messages, list):
        raise Unreadable(f"{step(place, name)} is no list.")
    _require_few(messages)
    options = _dict(item, "options")
    prompt = _text(options, "promptPrefix") or _text(options, "system")
    source = Source(
        product="librechat",
        id=_text(item, "conversationId"),
        place=place,
        title=_text(item, "title"),
        archived=item.get("isArchived") is True,
        tags=tags_of(_list(item, "tags")),
        created_at=moment(item.get("createdAt")),
        updated_at=moment(item.get("updatedAt")),
    )
    if prompt:
        source.system_prompt = system_prompt_of(prompt, step(place, "options"), source.problems)
    model = line_of(options.get("model"), MAX_MODEL_CHARS)
    waiting: list[tuple[Any, str, str | None]] = _numbered(messages, step(place, name), None)
    while waiting:
        message, here, holder = waiting.pop()
        if not isinstance(message, dict):
            source.problems.note(here, "is no object; it is left out")
            continue
        found = _librechat_message(message, here, holder, source)
        found.model = found.model or model if found.role == "assistant" else None
        source.messages.append(found)
        _require_few(source.messages)
        waiting += _numbered(_list(message, "children"), step(here, "children"), found.id)
    return source


def _numbered(messages: list[Any], place: str, holder: str | None) -> list[tuple[Any, str, str | None]]:
    """The last one first: they are taken from the end."""
    return [(message, step(place, number), holder) for number, message in enumerate(messages)][::-1]


def _librechat_message(message: dict[str, Any], place: str, holder: str | None, source: Source) -> Found:
    parent = _text(message, "parentMessageId")
    found = Found(
        id=_text(message, "messageId") or f"at {len(source.messages)}",
        parent_id=holder or (parent if parent != _NO_PARENT else None),
        role=None,
        text="",
        place=place,
        at=moment(message.get("createdAt")),
        model=line_of(message.get("model"), MAX_MODEL_CHARS),
    )
    if message.get("error") is True:
        return found
    text = _text(message, "text")
    name = "text" if text else "content"
    texts = [text] if text else list(_parts(message.get("content"), step(place, "content"), source.problems))
    texts += [_file(line_of(_dict_of(each).get("filename"), 200)) for each in _list(message, "files")]
    whole = bounded_text("\n\n".join(filter(str.strip, texts)), step(place, name), source.problems)
    _say(found, _librechat_role(message), whole, step(place, name), source)
    return found


def _librechat_role(message: dict[str, Any]) -> Any:
    if "role" in message:
        return message["role"]
    by_user = message.get("isCreatedByUser")
    sender = message.get("sender")
    is_user = by_user if isinstance(by_user, bool) else isinstance(sender, str) and sender.lower() == "user"
    return "user" if is_user else "assistant"


# Open WebUI


def _open_webui(item: dict[str, Any], place: str) -> Source:
    chat = item["chat"] if isinstance(item.get("chat"), dict) else item
    chat_place = step(place, "chat") if chat is not item else place
    history = _dict(chat, "history")
    source = Source(
        product="open-webui",
        id=_text(item, "id") or _text(chat, "id"),
        place=place,
        title=_text(item, "title") or _text(chat, "title"),
        tip=_text(history, "currentId"),
        archived=item.get("archived") is True,
        pinned=item.get("pinned") is True,
        tags=tags_of(_tag_names([*_list(chat, "tags"), *_list(_dict(item, "meta"), "tags")])),
        created_at=moment(item.get("created_at")) or moment(chat.get("timestamp")),
        updated_at=moment(item.get("updated_at")),
    )
    prompt = _text(_dict(chat, "params"), "system") or _text(chat, "system")
    if prompt:
        source.system_prompt = system_prompt_of(prompt, step(chat_place, "system"), source.problems)
    messages = history.get("messages")
    named: list[tuple[str, Any, str, str | None]] = []
    if isinstance(messages, dict):
        here = step(step(chat_place, "history"), "messages")
        named += [(name, message, step(here, name), None) for name, message in messages.items()]
    else:
        here, before = step(chat_place, "messages"), None
        for number, message in enumerate(_list(chat, "messages")):
            name = _text(_dict_of(message), "id") or f"at {number}"
            named.append((name, message, step(here, number), before))
            before = name
    _require_few(named)
    for name, message, message_place, before in named:
        if not isinstance(message, dict):
            source.problems.note(message_place, "is no object; it is left out")
            continue
        source.messages.append(_open_webui_message(name, message, message_place, before, source))
    return source


def _open_webui_message(name: str, message: dict[str, Any], place: str, before: str | None, source: Source) -> Found:
    found = Found(
        id=name,
        parent_id=_text(message, "parentId") or before,
        role=None,
        text="",
        place=place,
        at=moment(message.get("timestamp")),
        model=line_of(message.get("model"), MAX_MODEL_CHARS),
    )
    texts = list(_parts(message.get("content"), step(place, "content"), source.problems))
    for each in map(_dict_of, _list(message, "files")):
        name_of_file = line_of(each.get("name"), 200)
        texts.append(_image(name_of_file) if each.get("type") == "image" else _file(name_of_file))
    text = bounded_text("\n\n".join(filter(str.strip, texts)), step(place, "content"), source.problems)
    _say(found, message.get("role"), text, step(place, "content"), source)
    return found


def _tag_names(tags: list[Any]) -> Iterator[Any]:
    for tag in tags:
        yield tag.get("name") if isinstance(tag, dict) else tag


# Claude


def _claude(item: dict[str, Any], place: str) -> Source:
    messages = item.get("chat_messages")
    messages_place = step(place, "chat_messages")
    if not isinstance(messages, list):
        raise Unreadable(f"{messages_place} is no list.")
    _require_few(messages)
    source = Source(
        product="claude",
        id=_text(item, "uuid"),
        place=place,
        title=_text(item, "name"),
        tip=_text(item, "current_leaf_message_uuid"),
        created_at=moment(item.get("created_at")),
        updated_at=moment(item.get("updated_at")),
    )
    before = None
    for number, message in enumerate(messages):
        here = step(messages_place, number)
        if not isinstance(message, dict):
            source.problems.note(here, "is no object; it is left out")
            continue
        name = _text(message, "uuid") or f"at {number}"
        parent = _text(message, "parent_message_uuid")
        found = Found(name, before if parent is None else parent, None, "", here, moment(message.get("created_at")))
        if parent == _NO_PARENT:
            found.parent_id = None
        texts = list(_parts(message.get("content"), step(here, "content"), source.problems))
        texts = texts if any(map(str.strip, texts)) else [_text(message, "text") or ""]
        texts += [_file(line_of(_dict_of(each).get("file_name"), 200)) for each in _list(message, "attachments")]
        texts += [_file(line_of(_dict_of(each).get("file_name"), 200)) for each in _list(message, "files")]
        text = bounded_text("\n\n".join(filter(str.strip, texts)), here, source.problems)
        _say(found, message.get("sender"), text, here, source)
        source.messages.append(found)
        before = name
    return source


# Ours


def _ours(item: dict[str, Any], place: str) -> Source:
    if item.get("version") != OUR_VERSION:
        raise Unreadable(f"Only version {OUR_VERSION} of {OURS} is known here.")
    conversation = _dict(item, "conversation")
    messages = item.get("messages")
    if not isinstance(messages, list):
        raise Unreadable(f"{step(place, 'messages')} is no list.")
    _require_few(messages)
    source = Source(
        product="craftpilot",
        id=_text(conversation, "id"),
        place=place,
        title=_text(conversation, "title"),
        tip=_text(conversation, "tip"),
        archived=conversation.get("state") == "archived",
        pinned=conversation.get("pinned") is True,
        tags=tags_of(_list(conversation, "tags")),
        created_at=moment(conversation.get("created_at")),
        updated_at=moment(conversation.get("updated_at")),
    )
    prompt = _text(_dict(conversation, "settings"), "system_prompt")
    if prompt:
        source.system_prompt = system_prompt_of(
            prompt, step(place, "conversation.settings.system_prompt"), source.problems
        )
    for number, message in enumerate(messages):
        here = step(step(place, "messages"), number)
        if not isinstance(message, dict):
            source.problems.note(here, "is no object; it is left out")
            continue
        found = Found(
            id=_text(message, "id") or f"at {number}",
            parent_id=_text(message, "parent_id"),
            role=None,
            text="",
            place=here,
            at=moment(message.get("created_at")),
            model=line_of(message.get("model"), MAX_MODEL_CHARS),
        )
        parts = list(_parts(message.get("parts"), step(here, "parts"), source.problems))
        text = bounded_text("\n\n".join(parts), step(here, "parts"), source.problems)
        _say(found, message.get("role"), text, here, source)
        source.messages.append(found)
    return source


# What they have in common


def _require_few(entries: Sized) -> None:
    if len(entries) > MAX_ENTRIES:
        raise Unreadable(f"It has more than {MAX_ENTRIES} entries.")


def _say(found: Found, role: Any, text: str, place: str, source: Source) -> None:
    """Who says it. The first system message becomes the conversation's; what nobody would see is left out."""
    if not text.strip():
        return
    if role == "system":
        if source.system_prompt is None:
            source.system_prompt = system_prompt_of(text, place, source.problems)
        return
    known = _ROLES.get(role) if isinstance(role, str) else None
    if known is None:
        if role != "tool":
            source.problems.note(place, "is said by nobody who is known here; it is left out")
        return
    found.role, found.text = known, text


def _parts(content: Any, place: str, problems: Problems) -> Iterator[str]:
    """The texts of a content that is one text, or a list of parts as OpenAI, Anthropic, LibreChat and we write them."""
    if isinstance(content, str):
        yield content
        return
    if content is not None and not isinstance(content, list):
        problems.note(place, "is neither a text nor a list; it is left out")
        return
    for number, part in enumerate(content or ()):
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            yield from _part(part)
        else:
            problems.note(step(place, number), "is no part of a message; it is left out")


def _part(part: dict[str, Any]) -> Iterator[str]:
    kind = part.get("type")
    if kind == "text":
        text = part.get("text")
        text = text.get("value") if isinstance(text, dict) else text
        if isinstance(text, str):
            yield text
    elif kind in ("image", "image_url", "image_file"):
        yield _image(line_of(part.get("name") or _dict(part, "image_file").get("filename"), 200))
    elif kind == "file":
        yield _file(line_of(part.get("name"), 200))


def _image(name: str | None) -> str:
    return f"[image: {name}]" if name else "[image]"


def _file(name: str | None) -> str:
    return f"[file: {name}]" if name else "[file]"


def _text(holder: dict[str, Any], name: str) -> str | None:
    value = holder.get(name)
    return value if isinstance(value, str) and value else None


def _list(holder: Any, name: str) -> list[Any]:
    value = holder.get(name) if isinstance(holder, dict) else None
    return value if isinstance(value, list) else []


def _dict(holder: Any, name: str) -> dict[str, Any]:
    return _dict_of(holder.get(name)) if isinstance(holder, dict) else {}


def _dict_of(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
