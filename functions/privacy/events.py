"""What privacy jobs tell the rest of the system. The end of an erasure is told to nobody: an event names its user."""

from typing import ClassVar

from shared.events import EventPayload, Topic


class ExportCompleted(EventPayload):
    type: ClassVar[str] = "user.export.completed"
    topic: ClassVar[Topic] = "user-events"

    job_id: str
    size_bytes: int
