"""What happens to accounts. Payloads name who acted and which fields changed, never what they say."""

from typing import ClassVar

from shared.events import EventPayload, Topic


class ProfileUpdated(EventPayload):
    type: ClassVar[str] = "user.profile.updated"
    topic: ClassVar[Topic] = "user-events"

    fields: list[str]


class PreferencesUpdated(EventPayload):
    type: ClassVar[str] = "user.preferences.updated"
    topic: ClassVar[Topic] = "user-events"


class RoleChanged(EventPayload):
    type: ClassVar[str] = "user.role.changed"
    topic: ClassVar[Topic] = "user-events"

    old_role: str
    new_role: str
    by: str


class Suspended(EventPayload):
    type: ClassVar[str] = "user.suspended"
    topic: ClassVar[Topic] = "user-events"

    by: str


class Reinstated(EventPayload):
    type: ClassVar[str] = "user.reinstated"
    topic: ClassVar[Topic] = "user-events"

    by: str


class SignedOut(EventPayload):
    """An operator ended every session and sign-in of the account."""

    type: ClassVar[str] = "user.signed_out"
    topic: ClassVar[Topic] = "user-events"

    by: str


class ErasureRequested(EventPayload):
    type: ClassVar[str] = "user.erasure.requested"
    topic: ClassVar[Topic] = "user-events"

    job_id: str


class ExportRequested(EventPayload):
    type: ClassVar[str] = "user.export.requested"
    topic: ClassVar[Topic] = "user-events"

    job_id: str
