"""What operators change about models, told on the log of the operator who did."""

from typing import Any, ClassVar

from shared.events import EventPayload, Topic


class ModelPolicyChanged(EventPayload):
    type: ClassVar[str] = "admin.model_policy.changed"
    topic: ClassVar[Topic] = "user-events"

    model: str | None
    """None: what holds for all models."""
    changes: dict[str, Any]
    """By field: what it was, and what it is."""
