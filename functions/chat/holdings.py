"""What chat holds about a user."""

from functions.chat import repository
from shared.holdings import CacheKeys, Documents, NothingPersonal

HOLDINGS = (
    Documents("users/{uid}/conversations", archive="conversations/{id}.json"),
    Documents("users/{uid}/generations", archive="generations.json"),
    Documents("usage_records", archive="usage.json"),
    # Texts on their way to clients; the name holds no user.
    CacheKeys("gen:*:meta", owner_field="uid", family=("events", "meta", "alive")),
    NothingPersonal("models", because="the catalogue, as the model provider offers it to everybody"),
)


def is_busy(uid: str) -> bool:
    """Whether an answer for the user is in the making, so that something will still be written about them."""
    return repository.has_running(uid)
