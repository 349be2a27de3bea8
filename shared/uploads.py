"""Files that people put themselves: with a signed link, looked at before anything believes them, shown by signed links.

    uploads/{uid}/{upload_id}    what somebody put, unchecked; the bucket deletes what is a day old

Nobody can take a link back, so what was looked at is copied to where no link leads before it counts as checked.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from shared import storage
from shared.identity.recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from shared.storage import SignedUpload, StoredFile

LIFETIME = timedelta(minutes=10)
"""Of a link to put a file."""


class Unfit(Exception):
    """What was uploaded is not what it was said to be. The text goes on from the name of a field."""


def sign(
    uid: str, upload_id: str, *, content_type: str, size_bytes: int, lifetime: timedelta = LIFETIME
) -> SignedUpload:
    """Permission to put one file of exactly this type and size. Raises Unavailable."""
    return storage.sign_upload(
        _name(uid, upload_id), content_type=content_type, size_bytes=size_bytes, lifetime=lifetime
    )


def take(uid: str, upload_id: str, target: str, *, flaw: Callable[[StoredFile], str | None]) -> StoredFile | None:
    """Copy what was uploaded to `target`, once `flaw` has found nothing wrong with it; None when nothing was uploaded.

    The upload stays until `discard`, so that whoever dies in between can begin again. Raises Unfit, after which nothing
    of the file is left, and Unavailable, also when somebody else takes the same upload at the same time.
    """
    file = storage.find(_name(uid, upload_id))
    if file is None:
        return None
    problem = flaw(file)
    if problem is not None:
        storage.delete(file.name)
        raise Unfit(problem)
    storage.copy(file, target)
    return file


def discard(uid: str, upload_id: str) -> None:
    """Delete what was uploaded; without anything there it is fine."""
    storage.delete(_name(uid, upload_id))


class Links:
    """Links to files, each good for half of `lifetime` at least.

    Signing asks IAM over the network; a link that was made lately is good for the other half of its life.
    """

    def __init__(self, *, lifetime: timedelta, size: int) -> None:
        self._lifetime = lifetime
        self._made: Recent[str] = Recent(size=size, keep=lifetime / 2)

    def to(self, name: str, now: datetime, *, save_as: str | None = None) -> str:
        """Where the file can be seen; with `save_as` a browser saves it under that name. Raises Unavailable."""
        key = f"{name}\n{save_as or ''}"
        known = self._made.get(key, now)
        if known is not None:
            return known
        made = storage.sign_download(name, lifetime=self._lifetime, save_as=save_as)
        self._made.put(key, made, now)
        return made

    def clear(self) -> None:
        self._made.clear()


def _name(uid: str, upload_id: str) -> str:
    return f"uploads/{uid}/{upload_id}"
