"""Removing conversations and branches: at once for their user, completely soon after.

The first batch takes the conversation's own document away. Every write that adds to a conversation also changes that
document, so nothing can be added any more; what is left is deleted page by page. A mark says that this is not done yet,
and goes last, so whoever dies on the way is gone on for by the sweep.
"""

from __future__ import annotations

import time
from collections import deque
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from functions.chat import generation_log
from functions.chat.events import ConversationDeleted, MessagesDeleted
from functions.chat.removal import repository
from functions.chat.search import service as search
from functions.chat.sharing import service as sharing
from functions.chat.uploads import service as uploads
from shared import events, log, store
from shared.errors import Conflict, NotFound, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from functions.chat.removal.repository import Found

T = TypeVar("T")

BY_USER, EXPIRED = "user", "expired"
LEFT_ALONE_FOR = timedelta(minutes=1)
"""How long whoever began a removal may take before the sweep goes on with it."""
REQUEST_TIME_S = 10.0
"""How long a request deletes what belonged to a conversation; the sweep does the rest."""
SWEEP_TIME_S = 60.0
SWEEP_LIMIT = 100
MESSAGES_AT_ONCE = 30
"""Of a branch, in one batch: what is said about them in the search index has to fit beside it."""
_ATTEMPTS = 5


# Conversations


def remove(uid: str, conversation_id: str, *, now: datetime) -> None:
    """Remove a conversation with all that belongs to it, and stop the answers that are being made in it. Raises
    NotFound, also the second time.
    """
    _patiently(lambda: _begin(_get(uid, conversation_id), BY_USER, now))
    try:
        for generation_id in repository.find_running(uid, conversation_id):
            generation_log.request_stop(generation_id)
    except Unavailable as error:
        log.warning("answers of a removed conversation go on", cause=error, conversation_id=conversation_id)
    try:
        _finish(uid, conversation_id, stop_at=time.monotonic() + REQUEST_TIME_S)
    except Unavailable as error:
        log.warning("removal is left to the sweep", cause=error, conversation_id=conversation_id)


def sweep(*, now: datetime, limit: int = SWEEP_LIMIT) -> dict[str, int]:
    """Remove temporary conversations whose time is over, and go on with removals that stopped on the way."""
    stop_at = time.monotonic() + SWEEP_TIME_S
    marked = repository.list_marked(now - LEFT_ALONE_FOR, limit)
    finished = [
        _attempt(partial(_finish, uid, conversation_id, stop_at=stop_at), conversation_id)
        for uid, conversation_id in marked
    ]
    expired = [
        _attempt(partial(_expire, found, now, stop_at), found.id)
        for found in repository.list_expired(now, limit)
        if time.monotonic() < stop_at
    ]
    return {
        "removals_finished": finished.count(True),
        "conversations_expired": expired.count(True),
        "removals_failed": finished.count(None) + expired.count(None),
    }


def _attempt(act: Callable[[], bool], conversation_id: str) -> bool | None:
    """What `act` did; None when it failed, which the log tells and the next sweep tries again."""
    try:
        return act()
    except Exception as error:  # noqa: BLE001  # each removal is an edge of its own
        log.error("conversation not removed", cause=error, conversation_id=conversation_id)
        return None


def _expire(found: Found, now: datetime, stop_at: float) -> bool:
    try:
        _begin(found, EXPIRED, now)
    except store.StaleWrite:
        # It changed since it was listed, and may live longer now: the next sweep looks again.
        return False
    _finish(found.uid, found.id, stop_at=stop_at)
    return True


def _begin(found: Found, reason: str, now: datetime) -> None:
    """From here on the conversation is gone. Raises store.StaleWrite when it changed since it was read."""
    batch = store.new_batch()
    repository.take_away(batch, found, reason=reason, at=now)
    payload = ConversationDeleted(conversation_id=found.id, reason=reason)
    events.record(batch, payload, uid=found.uid, subject=f"conversations/{found.id}", at=now)
    store.commit(batch)


def _finish(uid: str, conversation_id: str, *, stop_at: float) -> bool:
    """Delete what belonged to the conversation, what others can see first. False when the time did not suffice."""
    sharing.remove_of(uid, conversation_id)
    for delete_some in (repository.delete_some_messages, search.remove_of):
        while delete_some(uid, conversation_id):
            if time.monotonic() >= stop_at:
                return False
    uploads.remove_of(uid, conversation_id)
    repository.unmark(uid, conversation_id)
    return True


# Branches


def remove_branch(uid: str, conversation_id: str, message_id: str, *, now: datetime) -> None:
    """Delete a message and all that follows it, the last ones first, so that no message ever follows none.

    When the branch in use ends there, it ends at the message before from now on. Raises NotFound, and Conflict while an
    answer to one of the messages is being made.
    """
    doomed = _patiently(lambda: _begin_branch(uid, conversation_id, message_id, now))
    for start in range(MESSAGES_AT_ONCE, len(doomed), MESSAGES_AT_ONCE):
        some = doomed[start : start + MESSAGES_AT_ONCE]
        batch = store.new_batch()
        repository.delete_messages(batch, uid, conversation_id, some)
        try:
            _commit_without_entries(batch, uid, some)
        except store.StaleWrite as error:
            raise _no_conversation() from error


def _begin_branch(uid: str, conversation_id: str, message_id: str, now: datetime) -> list[str]:
    """Delete the first of the messages and have the conversation end before them; gives all of them, in order."""
    conversation = _get(uid, conversation_id)
    parents = repository.read_parents(uid, conversation_id)
    if message_id not in parents:
        raise NotFound("There is no such message.")
    doomed = branch_from(message_id, parents)
    if repository.list_running_below(uid, conversation_id) & set(doomed):
        raise Conflict("An answer is being written here; stop it first.", reason="still_running")
    first = doomed[:MESSAGES_AT_ONCE]
    batch = store.new_batch()
    tip = parents[message_id] if conversation.tip in doomed else conversation.tip
    ending = repository.Ending(tip, conversation.version)
    repository.delete_messages(batch, uid, conversation_id, first, ending=ending)
    payload = MessagesDeleted(conversation_id=conversation_id, message_id=message_id, message_count=len(doomed))
    subject = f"conversations/{conversation_id}/messages/{message_id}"
    events.record(batch, payload, uid=uid, subject=subject, at=now)
    _commit_without_entries(batch, uid, first)
    return doomed


def branch_from(message_id: str, parents: Mapping[str, str | None]) -> list[str]:
    """The message and all below it, each after those below it."""
    children: dict[str | None, list[str]] = {}
    for child, parent in parents.items():
        children.setdefault(parent, []).append(child)
    found: dict[str, None] = {}
    waiting = deque([message_id])
    while waiting:
        here = waiting.popleft()
        if here not in found:
            found[here] = None
            waiting.extend(children.get(here, ()))
    return list(found)[::-1]


def _commit_without_entries(batch: store.Batch, uid: str, message_ids: list[str]) -> None:
    """Commit the deletion of messages, with what the search index says of them.

    Before, so that a crash leaves nothing of them in it; after, because they may just have been added. Once they are
    gone nobody adds them any more.
    """
    search.remove_of_messages(uid, message_ids)
    store.commit(batch)
    search.remove_of_messages(uid, message_ids)


def _get(uid: str, conversation_id: str) -> Found:
    found = repository.find(uid, conversation_id)
    if found is None:
        raise _no_conversation()
    return found


def _no_conversation() -> NotFound:
    return NotFound("There is no such conversation.")


def _patiently(act: Callable[[], T]) -> T:
    """Try again while a turn changes the conversation between reading and writing."""
    for _ in range(_ATTEMPTS):
        try:
            return act()
        except store.StaleWrite:
            continue
    raise Unavailable("Too many changes at the same time; try again.", retry_after_s=1)
