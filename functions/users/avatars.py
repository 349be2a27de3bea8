"""Pictures of people: put by them with a signed link, checked here, and shown by signed links.

uploads/{uid}/{upload_id}    what somebody put, unchecked; the bucket deletes what is a day old
avatars/{uid}/{upload_id}    the same content once it was found to be an image
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from functions.users import repository, service
from functions.users.domain import MAGIC_BYTES, MAX_AVATAR_BYTES, Avatar, User, image_type
from shared import log, storage, store
from shared.errors import FieldError, InvalidRequest, NotFound, Unavailable
from shared.identity.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from google.cloud.firestore import WriteBatch

    from functions.users.repository import Read
    from shared.storage import SignedUpload, StoredFile

UPLOAD_LIFETIME = timedelta(minutes=10)
LINK_LIFETIME = timedelta(hours=1)
_LINKS_KEPT = 5_000

# Signing asks IAM over the network; a link that was made lately is good for the other half of its life.
_links: Recent[str] = Recent(size=_LINKS_KEPT, keep=LINK_LIFETIME / 2)


def begin(uid: str, upload_id: str, *, content_type: str, size_bytes: int, now: datetime) -> SignedUpload:
    """Permission to put one file of this type and size. Raises NotFound, Unavailable.

    Nobody can take the link back, so the account keeps until when it is good, or the upload is completed: an erasure
    waits for that, lest a picture that is on its way arrives after it.
    """
    batch = store.new_batch()
    repository.add_open_upload(batch, uid, upload_id, until=now + UPLOAD_LIFETIME)
    _commit(batch)
    return storage.sign_upload(
        _upload_name(uid, upload_id), content_type=content_type, size_bytes=size_bytes, lifetime=UPLOAD_LIFETIME
    )


def complete(uid: str, upload_id: str, *, now: datetime) -> User:
    """Make the uploaded file the avatar. Again it changes nothing.

    Raises NotFound when nothing was uploaded, InvalidRequest when it is not the image it was said to be.
    """
    user = service.get_user(uid)
    if user.avatar is not None and user.avatar.id == upload_id:
        return user
    file = storage.find(_upload_name(uid, upload_id))
    if file is None:
        raise NotFound("Nothing was uploaded under this id.")
    _check(file)
    # A copy of what was checked: the link to the upload may still be used to put something else there.
    storage.copy(file, _avatar_name(uid, upload_id))
    avatar = Avatar(id=upload_id, content_type=file.content_type, size_bytes=file.size_bytes)
    changed = _replace(uid, avatar, now)
    storage.delete(file.name)
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
    name = _avatar_name(user.uid, user.avatar.id)
    known = _links.get(name, now)
    if known is not None:
        return known
    try:
        made = storage.sign_download(name, lifetime=LINK_LIFETIME)
    except Unavailable as error:
        # A profile without its picture is better than none.
        log.warning("no link to an avatar", reason=repr(error.__cause__))
        return None
    _links.put(name, made, now)
    return made


def _replace(uid: str, avatar: Avatar | None, now: datetime) -> User:
    replaced: Avatar | None = None

    def change(_: WriteBatch, read: Read) -> Mapping[str, Any]:
        nonlocal replaced
        replaced = read.user.avatar
        return {} if replaced == avatar else {"avatar": repository.avatar_field(avatar)}

    user = service.change_account(uid, change, now=now)
    if replaced is not None and replaced != avatar:
        storage.delete(_avatar_name(uid, replaced.id))
    return user


def _commit(batch: WriteBatch) -> None:
    try:
        store.commit(batch)
    except store.StaleWrite as error:
        raise NotFound("There is no such user.") from error


def _check(file: StoredFile) -> None:
    """By its first bytes, for a type is only what the uploader says. Of the wrong ones nothing is kept."""
    problem = None
    if file.size_bytes > MAX_AVATAR_BYTES:
        problem = f"is larger than {MAX_AVATAR_BYTES} bytes"
    elif image_type(storage.read_start(file, MAGIC_BYTES)) != file.content_type:
        problem = f"is not the {file.content_type} that it was said to be"
    if problem is not None:
        storage.delete(file.name)
        raise InvalidRequest("Check: upload_id.", fields=[FieldError("upload_id", problem)])


def _upload_name(uid: str, upload_id: str) -> str:
    return f"uploads/{uid}/{upload_id}"


def _avatar_name(uid: str, upload_id: str) -> str:
    return f"avatars/{uid}/{upload_id}"
