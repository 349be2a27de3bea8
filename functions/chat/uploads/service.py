"""What can be done with attachments: put, used by a message, shown to people and models, removed.

uploads/{uid}/{id}        what somebody put (`shared.uploads`)
attachments/{uid}/{id}    the same content once a message used it and it was found to be what it was said to be
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from functions.chat.uploads import domain, repository
from functions.chat.uploads.domain import MAX_ATTACHMENTS, MAX_OPEN, OPEN_FOR, Attachment, State, Upload
from shared import storage, store, uploads
from shared.errors import Conflict, FieldError, InvalidRequest, NotFound, Unavailable
from shared.ids import is_safe_id
from shared.uploads import Links

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from functions.chat.uploads.domain import PromptBound
    from functions.chat.uploads.repository import Read
    from shared.storage import SignedUpload, StoredFile

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")

LINK_LIFETIME = uploads.LIFETIME
"""Of a link to put a file."""
_REMOVED_AT_ONCE = 100
_ATTEMPTS = 3
_links = Links(lifetime=timedelta(hours=1), size=5_000)
_NOT_THERE = "names no file of yours: begin an upload and put the file first"


# Putting


def begin(uid: str, upload_id: str, *, name: str, content_type: str, size_bytes: int, now: datetime) -> SignedUpload:
    """Permission to put one file of this type and size, of which a message may then make an attachment.

    The same request again gets another link to the same. Raises Conflict when too many uploads wait for their first
    use, and Unavailable.
    """
    if repository.count_open(uid, now) >= MAX_OPEN:
        text = f"{MAX_OPEN} of your uploads wait for a message that uses them; send or remove some."
        raise Conflict(text, reason="too_many_uploads")
    link_ends_at = now + LINK_LIFETIME
    upload = Upload(
        id=upload_id,
        name=name,
        content_type=content_type,
        size_bytes=size_bytes,
        state=State.OPEN,
        conversation_id=None,
        created_at=now,
        link_ends_at=link_ends_at,
        expires_at=link_ends_at + OPEN_FOR,
    )
    batch = store.new_batch()
    repository.add(batch, uid, upload)
    try:
        store.commit(batch)
    except store.AlreadyExists:
        _begin_again(uid, upload_id, link_ends_at)
    return uploads.sign(uid, upload_id, content_type=content_type, size_bytes=size_bytes, lifetime=LINK_LIFETIME)


def _begin_again(uid: str, upload_id: str, link_ends_at: datetime) -> None:
    read = repository.find(uid, upload_id)
    batch = store.new_batch()
    if read is None or read.upload.state is not State.OPEN:
        raise Conflict("This upload was used or removed already; begin another one.")
    repository.add_link(batch, uid, read, until=link_ends_at)
    try:
        store.commit(batch)
    except store.StaleWrite as error:
        raise Conflict("This upload is being used by another request.", retry_after_s=1) from error


# Using


def adopt(uid: str, conversation_id: str, upload_ids: Sequence[str], *, now: datetime) -> list[Attachment]:
    """The attachments of a message, in the order of their ids; one that is used for the first time is looked at first.

    What was used before only costs the read. Raises InvalidRequest naming `content[i].upload_id` for each id that is
    nothing of the user's, or not what it was said to be; and Unavailable.
    """
    wanted = list(dict.fromkeys(upload_ids))
    if len(wanted) > MAX_ATTACHMENTS:
        problem = FieldError("content", f"must not hold more than {MAX_ATTACHMENTS} attachments")
        raise InvalidRequest("Check: content.", fields=[problem])
    found = repository.find_all(uid, [upload_id for upload_id in wanted if is_safe_id(upload_id)])
    outcomes = dict(
        zip(wanted, _at_once(lambda one: _adopt(uid, conversation_id, one, found.get(one), now), wanted), strict=True)
    )
    problems = [
        FieldError(f"content[{place}].upload_id", str(outcome))
        for place, upload_id in enumerate(upload_ids)
        if isinstance(outcome := outcomes[upload_id], uploads.Unfit)
    ]
    if problems:
        raise InvalidRequest(f"Check: {', '.join(problem.field for problem in problems)}.", fields=problems)
    return [attachment for one in upload_ids if isinstance(attachment := outcomes[one], Attachment)]


def _adopt(
    uid: str, conversation_id: str, upload_id: str, read: Read | None, now: datetime
) -> Attachment | uploads.Unfit:
    trouble: Exception | None = None
    if read is not None and read.upload.state is State.OPEN:
        try:
            taken = _take(uid, conversation_id, read, now)
        except uploads.Unfit as unfit:
            return unfit
        except (Unavailable, store.StaleWrite) as error:
            taken, trouble = None, error
        if taken is not None:
            return taken
        # Nothing is there, or it changed under our hands: another message may have taken it at the same time.
        read = repository.find(uid, upload_id)
    if read is not None and read.upload.state is State.KEPT:
        return read.upload.attachment
    if read is not None and read.upload.state is State.OPEN and trouble is not None:
        raise Unavailable("This upload cannot be taken right now; try again.", retry_after_s=1) from trouble
    if trouble is not None:
        storage.delete(_kept_name(uid, upload_id))  # removed while it was copied
    return uploads.Unfit(_NOT_THERE)


def _take(uid: str, conversation_id: str, read: Read, now: datetime) -> Attachment | None:
    """Look at what was put, copy it and say so; None when nothing was put. Raises Unfit, Unavailable, StaleWrite."""
    upload_id = read.upload.id
    file = uploads.take(uid, upload_id, _kept_name(uid, upload_id), flaw=partial(_flaw, read.upload))
    if file is None:
        return None
    batch = store.new_batch()
    repository.keep(batch, uid, read, conversation_id, now)
    store.commit(batch)
    uploads.discard(uid, upload_id)
    return replace(read.upload, conversation_id=conversation_id).attachment


def _flaw(said: Upload, file: StoredFile) -> str | None:
    content = storage.read_start(file, domain.bytes_to_look_at(said.content_type))
    return domain.flaw(said, content_type=file.content_type, size_bytes=file.size_bytes, content=content)


# Showing


def prompt_bound(attachments: Sequence[Attachment]) -> PromptBound:
    """What the attachments can add to a prompt at most: bytes of text, images, and whether a PDF makes it boundless."""
    return domain.prompt_bound(attachments)


def upstream_parts(uid: str, attachments: Sequence[Attachment], *, now: datetime) -> list[dict[str, Any]]:
    """What a model is sent for each attachment, in their order: content parts of OpenRouter's chat completions.

    Images and PDFs go as links that are good for half an hour at least, texts as texts; of what was removed since only
    the name is left. A request with a `file` part takes `domain.PDF_PLUGINS` along. Raises Unavailable.
    """
    found = repository.find_all(uid, dict.fromkeys(one.id for one in attachments if is_safe_id(one.id)))
    there = {upload_id for upload_id, read in found.items() if read.upload.state is State.KEPT}
    return _at_once(lambda one: _part(uid, one, now) if one.id in there else _gone(one), attachments)


def _part(uid: str, attachment: Attachment, now: datetime) -> dict[str, Any]:
    name = _kept_name(uid, attachment.id)
    if domain.is_text(attachment.content_type):
        content = storage.read(name)
        if content is None:
            return _gone(attachment)
        return {"type": "text", "text": domain.shown_text(attachment.name, domain.as_text(content))}
    url = _links.to(name, now)
    if attachment.kind == "image":
        return {"type": "image_url", "image_url": {"url": url}}
    return {"type": "file", "file": {"filename": attachment.name, "file_data": url}}


def _gone(attachment: Attachment) -> dict[str, Any]:
    return {"type": "text", "text": domain.gone_text(attachment.name)}


def get_attachment(uid: str, upload_id: str) -> Attachment:
    """Raises NotFound, also for an upload that no message has used: nobody has looked at it yet."""
    read = repository.find(uid, upload_id)
    if read is None or read.upload.state is not State.KEPT:
        raise NotFound("There is no such attachment, or no message has used it yet.")
    return read.upload.attachment


def link_to(uid: str, attachment: Attachment, *, now: datetime) -> str:
    """Where the attachment can be seen, for half an hour at least. Raises Unavailable.

    A browser shows images and saves everything else: what somebody wrote is nobody's page.
    """
    save_as = None if attachment.kind == "image" else attachment.name
    return _links.to(_kept_name(uid, attachment.id), now, save_as=save_as)


def link(uid: str, upload_id: str, *, now: datetime) -> str:
    """The same by its id. Raises NotFound, Unavailable."""
    return link_to(uid, get_attachment(uid, upload_id), now=now)


# Removing


def remove(uid: str, upload_id: str, *, now: datetime) -> None:
    """Delete a file, whether a message used it or not; messages go on naming it. Raises NotFound, Unavailable."""
    for _ in range(_ATTEMPTS):
        read = repository.find(uid, upload_id)
        if read is None or read.upload.state is State.REMOVED:
            raise NotFound("There is no such attachment.")
        uploads.discard(uid, upload_id)
        storage.delete(_kept_name(uid, upload_id))
        batch = store.new_batch()
        link_ends_at = read.upload.link_ends_at
        if link_ends_at is not None and link_ends_at > now:
            repository.remember_removed(batch, uid, read, until=link_ends_at)
        else:
            repository.forget_as_read(batch, uid, read)
        try:
            store.commit(batch)
        except store.StaleWrite:
            continue  # a message has just begun to use it, or another request removed it
        return
    raise Unavailable("This attachment is being changed by other requests; try again.", retry_after_s=1)


def remove_of(uid: str, conversation_id: str) -> None:
    """Delete every attachment that was first used in a conversation that is removed. Raises Unavailable.

    Files go before what names them, so a repetition finds what a run left that died.
    """
    while upload_ids := repository.list_of_conversation(uid, conversation_id, _REMOVED_AT_ONCE):
        _at_once(lambda upload_id: storage.delete(_kept_name(uid, upload_id)), upload_ids)
        batch = store.new_batch()
        repository.forget(batch, uid, upload_ids)
        store.commit(batch)


def _kept_name(uid: str, upload_id: str) -> str:
    return f"attachments/{uid}/{upload_id}"


def _at_once(act: Callable[[ItemT], ResultT], items: Sequence[ItemT]) -> list[ResultT]:
    """What `act` gives for each, side by side: each is some round trips to the bucket."""
    return list(_pool().map(act, items)) if len(items) > 1 else [act(item) for item in items]


@cache
def _pool() -> ThreadPoolExecutor:
    """Made on first use, after the server has forked."""
    return ThreadPoolExecutor(max_workers=2 * MAX_ATTACHMENTS, thread_name_prefix="attachments")
