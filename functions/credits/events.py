"""The events of the credit ledger."""

from datetime import datetime
from typing import ClassVar

from shared.events import EventPayload, Topic


class CreditsGranted(EventPayload):
    type: ClassVar[str] = "credits.granted"
    topic: ClassVar[Topic] = "credit-events"

    grant_id: str
    amount_micro: int
    source: str
    promotional: bool
    expires_at: datetime | None


class CreditsExpired(EventPayload):
    """Credits of one grant lapsed. A grant may lapse in parts, when holds on it end after its expiry."""

    type: ClassVar[str] = "credits.expired"
    topic: ClassVar[Topic] = "credit-events"

    grant_id: str
    amount_micro: int
