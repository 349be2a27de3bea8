"""Titles of conversations: made once, after the first answer, unless the user gave one; and what becomes of a model's.

A title that no user gave has the source `model`, also when the model failed and the title is made of first words.
"""

# ruff: noqa: RUF001 - the quotes, colons and letters of other languages are the point here

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

from functions.chat import repository, utility
from functions.chat.domain import UNTITLED, ConversationState, title_from
from functions.chat.search import service as search
from shared import events, log, store
from shared.ids import derived_id

if TYPE_CHECKING:
    from datetime import datetime

    from functions.chat.domain import Message
    from functions.chat.schemas import Conversation
    from functions.chat.utility import Said
    from shared.events import Event
    from shared.store import Batch

CONSUMER = "title"
MAX_SHOWN_CHARS = 2_000
"""Of the question, and of the answer."""
MAX_TOKENS = 24
ATTEMPTS = 5
"""Turns write at the conversation too; each time it takes some milliseconds to read it anew."""
_TASK = (
    "Name the conversation that begins with this question and this answer. Write a title of at most six words, in the "
    "language of the question, that says what it is about. Write only the title: no quotes, no markdown, no full stop "
    "at its end, no explanation. Do not answer the question."
)
_LABEL = re.compile(
    r"(?:title|titel|titre|título|titulo|titolo|tytuł|tittel|otsikko|başlık|заголовок|название|назва|τίτλος|"
    r"العنوان|عنوان|כותרת|शीर्षक|标题|標題|タイトル|제목)\s*[:：]\s*",
    re.IGNORECASE,
)
_MARK = re.compile(r"(?:#{1,6}|>|[-*+•])\s+")
_FENCE = re.compile(r"[`~]{3,}\w*|[-*_=]{3,}")
_LINK = re.compile(r"!?\[([^\[\]]*)\]\([^()\s]*\)")
_EMPHASIS = re.compile(r"(\*\*|`|~~)(?=\S)(.+?)(?<=\S)\1")
_WRAPPERS = ("**", "__", "~~", "*", "_", "`")
_QUOTES = frozenset(['""', "''", "“”", "„“", "„”", "””", "«»", "»«", "‹›", "「」", "『』", "《》", "‘’", "‚‘"])
_STOPS = ".。．｡"
_SAYING = "LNS"
"""The kinds of characters that make a title: letters, numbers, symbols like emoji; no punctuation alone."""
_DIRECTIONS = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\ufeff\u200b\u2060")
"""Invisible marks that turn the order of letters around, or hide between them."""


def title_conversation(event: Event, *, now: datetime) -> None:
    """Name a conversation after its first turn. Whatever is written at it meanwhile stays, above all a user's title.

    The model is asked once; when it fails, the first words of the question make the title.
    """
    if not event.data["first_in_conversation"] or event.data.get("temporary"):
        return
    uid, conversation_id = event.uid, event.data["conversation_id"]
    found = repository.find_conversation_version(uid, conversation_id)
    if found is None or not _wants_title(found[0]):
        return
    question = repository.find_node(uid, conversation_id, event.data["user_message_id"])
    if question is None:
        return
    said = _ask(event, question) if utility.is_fresh(event, now) else None
    title = (_from_model(said) if said else None) or first_words(question)
    for attempt in range(1, ATTEMPTS + 1):
        found = repository.find_conversation_version(uid, conversation_id)
        if found is None:
            _log_unrecorded(said)
            return
        try:
            _give(event, found, title, said, now)
        except store.StaleWrite:
            if attempt == ATTEMPTS:
                raise
        else:
            return


def cleaned(text: str) -> str:
    """The first line that says something, without what models put around a title, at most TITLE_CHARS characters.
    Empty when there is none.
    """
    for line in text[:MAX_SHOWN_CHARS].splitlines():
        title = _unwrapped(" ".join("".join(map(_visible, line)).split()))
        if any(unicodedata.category(character)[0] in _SAYING for character in title):
            return title_from(title)
    return ""


def first_words(question: Message) -> str:
    """The title without any model: of what was asked, or else of what was attached."""
    return title_from(question.text or ", ".join(part["name"] for part in question.attachments))


def _wants_title(conversation: Conversation) -> bool:
    return conversation.title_source == "default" and conversation.state is not ConversationState.TEMPORARY


def _ask(event: Event, question: Message) -> Said | None:
    answer = repository.find_node(event.uid, event.data["conversation_id"], event.data["message_id"])
    data = {
        "question": question.text[:MAX_SHOWN_CHARS],
        "attached": [part["name"] for part in question.attachments],
        "answer": answer.text[:MAX_SHOWN_CHARS] if answer else "",
    }
    return utility.ask(event.uid, _TASK, data, max_tokens=MAX_TOKENS)


def _from_model(said: Said) -> str | None:
    text = said.text if said.whole else _without_last_word(said.text)
    title = cleaned(text)
    return None if title == UNTITLED else title or None


def _without_last_word(text: str) -> str:
    """The end of a text that was cut off may be half a word."""
    words, _, _ = text.rstrip().rpartition(" ")
    return words or text


def _give(event: Event, found: tuple[Conversation, datetime], title: str, said: Said | None, now: datetime) -> None:
    conversation, version = found
    uid = event.uid

    def add_effects(batch: Batch) -> None:
        if _wants_title(conversation) and title != UNTITLED:
            repository.name_conversation(batch, uid, conversation.id, title, unchanged_since=version)
            search.add_title(batch, uid, conversation.id, title, conversation.created_at)
        else:
            repository.require_conversation(batch, uid, conversation.id)
        if said is not None:
            record_id = derived_id("use", f"{CONSUMER}:{event.id}")
            repository.record_errand(batch, record_id, uid, conversation.id, said, purpose=CONSUMER, at=now)

    events.once(CONSUMER, event, add_effects, now=now)


def _log_unrecorded(said: Said | None) -> None:
    """Nothing is written about whoever, or whatever, is gone."""
    if said is not None:
        log.info("title came too late", upstream_id=said.upstream_id, cost_pico_usd=said.usage.cost_pico_usd)


def _visible(character: str) -> str:
    if character in _DIRECTIONS:
        return ""
    return " " if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") else character


def _unwrapped(line: str) -> str:
    """The line without labels, marks, quotes and emphasis around it, however they are nested."""
    before = None
    while line != before:
        before = line
        line = _FENCE.sub("", line) if _FENCE.fullmatch(line) else line
        line = _LABEL.sub("", line, count=1) if _LABEL.match(line) else line
        line = _MARK.sub("", line, count=1) if _MARK.match(line) else line
        line = _EMPHASIS.sub(r"\2", _LINK.sub(r"\1", line))
        line = _without_pair(line.strip()).strip()
        line = line if line.endswith("..") else line.rstrip(_STOPS)
    return line.strip()


def _without_pair(line: str) -> str:
    inner = line[1:-1]
    if len(line) > 1 and line[0] + line[-1] in _QUOTES and not {line[0], line[-1]} & set(inner):
        return inner
    for wrapper in _WRAPPERS:
        if len(line) > 2 * len(wrapper) and line.startswith(wrapper) and line.endswith(wrapper):
            return line[len(wrapper) : -len(wrapper)]
    return line
