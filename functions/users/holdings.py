"""What is held about a user's account. It comes last: while it is there, it says that it is being erased."""

from datetime import datetime

from functions.users import repository
from shared.holdings import CacheKeys, Documents, Files

HOLDINGS = (
    Files("avatars/{uid}/", archive="avatar"),
    Files("uploads/{uid}/", archive=None, left_out_because="uploads that were never completed"),
    CacheKeys("preferences:{uid}"),
    CacheKeys("preferences:{uid}:newest"),
    Documents("usernames", archive=None, left_out_because="profile.json shows the name"),
    Documents("users/{uid}", archive="profile.json"),
)


def open_upload_ends_at(uid: str) -> datetime | None:
    """Until when the user may still begin to put a file, whatever has become of the account; None when they may not."""
    return repository.find_open_upload_end(uid)
