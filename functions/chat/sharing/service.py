"""Showing a conversation to whoever has its link, and ending that.

Whoever begins or ends sharing depends on the version of the conversation's document, so two of them cannot pass each
other and leave a link that nobody knows of.
"""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from functions.chat.domain import ConversationState
from functions.chat.events import ConversationShared, ConversationUnshared
from functions.chat.sharing import repository, schemas
from functions.chat.sharing.domain import (
    MAX_MESSAGES,
    MAX_REVISIONS,
    TOKEN,
    Cursor,
    Revision,
    Share,
    pieces_of,
    shown,
    too_much,
    unknown_cursor,
)
from functions.chat.transfer import repository as whole
from shared import events, store
from shared.errors import Conflict, InvalidRequest, NotFound, Unauthenticated
from shared.identity import accounts
from shared.limits import admission
from shared.limits.policies import FAILED_LINKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from functions.chat.schemas import Conversation

T = TypeVar("T")

_ATTEMPTS = 5
_PAUSE_S = 0.1
_LONGEST_REQUEST = timedelta(minutes=10)


def share(
    uid: str, conversation_id: str, *, message_id: str | None, title: str | None, snapshot: str, now: datetime
) -> schemas.ShareView:
    """Show the branch as it is now: a new link, or a new revision under the link that there is.

    `snapshot` is the same when the same request comes again; it then gives what it made the first time. Raises
    NotFound, InvalidRequest, and Conflict for a temporary chat.
    """
    conversation, _ = _get_conversation(uid, conversation_id)
    earlier = _find_share_of(conversation)
    if earlier is not None and earlier[1].has_snapshot(snapshot):
        return _view(*earlier)
    if conversation.state is ConversationState.TEMPORARY:
        raise Conflict("A temporary chat cannot be shared.")
    try:
        size = _store_branch(uid, conversation, message_id, snapshot, now)
        made = Revision(revision=0, snapshot=snapshot, title=title or conversation.title, created_at=now, **size)
        return _patiently(lambda: _publish(uid, conversation_id, made, now))
    except (InvalidRequest, NotFound, Conflict):
        repository.delete_pieces(uid, conversation_id, only=lambda stored, _: stored == snapshot)
        raise


def get_share(uid: str, conversation_id: str) -> schemas.ShareView:
    conversation, _ = _get_conversation(uid, conversation_id)
    found = _find_share_of(conversation)
    if found is None:
        raise NotFound("This conversation is not shared.")
    return _view(*found)


def unshare(uid: str, conversation_id: str, *, now: datetime) -> None:
    """Have the link lead nowhere, at once and for good; nothing when there is none. Raises NotFound."""
    withdrawn = _patiently(lambda: _withdraw(uid, conversation_id, now))
    # Somebody may be sharing it again this very moment: what is young and was not withdrawn is theirs.
    abandoned_before = now - _LONGEST_REQUEST
    repository.delete_pieces(
        uid, conversation_id, only=lambda snapshot, at: snapshot in withdrawn or at < abandoned_before
    )


def remove_of(uid: str, conversation_id: str) -> None:
    """Take away what is shared of a conversation that is gone. Without its document nobody can share it again."""
    batch = store.new_batch()
    if repository.delete_shares(batch, uid, conversation_id):
        store.commit(batch)
    repository.delete_pieces(uid, conversation_id)


def _withdraw(uid: str, conversation_id: str, now: datetime) -> set[str]:
    """Gives the snapshots that nobody can see any more. Raises store.StaleWrite when somebody shared it meanwhile."""
    conversation, version = _get_conversation(uid, conversation_id)
    batch = store.new_batch()
    withdrawn = repository.delete_shares(batch, uid, conversation_id)
    if withdrawn or conversation.share is not None:
        repository.end_share(batch, uid, conversation_id, conversation_version=version)
        payload = ConversationUnshared(conversation_id=conversation_id)
        events.record(batch, payload, uid=uid, subject=f"conversations/{conversation_id}", at=now)
        store.commit(batch)
    return withdrawn


def _patiently(act: Callable[[], T]) -> T:
    """Try again while a turn in the same conversation, or somebody who shares it too, comes between."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return act()
        except store.StaleWrite:
            time.sleep(_PAUSE_S * attempt)
    raise Conflict("The conversation is being changed; try again.", retry_after_s=1)


def read(
    token: str, *, revision: int | None, limit: int, cursor: str | None, address: str, now: datetime
) -> schemas.SharedConversation:
    """A page of what is shared, for anyone.

    Raises NotFound for what is not shared, or not any more; InvalidRequest; RateLimited for an address that followed
    too many links to nowhere. A token without its checksum costs no look at the database.
    """
    admission.refuse_when_suspicious(address, FAILED_LINKS)
    found = repository.find_share(token) if TOKEN.fits(token) else None
    if found is None:
        admission.note_failed_sign_in(address, FAILED_LINKS)
        raise _unknown()
    if not _owner_is_welcome(found, now):
        raise _unknown()
    begun = Cursor.read(cursor) if cursor is not None else None
    if begun is not None and revision not in (None, begun.revision):
        raise unknown_cursor()
    number = begun.revision if begun else revision
    shown_revision = found.latest if number is None else found.find_revision(number)
    if shown_revision is None:
        raise NotFound("There is no such revision, or not any more.")
    return _page(found, shown_revision, begun.place if begun else 0, limit)


def _page(found: Share, revision: Revision, place: int, limit: int) -> schemas.SharedConversation:
    if place >= revision.message_count:
        raise unknown_cursor()
    number = revision.piece_of(place)
    messages = repository.find_piece(revision, number)
    if messages is None:
        raise _unknown()  # withdrawn since the share was read
    skipped = place - revision.starts[number]
    items = messages[skipped : skipped + limit]
    following = place + len(items)
    return schemas.SharedConversation(
        title=revision.title,
        revision=revision.revision,
        message_count=revision.message_count,
        created_at=revision.created_at,
        items=[schemas.SharedMessage.model_validate(each) for each in items],
        next_cursor=str(Cursor(revision.revision, following)) if following < revision.message_count else None,
        revisions=None if place else [_revision_view(each) for each in found.revisions],
    )


def _owner_is_welcome(found: Share, now: datetime) -> bool:
    """Nobody's words are shown whose account is suspended, or on its way out."""
    try:
        return accounts.get_standing(found.uid, now=now).status is accounts.Status.ACTIVE
    except Unauthenticated:
        return False


def _get_conversation(uid: str, conversation_id: str) -> tuple[Conversation, Any]:
    found = repository.find_conversation(uid, conversation_id)
    if found is None:
        raise NotFound("There is no such conversation.")
    return found


def _find_share_of(conversation: Conversation) -> tuple[str, Share] | None:
    if conversation.share is None:
        return None
    found = repository.find_share(conversation.share.token)
    return (conversation.share.token, found) if found else None


def _store_branch(
    uid: str, conversation: Conversation, message_id: str | None, snapshot: str, now: datetime
) -> dict[str, Any]:
    """Store the branch as others will see it; gives its size. Nobody reads it until it is published."""
    end = message_id or conversation.tip
    branch = whole.branch_ids(uid, conversation.id, end) if end else []
    if message_id is not None and not branch:
        raise InvalidRequest.of("message_id", "is no message of this conversation")
    if len(branch) > MAX_MESSAGES:
        raise too_much()
    count, starts = 0, []

    def messages() -> Iterator[dict[str, Any]]:
        nonlocal count
        for _, document in whole.walk_branch(uid, conversation.id, branch):
            if (message := shown(document)) is not None:
                count += 1
                yield message

    for number, piece in enumerate(pieces_of(messages())):
        repository.store_piece(uid, conversation.id, snapshot, number, piece, at=now)
        starts.append(piece.start)
    if not count:
        raise InvalidRequest("There is nothing to share yet.")
    return {"message_count": count, "starts": tuple(starts)}


def _publish(uid: str, conversation_id: str, made: Revision, now: datetime) -> schemas.ShareView:
    """Raises store.StaleWrite when somebody else changed the conversation or its share meanwhile."""
    conversation, version = _get_conversation(uid, conversation_id)
    earlier = _find_share_of(conversation)
    batch = store.new_batch()
    forgotten: tuple[Revision, ...] = ()
    if earlier is None:
        token = TOKEN.new()
        published = Share(uid, conversation_id, (replace(made, revision=1),), created_at=now, updated_at=now)
        repository.begin_share(batch, token, published, conversation_version=version)
    else:
        token, before = earlier
        revisions = (*before.revisions, replace(made, revision=before.latest.revision + 1))
        forgotten, kept = revisions[:-MAX_REVISIONS], revisions[-MAX_REVISIONS:]
        published = replace(before, revisions=kept, updated_at=now)
        repository.change_share(batch, token, published)
    payload = ConversationShared(
        conversation_id=conversation_id, revision=published.latest.revision, message_count=made.message_count
    )
    events.record(batch, payload, uid=uid, subject=f"conversations/{conversation_id}", at=now)
    store.commit(batch)
    if gone := {each.snapshot for each in forgotten}:
        repository.delete_pieces(uid, conversation_id, only=lambda snapshot, _: snapshot in gone)
    return _view(token, published)


def _view(token: str, found: Share) -> schemas.ShareView:
    return schemas.ShareView(
        token=token,
        url_path=f"/api/v1/shared/{token}",
        revision=found.latest.revision,
        title=found.latest.title,
        message_count=found.latest.message_count,
        created_at=found.created_at,
        updated_at=found.updated_at,
    )


def _revision_view(revision: Revision) -> schemas.SharedRevision:
    return schemas.SharedRevision(
        revision=revision.revision,
        title=revision.title,
        message_count=revision.message_count,
        created_at=revision.created_at,
    )


def _unknown() -> NotFound:
    return NotFound("There is no such shared conversation; perhaps its link was withdrawn.")
