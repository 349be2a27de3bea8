"""On each new event: the activity log, the day's counters, and the news for Pub/Sub."""

from __future__ import annotations

from typing import Any

from firebase_functions.firestore_fn import on_document_created

from functions.activity import service as activity
from functions.analytics import service as analytics
from shared import log
from shared.clients import publisher
from shared.clock import utc_now
from shared.deployment import arguments_of
from shared.events import Event
from shared.settings import settings
from shared.trace import continue_trace, set_trace
from triggers.edge import edge

_PUBLISH_TIMEOUT_S = 20


@edge("on_event_created")
def _on_event_created(fired: Any) -> None:
    """Log and counters take each event once, however often it is delivered; consumers know a message by its event."""
    event = Event.from_document(fired.params["event_id"], fired.data.to_dict())
    set_trace(continue_trace(event.traceparent))
    now = utc_now()
    logged = activity.record(event, now=now)
    counted = analytics.count(event, now=now)
    _publish(event)
    lag_ms = round((now - event.occurred_at).total_seconds() * 1000)
    log.info("event", event_type=event.type, event_id=event.id, logged=logged, counted=counted, lag_ms=lag_ms)


def _publish(event: Event) -> None:
    """At least once; consumers know the event by its id."""
    topic = publisher().topic_path(settings().project_id, event.topic)
    data, attributes = event.to_message()
    publisher().publish(topic, data, **attributes).result(timeout=_PUBLISH_TIMEOUT_S)


on_event_created: Any = on_document_created(document="events/{event_id}", **arguments_of("on_event_created"))(
    _on_event_created
)
# The SDK has no `retry` for Firestore triggers (firebase/firebase-functions-python#165); without it a failure is lost.
on_event_created.__firebase_endpoint__.eventTrigger["retry"] = True
