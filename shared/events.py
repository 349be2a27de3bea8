"""Events: how a state change becomes known to the rest of the system, exactly when it really happened.

A capability adds its event to the batch that makes the change (`record`), so neither is there without the other.
The Firestore trigger on `events/{id}` takes it from there: activity log, analytics, Pub/Sub. Delivery is at least once
and unordered, so a consumer's effect and its mark are one batch (`once`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from shared import store
from shared.ids import new_id
from shared.trace import continue_trace, current_trace

EVENTS_KEPT = timedelta(days=30)
MARKS_KEPT = timedelta(days=30)

Topic = Literal[
    "user-events",
    "chat-events",
    "image-events",
    "credit-events",
    "subscription-events",
    "memory-events",
    "notification-events",
]
TOPICS: tuple[Topic, ...] = Topic.__args__  # type: ignore[attr-defined]  # typing.get_args loses the literal type


class EventPayload(BaseModel):
    """What an event says beyond who and when. Never holds prompts, answers, e-mail addresses or other personal text."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    type: ClassVar[str]
    """`<noun>.<past verb>`, e.g. `chat.message.completed`."""
    topic: ClassVar[Topic]
    version: ClassVar[int] = 1


@dataclass(frozen=True)
class Event:
    """One event as it is stored, published and consumed."""

    id: str
    type: str
    version: int
    topic: Topic
    uid: str
    subject: str
    """The document the event is about, relative to the user: `conversations/c_1/messages/m_2`."""
    data: Mapping[str, Any]
    occurred_at: datetime
    traceparent: str

    @property
    def trace_id(self) -> str:
        return continue_trace(self.traceparent).trace_id

    def to_document(self) -> dict[str, Any]:
        return {
            "type": self.type,
            "version": self.version,
            "topic": self.topic,
            "uid": self.uid,
            "subject": self.subject,
            "data": dict(self.data),
            "occurred_at": self.occurred_at,
            "traceparent": self.traceparent,
            "expires_at": self.occurred_at + EVENTS_KEPT,
        }

    @classmethod
    def from_document(cls, event_id: str, document: Mapping[str, Any]) -> Event:
        fields = {name: document[name] for name in cls.__dataclass_fields__ if name != "id"}
        return cls(id=event_id, **fields)

    def to_message(self) -> tuple[bytes, dict[str, str]]:
        """The Pub/Sub message: CloudEvents 1.0 in binary mode, `ce-` attributes beside a JSON payload.

        https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
        """
        attributes = {
            "ce-specversion": "1.0",
            "ce-id": self.id,
            "ce-type": self.type,
            "ce-source": f"//craftpilot/{self.topic}",
            "ce-subject": self.subject,
            "ce-time": self.occurred_at.isoformat(),
            "ce-dataversion": str(self.version),
            "uid": self.uid,
            "traceparent": self.traceparent,
            "content-type": "application/json",
        }
        return json.dumps(dict(self.data), separators=(",", ":")).encode(), attributes

    @classmethod
    def from_message(cls, topic: Topic, data: bytes, attributes: Mapping[str, str]) -> Event:
        """Raises KeyError or ValueError when the message is not one of ours."""
        payload = json.loads(data)
        if not isinstance(payload, dict):
            raise ValueError("The payload of an event is a JSON object.")  # noqa: TRY004  # what a decoder raises
        return cls(
            id=attributes["ce-id"],
            type=attributes["ce-type"],
            version=int(attributes["ce-dataversion"]),
            topic=topic,
            uid=attributes["uid"],
            subject=attributes["ce-subject"],
            data=payload,
            occurred_at=datetime.fromisoformat(attributes["ce-time"]),
            traceparent=attributes.get("traceparent", ""),
        )


def record(batch: store.Writes, payload: EventPayload, *, uid: str, subject: str, at: datetime) -> Event:
    """Add the event to the batch that makes the change it tells of."""
    event = Event(
        id=new_id("evt"),
        type=payload.type,
        version=payload.version,
        topic=payload.topic,
        uid=uid,
        subject=subject,
        data=payload.model_dump(mode="json"),
        occurred_at=at,
        traceparent=current_trace().traceparent,
    )
    batch.create(store.document("events", event.id), event.to_document())
    return event


def once(consumer: str, event: Event, add_effects: Callable[[store.Batch], None], *, now: datetime) -> bool:
    """Commit the consumer's effects together with its mark; False when this event was already consumed.

    `add_effects` only adds writes. Effects outside Firestore do not belong here: a crash between them and the mark
    would repeat them. Raises store.StaleWrite when a precondition among the effects fails; the caller may read anew and
    try again.
    """
    batch = store.new_batch()
    mark = store.document("processed", f"{consumer}:{event.id}")
    batch.create(mark, {"event_type": event.type, "at": now, "expires_at": now + MARKS_KEPT})
    add_effects(batch)
    try:
        store.commit(batch)
    except store.AlreadyExists as error:
        if store.read(mark) is not None:
            return False
        raise store.StaleWrite(str(error)) from error
    return True
