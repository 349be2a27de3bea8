"""The one table of who may do what with the database directly. What it does not list is refused.

`firestore.rules` is held against it place by place, operation by operation, for every kind of person.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from types import MappingProxyType
from typing import Any

from tests.rules.rest import SERVER_TIME

OPERATIONS = ("get", "list", "list_by_uid", "create", "update", "delete")
"""`list` asks for everything in the collection, `list_by_uid` for what bears the owner's uid."""


class Role(StrEnum):
    GUEST = "guest"
    """Signed in without an account anywhere: Firebase calls it anonymous."""
    USER = "user"
    SUPPORT = "support"
    MODERATOR = "moderator"
    ADMIN = "admin"
    SUSPENDED = "suspended"
    """An admin whose token says it: one signed since the suspension."""
    SUSPENDED_JUST_NOW = "suspended just now"
    """An admin whose token was signed before the suspension."""
    SIGNED_OUT_EVERYWHERE = "signed out everywhere"
    """An admin whose token is older than that."""
    ERASING = "erasing"
    """An admin whose account is being erased."""


CUT_OFF = frozenset({Role.SUSPENDED, Role.SUSPENDED_JUST_NOW, Role.SIGNED_OUT_EVERYWHERE, Role.ERASING})


@dataclass(frozen=True)
class Somebody:
    """A person towards a document. Without a role: not signed in."""

    role: Role | None
    owns_it: bool = False

    def __str__(self) -> str:
        return f"{self.role or 'signed out'}{', the owner' if self.owns_it else ', a stranger' if self.role else ''}"


PEOPLE = (Somebody(None), *(Somebody(role, owns_it) for role in Role for owns_it in (True, False)))


class Who(Enum):
    OWNER = "the owner"
    SIGNED_IN = "whoever is signed in"
    ADMIN = "admins"

    def includes(self, somebody: Somebody) -> bool:
        if somebody.role is None or somebody.role in CUT_OFF:
            return False
        if self is Who.OWNER:
            return somebody.owns_it
        return self is Who.SIGNED_IN or somebody.role is Role.ADMIN


Row = Mapping[str, Who]

CLOSED: Row = MappingProxyType({})
GET_BY_OWNER: Row = MappingProxyType({"get": Who.OWNER})
READ_BY_OWNER: Row = MappingProxyType(dict.fromkeys(("get", "list", "list_by_uid"), Who.OWNER))
READ_WHEN_SIGNED_IN: Row = MappingProxyType(dict.fromkeys(("get", "list", "list_by_uid"), Who.SIGNED_IN))
READ_BY_ADMINS: Row = MappingProxyType(dict.fromkeys(("get", "list", "list_by_uid"), Who.ADMIN))

DEVICES = "users/{uid}/devices/{deviceId}"
NOTIFICATIONS = "users/{uid}/notifications/{notificationId}"

TABLE: Mapping[str, Row] = MappingProxyType(
    {
        "users/{uid}": GET_BY_OWNER,
        "users/{uid}/conversations/{conversationId}": READ_BY_OWNER,
        "users/{uid}/conversations/{conversationId}/messages/{messageId}": READ_BY_OWNER,
        "users/{uid}/generations/{generationId}": READ_BY_OWNER,
        "users/{uid}/contexts/{conversationId}": CLOSED,
        "users/{uid}/folders/{folderId}": READ_BY_OWNER,
        "users/{uid}/folder_names/{documentId}": CLOSED,
        "users/{uid}/search_entries/{entryId}": CLOSED,
        "users/{uid}/removals/{conversationId}": CLOSED,
        "users/{uid}/attachments/{attachmentId}": READ_BY_OWNER,
        "users/{uid}/memories/{memoryId}": READ_BY_OWNER,
        "users/{uid}/images/{imageId}": READ_BY_OWNER,
        NOTIFICATIONS: {**READ_BY_OWNER, "update": Who.OWNER},
        DEVICES: dict.fromkeys(OPERATIONS, Who.OWNER),
        "credit_accounts/{uid}": GET_BY_OWNER,
        "credit_accounts/{uid}/grants/{grantId}": READ_BY_OWNER,
        "credit_accounts/{uid}/holds/{holdId}": READ_BY_OWNER,
        "credit_accounts/{uid}/entries/{entryId}": READ_BY_OWNER,
        "credit_accounts/{uid}/checkpoints/{checkpointId}": CLOSED,
        "usage_records/{recordId}": {"get": Who.OWNER, "list_by_uid": Who.OWNER},
        "subscriptions/{uid}": GET_BY_OWNER,
        "activity/{uid}": GET_BY_OWNER,
        "activity/{uid}/entries/{entryId}": READ_BY_OWNER,
        "analytics_daily/{date}": CLOSED,
        "analytics_daily/{date}/shards/{shard}": READ_BY_ADMINS,
        "models/{modelId}": READ_WHEN_SIGNED_IN,
        "model_policies/{policyId}": CLOSED,
        "shares/{hash}": CLOSED,
        "share_pages/{pageId}": CLOSED,
        "embedding_models/{modelId}": CLOSED,
        "plans/{planId}": READ_WHEN_SIGNED_IN,
        "customers/{uid}": CLOSED,
        "events/{eventId}": CLOSED,
        "processed/{mark}": CLOSED,
        "idempotency/{key}": CLOSED,
        "api_keys/{hash}": CLOSED,
        "key_usage/{usageId}": CLOSED,
        "sessions/{hash}": CLOSED,
        "usernames/{name}": CLOSED,
        "privacy_jobs/{jobId}": CLOSED,
        "erased_accounts/{hash}": CLOSED,
        "no_rule_names_this/{documentId}": CLOSED,
        "users/{uid}/no_rule_names_this/{documentId}": CLOSED,
    }
)

DEVICE: Mapping[str, Any] = MappingProxyType(
    {"token": "fcm:APA91b-example", "platform": "android", "app_version": "2.4.1 (381)", "updated_at": SERVER_TIME}
)
READ_NOW: Mapping[str, Any] = MappingProxyType({"read_at": SERVER_TIME})

PROPER_WRITES: Mapping[tuple[str, str], Mapping[str, Any]] = MappingProxyType(
    {
        (DEVICES, "create"): DEVICE,
        (DEVICES, "update"): DEVICE,
        (NOTIFICATIONS, "create"): READ_NOW,
        (NOTIFICATIONS, "update"): READ_NOW,
    }
)
"""What a write of the two writable documents must look like, so that a refusal is for the person and not the shape."""


def may(place: str, operation: str, somebody: Somebody) -> bool:
    who = TABLE[place].get(operation)
    return who is not None and who.includes(somebody)


def names(place: str) -> tuple[str, ...]:
    """The collections of a place."""
    return tuple(place.split("/")[::2])
