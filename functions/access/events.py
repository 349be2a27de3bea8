"""The events of API keys and sessions. They name no key, no cookie, no address and no device."""

from datetime import datetime
from typing import ClassVar

from shared.events import EventPayload, Topic


class KeyCreated(EventPayload):
    type: ClassVar[str] = "user.key.created"
    topic: ClassVar[Topic] = "user-events"

    key_id: str
    scopes: list[str]
    expires_at: datetime | None
    monthly_limit_micro: int | None


class KeyChanged(EventPayload):
    type: ClassVar[str] = "user.key.changed"
    topic: ClassVar[Topic] = "user-events"

    key_id: str
    changed: list[str]
    """The names of the fields."""


class KeyRotated(EventPayload):
    """`key_id` came in the place of `replaced_id`, which ends at `replaced_until`."""

    type: ClassVar[str] = "user.key.rotated"
    topic: ClassVar[Topic] = "user-events"

    key_id: str
    replaced_id: str
    replaced_until: datetime


class KeyRevoked(EventPayload):
    type: ClassVar[str] = "user.key.revoked"
    topic: ClassVar[Topic] = "user-events"

    key_id: str


class SessionCreated(EventPayload):
    type: ClassVar[str] = "user.session.created"
    topic: ClassVar[Topic] = "user-events"

    session_id: str
    expires_at: datetime


class SessionRevoked(EventPayload):
    type: ClassVar[str] = "user.session.revoked"
    topic: ClassVar[Topic] = "user-events"

    session_id: str


class SignedOutEverywhere(EventPayload):
    type: ClassVar[str] = "user.signed_out_everywhere"
    topic: ClassVar[Topic] = "user-events"

    sessions_ended: int
