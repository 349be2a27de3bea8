"""Consumers of the chat events: what happens off the reply path once a message is there."""

from __future__ import annotations

import base64
from typing import Any

from firebase_functions.pubsub_fn import on_message_published

from functions.chat import service as chat
from functions.chat.events import MessageCompleted
from shared import log
from shared.clock import utc_now
from shared.deployment import arguments_of
from shared.events import Event
from shared.trace import continue_trace, set_trace
from triggers.edge import edge


@edge("on_chat_event")
def _on_chat_event(fired: Any) -> None:
    message = fired.data.message
    try:
        event = Event.from_message("chat-events", base64.b64decode(message.data or ""), message.attributes or {})
    except (KeyError, ValueError) as error:
        # Delivering it again would not make it ours.
        log.error("message is not an event", cause=error, message_id=message.message_id)
        return
    set_trace(continue_trace(event.traceparent))
    if event.type == MessageCompleted.type and event.data.get("first_in_conversation"):
        chat.title_conversation(event, now=utc_now())
    log.info("message", topic="chat-events", event_type=event.type, event_id=event.id)


on_chat_event = on_message_published(topic="chat-events", retry=True, **arguments_of("on_chat_event"))(_on_chat_event)
