"""Taking conversations in.

A conversation appears with its own document, which is written after all of its messages; until then nobody sees them.
All ids come from the user and the file, so whoever sends the file again after a crash goes on where it stopped, and
what is there already is left alone.
"""

from __future__ import annotations

import threading
import time
from itertools import islice
from typing import TYPE_CHECKING, Any

from functions.chat import repository as conversations
from functions.chat import schemas as chat
from functions.chat.domain import ConversationState
from functions.chat.events import ConversationsImported
from functions.chat.removal import repository as removals
from functions.chat.search import service as search
from functions.chat.transfer import formats, repository, schemas
from functions.chat.transfer.domain import (
    MAX_MESSAGES,
    NewConversation,
    NewMessage,
    Problems,
    Source,
    Unreadable,
    conversation_id,
    converted,
    line_of,
)
from functions.chat.transfer.reading import parsed
from shared import events, store
from shared.errors import InvalidRequest, Unavailable
from shared.identity import accounts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

MAX_CONVERSATIONS = 500
TIME_S = 40.0
"""After which a request takes in no more: Hosting waits for a minute."""
_MAX_SKIPPED_SHOWN = 100
_LOOKED_AT_ONCE = 50
_GROUP_CONVERSATIONS, _GROUP_MESSAGES = 25, 500
"""What appears together, and is told by one event: little enough to be indexed by one run of its consumer."""
_BATCH_WRITES, _BATCH_CHARS = 400, 2_000_000
"""Firestore takes 10 MiB at once."""
_WAIT_S = 10.0

_one_at_a_time = threading.Lock()
"""A large file takes ten times its size in memory, and the process serves others meanwhile."""


def import_conversations(uid: str, raw: bytes, *, now: datetime) -> schemas.ImportAnswer:
    """Take in what a file holds: see `formats`. Raises InvalidRequest when it is no such file, and Unavailable."""
    if not _one_at_a_time.acquire(timeout=_WAIT_S):
        raise Unavailable("Other imports are under way; try again.", retry_after_s=10)
    try:
        items = list(formats.items_of(parsed(raw)))
        if not any(formats.is_known(item) for _, item in items):
            raise _no_conversations()
        return _Import(uid, now).of(items)
    finally:
        _one_at_a_time.release()


def index_imported(event: events.Event, *, now: datetime) -> None:  # noqa: ARG001  # what every consumer takes
    """Make the messages of imported conversations searchable. Again, it does no harm."""
    for each in event.data["conversation_ids"]:
        if repository.existing(event.uid, [each]):
            search.index_conversation(event.uid, each)


class _Import:
    """One request on its way through a file."""

    def __init__(self, uid: str, now: datetime) -> None:
        self._uid, self._now = uid, now
        self._stop_at = time.monotonic() + TIME_S
        self._problems = Problems()
        self._imported: list[schemas.ImportedConversation] = []
        self._skipped: list[schemas.SkippedConversation] = []
        self._skipped_count = 0
        self._message_count = 0
        self._group: list[NewConversation] = []
        self._more = False

    def of(self, items: Sequence[tuple[str, Any]]) -> schemas.ImportAnswer:
        remaining = iter(items)
        while not self._more and (some := list(islice(remaining, _LOOKED_AT_ONCE))):
            self._take(some)
        self._write_group()
        return schemas.ImportAnswer(
            imported=self._imported,
            skipped=self._skipped,
            problems=[schemas.ImportProblem(place=each.place, message=each.message) for each in self._problems.kept],
            imported_count=len(self._imported),
            skipped_count=self._skipped_count,
            problem_count=self._problems.count,
            more=self._more,
        )

    def _take(self, items: Sequence[tuple[str, Any]]) -> None:
        read: dict[str, Source] = {}
        for place, item in items:
            try:
                source = formats.read(item, place)
            except Unreadable as error:
                self._skip(place, formats.title_of(item), str(error))
                continue
            new_id = conversation_id(self._uid, source)
            if new_id in read:
                self._skip(place, source.title, "It is in the file twice.")
                continue
            read[new_id] = source
        there = repository.existing(self._uid, read)
        going = removals.marked(self._uid, read.keys() - there)
        for new_id, source in read.items():
            if new_id in there:
                self._skip(source.place, source.title, "It was imported before.")
            elif new_id in going:
                self._skip(source.place, source.title, "It is still being removed; send the file again in a minute.")
            elif not self._has_room(len(source.messages)):
                self._more = True
                return
            else:
                self._add(source, new_id)

    def _has_room(self, messages: int) -> bool:
        """Of a first conversation the size is looked at later: it may be too large for any request."""
        taken = len(self._imported) + len(self._group)
        fits = taken == 0 or self._message_count + messages <= MAX_MESSAGES
        return taken < MAX_CONVERSATIONS and fits and time.monotonic() < self._stop_at

    def _add(self, source: Source, new_id: str) -> None:
        try:
            new = converted(source, new_id, now=self._now)
        except Unreadable as error:
            self._skip(source.place, source.title, str(error))
            return
        self._problems.add(source.problems)
        self._group.append(new)
        self._message_count += len(new.messages)
        messages = sum(len(each.messages) for each in self._group)
        if len(self._group) >= _GROUP_CONVERSATIONS or messages >= _GROUP_MESSAGES:
            self._write_group()

    def _skip(self, place: str, title: str | None, reason: str) -> None:
        self._skipped_count += 1
        if len(self._skipped) < _MAX_SKIPPED_SHOWN:
            shown = schemas.SkippedConversation(place=place, title=line_of(title, 200), reason=reason)
            self._skipped.append(shown)

    def _write_group(self) -> None:
        """All messages, then the conversations: they appear together."""
        group, self._group = self._group, []
        if not group:
            return
        # An account that is being erased must not be written to for as long as a large file takes.
        accounts.get_standing(self._uid, now=self._now, fresh=True).admit(proved_at=None)
        for batch in _message_batches(self._uid, group):
            store.commit(batch)
        try:
            store.commit(self._final_batch(group))
        except store.AlreadyExists:
            # Another request with the same file is at work: what it has not done yet is done here, one by one.
            for each in group:
                self._write_alone(each)
        else:
            self._imported += map(_view, group)

    def _write_alone(self, new: NewConversation) -> None:
        try:
            store.commit(self._final_batch([new]))
        except store.AlreadyExists:
            self._skip("", new.title, "It was imported before.")
        else:
            self._imported.append(_view(new))

    def _final_batch(self, group: Sequence[NewConversation]) -> store.Batch:
        batch: store.Batch = store.new_batch()
        for each in group:
            conversation = _conversation(each)
            conversations.create_conversation(batch, self._uid, conversation)
            search.add_title(batch, self._uid, each.id, each.title, each.created_at)
        payload = ConversationsImported(
            conversation_ids=[each.id for each in group],
            conversation_count=len(group),
            message_count=sum(len(each.messages) for each in group),
        )
        events.record(batch, payload, uid=self._uid, subject="conversations", at=self._now)
        return batch


def _message_batches(uid: str, group: Sequence[NewConversation]) -> Iterator[store.Batch]:
    batch, chars = store.new_batch(), 0
    for conversation in group:
        for message in conversation.messages:
            if len(batch) >= _BATCH_WRITES or chars + len(message.text) > _BATCH_CHARS:
                yield batch
                batch, chars = store.new_batch(), 0
            repository.add_message(batch, uid, conversation.id, _message(message))
            chars += len(message.text)
    yield batch


def _message(new: NewMessage) -> chat.Message:
    return chat.Message.model_validate(
        {
            "id": new.id,
            "parent_id": new.parent_id,
            "role": new.role,
            "parts": [{"type": "text", "text": new.text}],
            "status": "completed",
            "model": new.model,
            "created_at": new.at,
        }
    )


def _conversation(new: NewConversation) -> chat.Conversation:
    return chat.Conversation(
        id=new.id,
        title=new.title,
        title_source="user",
        model=new.model,
        tip=new.tip,
        message_count=len(new.messages),
        state=ConversationState.ARCHIVED if new.archived else ConversationState.ACTIVE,
        pinned=new.pinned,
        tags=list(new.tags),
        settings=chat.ConversationSettings(system_prompt=new.system_prompt),
        created_at=new.created_at,
        updated_at=new.updated_at,
    )


def _view(new: NewConversation) -> schemas.ImportedConversation:
    return schemas.ImportedConversation(conversation_id=new.id, title=new.title, message_count=len(new.messages))


def _no_conversations() -> InvalidRequest:
    return InvalidRequest.of(
        "body",
        "holds no conversations in a format that is known here: conversations.json of ChatGPT or Claude, an export of "
        "LibreChat or Open WebUI, or one of ours",
    )
