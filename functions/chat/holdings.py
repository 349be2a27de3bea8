"""What chat holds about a user."""

from datetime import datetime

from functions.chat import repository
from functions.chat.uploads import repository as uploads
from shared.holdings import CacheKeys, Documents, Files

HOLDINGS = (
    Documents("users/{uid}/conversations", archive="conversations/{id}.json"),
    Documents("users/{uid}/contexts", archive=None, left_out_because="the newest messages once more, and a summary"),
    Documents("users/{uid}/folders", archive="folders.json"),
    Documents("users/{uid}/folder_names", archive=None, left_out_because="the names of the folders once more"),
    Documents("users/{uid}/search_entries", archive=None, left_out_because="the words of the messages once more"),
    Documents("users/{uid}/removals", archive=None, left_out_because="ids of conversations that are being deleted"),
    Documents("users/{uid}/generations", archive="generations.json"),
    Documents("users/{uid}/attachments", archive="attachments.json"),
    Files("attachments/{uid}/", archive="attachments"),
    # What is shown to others, by the hash of the link's secret.
    Documents("shares", archive="shares.json", secret_id=True),
    Documents("share_pages", archive=None, left_out_because="messages once more, as others see them"),
    Documents("usage_records", archive="usage.json"),
    # Texts on their way to clients; the name holds no user.
    CacheKeys("gen:*:meta", owner_field="uid", family=("events", "meta", "alive")),
)


def is_busy(uid: str) -> bool:
    """Whether an answer for the user is in the making, so that something will still be written about them."""
    return repository.has_running(uid)


def open_upload_ends_at(uid: str) -> datetime | None:
    """Until when the user may still begin to put an attachment, whatever has become of the account; None when they may
    not.
    """
    return uploads.last_link_ends_at(uid)
