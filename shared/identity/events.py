"""The event of a new account."""

from typing import ClassVar

from shared.events import EventPayload, Topic


class UserRegistered(EventPayload):
    """Somebody was here for the first time."""

    type: ClassVar[str] = "user.registered"
    topic: ClassVar[Topic] = "user-events"

    email_verified: bool
