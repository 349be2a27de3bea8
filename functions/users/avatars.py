"""Pictures of people: put by them with a signed link, checked here, and shown by signed links.

avatars/{uid}/{upload_id}    what somebody put (`shared.uploads`), once it was found to be an image
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from functions.users import repository, service
from functions.users.domain import MAX_AVATAR_BYTES, Avatar, User
from shared import log, storage, store, uploads
from shared.errors import FieldError, InvalidRequest, NotFound, Unavailable
from shared.file_types import MAGIC_BYTES, file_type
from shared.uploads import Links

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from functions.users.repository import Read
    from shared.storage import SignedUpload, StoredFile
    from shared.store import Batch

UPLOAD_LIFETIME = uploads.LIFETIME
_TYPES = frozenset({"image/png", "image/jpeg", "image/webp"})
"""Other uploads lie in the same place, and their ids must not make avatars of them."""
_links = Links(lifetime=timedelta(hours=1), size=5_000)


def begin(uid: str, upload_id: str, *, content_type: str, size_bytes: int, now: datetime) -> SignedUpload:
    """Permission to put one file of this type and size. Raises NotFound, Unavailable.

    Nobody can take the link back, so the account keeps until when it is good, or the upload is completed: an erasure
    waits for that, lest a picture that is on its way arrives after it.
    """
    batch = store.new_batch()
    repository.add_open_upload(batch, uid, upload_id, until=now + UPLOAD_LIFETIME)
    _commit(batch)
    return uploads.sign(uid, upload_id, content_type=content_type, size_bytes=size_bytes, lifetime=UPLOAD_LIFETIME)


def complete(uid: str, upload_id: str, *, now: datetime) -> User:
    """Make the uploaded file the avatar. Again it changes nothing.

    Raises NotFound when nothing was uploaded, InvalidRequest when it is not the image it was said to be.
    """
    user = service.get_user(uid)
    if user.avatar is not None and user.avatar.id == upload_id:
        return user
    try:
        file = uploads.take(uid, upload_id, _avatar_name(uid, upload_id), flaw=_flaw)
    except uploads.Unfit as unfit:
        raise InvalidRequest("Check: upload_id.", fields=[FieldError("upload_id", str(unfit))]) from unfit
    if file is None:
        raise NotFound("Nothing was uploaded under this id.")
    avatar = Avatar(id=upload_id, content_type=file.content_type, size_bytes=file.size_bytes)
    changed = _replace(uid, avatar, now)
    uploads.discard(uid, upload_id)
    if changed.open_upload_id == upload_id:
        batch = store.new_batch()
        repository.close_upload(batch, uid)
        _commit(batch)
    return changed


def remove(uid: str, *, now: datetime) -> User:
    """Show no avatar any more; without one it changes nothing."""
    return _replace(uid, None, now)


def link(user: User, now: datetime) -> str | None:
    """Where the avatar can be seen, for half an hour at least; None without one, or when no link can be made."""
    if user.avatar is None:
        return None
    try:
        return _links.to(_avatar_name(user.uid, user.avatar.id), now)
    except Unavailable as error:
        # A profile without its picture is better than none.
        log.warning("no link to an avatar", reason=repr(error.__cause__))
        return None


def _replace(uid: str, avatar: Avatar | None, now: datetime) -> User:
    replaced: Avatar | None = None

    def change(_: Batch, read: Read) -> Mapping[str, Any]:
        nonlocal replaced
        replaced = read.user.avatar
        return {} if replaced == avatar else {"avatar": repository.avatar_field(avatar)}

    user = service.change_account(uid, change, now=now)
    if replaced is not None and replaced != avatar:
        storage.delete(_avatar_name(uid, replaced.id))
    return user


def _commit(batch: Batch) -> None:
    try:
        store.commit(batch)
    except store.StaleWrite as error:
        raise NotFound("There is no such user.") from error


def _flaw(file: StoredFile) -> str | None:
    """By its first bytes, for a type is only what the uploader says."""
    if file.size_bytes > MAX_AVATAR_BYTES:
        return f"is larger than {MAX_AVATAR_BYTES} bytes"
    if file.content_type not in _TYPES or file_type(storage.read_start(file, MAGIC_BYTES)) != file.content_type:
        return f"is not the {file.content_type} that it was said to be"
    return None


def _avatar_name(uid: str, upload_id: str) -> str:
    return f"avatars/{uid}/{upload_id}"
