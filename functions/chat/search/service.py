"""Content search: what keeps the index, and what asks it.

No entry outlives what it was made of. A batch that adds entries also names the conversation and the messages in a way
that fails when one of them is gone (`repository.only_while_there`), and a removal takes the documents away before it
looks for their entries: so either the entries came first and are found, or they never come. A search shows only what it
has read from the message itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from functions.chat.domain import UNTITLED, ConversationState, Role
from functions.chat.search import repository
from functions.chat.search.domain import (
    MAX_ENTRIES,
    MAX_TERMS,
    Entry,
    hits,
    leading_term,
    may_answer,
    question_from,
    snippet,
)
from functions.chat.search.schemas import Hit, SearchPage, SearchQuery
from shared import events, store
from shared.errors import InvalidRequest

if TYPE_CHECKING:
    from datetime import datetime

    from functions.chat import schemas
    from functions.chat.search.domain import Question, Snippet
    from shared.store import Batch

TERMS_PER_COMMIT = 20_000
"""Whoever adds many messages to the index commits when a batch holds this many terms: a commit's index entries count
for its size."""
MAX_CANDIDATES = 200
"""How many entries one request looks at …"""
MAX_TEXT_CHARS = 250_000
"""… and about how much text: half a second's work, when it is Chinese."""
_CANDIDATES_PER_READ = 25
_MESSAGES_PER_COMMIT = TERMS_PER_COMMIT // (MAX_TERMS * MAX_ENTRIES)
_ATTEMPTS = 3
_SEARCHED_ROLES = frozenset({Role.USER.value, Role.ASSISTANT.value})


# Keeping the index


def index_turn(event: events.Event, *, now: datetime) -> None:
    """Add the messages of a completed turn, once. Nothing of temporary chats, nor of what was removed meanwhile."""
    uid, conversation_id = event.uid, event.data["conversation_id"]
    message_ids = [each for each in (event.data.get("user_message_id"), event.data["message_id"]) if each]
    for attempt in range(1, _ATTEMPTS + 1):
        conversation = repository.find_conversations(uid, [conversation_id]).get(conversation_id)
        if conversation is None or conversation.get("state") == ConversationState.TEMPORARY:
            return
        found = repository.find_messages(uid, [(conversation_id, message_id) for message_id in message_ids])

        def add_entries(batch: Batch, found: Mapping[str, Mapping[str, Any]] = found) -> None:
            repository.only_while_there(batch, uid, conversation_id, found)
            for message_id, message in found.items():
                _put(batch, uid, conversation_id, message_id, message)

        try:
            events.once("search", event, add_entries, now=now)
        except store.StaleWrite:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


def index_conversation(uid: str, conversation_id: str) -> None:
    """Add all messages of a conversation that was not written turn by turn. Again, it does no harm.

    Raises store.StaleWrite when something is removed at the same time.
    """
    cursor: str | None = None
    while True:
        found, cursor = repository.list_messages(uid, conversation_id, _MESSAGES_PER_COMMIT, cursor)
        batch = store.new_batch()
        repository.only_while_there(batch, uid, conversation_id, found)
        for message_id, message in found.items():
            _put(batch, uid, conversation_id, message_id, message)
        store.commit(batch)
        if cursor is None:
            return


def add_title(batch: Batch, uid: str, conversation_id: str, title: str, at: datetime) -> None:
    """Index a title in the batch that gives it, in place of an earlier one. Not for temporary chats."""
    if title == UNTITLED:
        repository.remove_title(batch, uid, conversation_id)
    else:
        repository.put(batch, uid, conversation_id, title, message_id=None, role=None, at=at)


def add_message(batch: Batch, uid: str, conversation_id: str, message: schemas.Message) -> int:
    """Index a message in the batch that makes it; gives the number of terms (see TERMS_PER_COMMIT).

    Not for temporary chats. The batch, not this, has to make sure that the message's conversation is there.
    """
    return _put(batch, uid, conversation_id, message.id, message.model_dump(include={"role", "parts", "created_at"}))


def remove_of(uid: str, conversation_id: str) -> int:
    """Delete the next entries of a conversation that is gone; how many there were, 0 when it is done."""
    return repository.remove_some_of(uid, conversation_id)


def remove_of_messages(uid: str, message_ids: Sequence[str]) -> None:
    """Delete the entries of messages that are gone."""
    repository.remove_of_messages(uid, message_ids)


def _put(batch: Batch, uid: str, conversation_id: str, message_id: str, message: Mapping[str, Any]) -> int:
    text = _text_of(message)
    if message["role"] not in _SEARCHED_ROLES or not text:
        return 0
    at = message["created_at"]
    return repository.put(batch, uid, conversation_id, text, message_id=message_id, role=message["role"], at=at)


def _text_of(message: Mapping[str, Any]) -> str:
    """What was said; neither reasoning nor the names of files."""
    return "\n\n".join(part["text"] for part in message["parts"] if part["type"] == "text")


# Asking it


def search(uid: str, query: SearchQuery) -> SearchPage:
    """Messages and titles that hold what is asked for, newest first.

    Raises InvalidRequest naming `q` when it holds nothing to search by.
    """
    question = question_from(query.q)
    if question is None:
        raise InvalidRequest.of("q", "needs a letter, a digit or an emoji")
    term = leading_term(question)
    conversations = _Conversations(uid, query.folder_id)
    items: list[Hit] = []
    cursor, looked_at, chars = query.cursor, 0, 0
    while looked_at < MAX_CANDIDATES and chars < MAX_TEXT_CHARS:
        entries, following = repository.list_candidates(uid, term, _CANDIDATES_PER_READ, cursor)
        looked_at += len(entries)
        texts = _texts_of(uid, [entry for entry in entries if _may_fit(entry, query, question)], conversations)
        chars += sum(map(len, texts.values()))
        for entry in entries:
            text = texts.pop(_name_of(entry), None)
            if text is None or not (found := hits(question, text)):
                continue
            items.append(_hit(entry, conversations.get(entry.conversation_id), snippet(text, found)))
            if len(items) == query.limit:
                is_last = following is None and entry is entries[-1]
                return SearchPage(items=items, next_cursor=None if is_last else repository.cursor_behind(entry))
        if following is None:
            return SearchPage(items=items, next_cursor=None)
        cursor = following
    return SearchPage(items=items, next_cursor=cursor)


class _Conversations:
    """Those that one request has met: of each entry that is shown, the conversation is shown too."""

    def __init__(self, uid: str, folder_id: str | None) -> None:
        self._uid = uid
        self._folder_id = folder_id
        self._read: dict[str, dict[str, Any]] = {}

    def read(self, conversation_ids: set[str]) -> None:
        missing = sorted(conversation_ids - self._read.keys())
        self._read |= {each: {} for each in missing} | repository.find_conversations(self._uid, missing)

    def get(self, conversation_id: str) -> dict[str, Any]:
        return self._read[conversation_id]

    def is_searched(self, conversation_id: str) -> bool:
        """Whether it is there, meant to stay, and where the question looks."""
        conversation = self._read[conversation_id]
        if not conversation or conversation.get("state") == ConversationState.TEMPORARY:
            return False
        return self._folder_id is None or conversation.get("folder_id") == self._folder_id


def _may_fit(entry: Entry, query: SearchQuery, question: Question) -> bool:
    """As far as the entry alone tells."""
    if query.role is not None and entry.role != query.role:
        return False
    return entry.words is None or may_answer(question, entry.words)


def _name_of(entry: Entry) -> str:
    """What all entries of one text have in common."""
    return entry.message_id or repository.title_id(entry.conversation_id)


def _texts_of(uid: str, entries: Sequence[Entry], conversations: _Conversations) -> dict[str, str]:
    """The texts that the entries were made of, as they are now; of what is gone, none."""
    conversations.read({entry.conversation_id for entry in entries})
    searched = [entry for entry in entries if conversations.is_searched(entry.conversation_id)]
    places = {(entry.conversation_id, entry.message_id) for entry in searched if entry.message_id is not None}
    messages = repository.find_messages(uid, sorted(places))
    texts = {message_id: _text_of(message) for message_id, message in messages.items()}
    for entry in searched:
        if entry.message_id is None:
            texts[_name_of(entry)] = conversations.get(entry.conversation_id)["title"]
    return texts


def _hit(entry: Entry, conversation: Mapping[str, Any], shown: Snippet) -> Hit:
    return Hit(
        conversation_id=entry.conversation_id,
        title=conversation["title"],
        state=conversation.get("state", ConversationState.ACTIVE),
        message_id=entry.message_id,
        role=entry.role,
        snippet=shown.text,
        matches=list(shown.matches),
        at=entry.at,
    )
