"""Consumers of the chat events: what happens off the reply path once a message is there."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from firebase_functions.pubsub_fn import on_message_published

from functions.chat.events import ConversationsImported, MessageCompleted
from functions.chat.search import service as search
from functions.chat.summaries import summarise_conversation
from functions.chat.titles import title_conversation
from functions.chat.transfer.importing import index_imported
from shared import log
from shared.clock import utc_now
from shared.deployment import arguments_of
from shared.events import Event
from shared.settings import OPENROUTER_API_KEY
from shared.trace import continue_trace, set_trace
from triggers.edge import edge

if TYPE_CHECKING:
    from collections.abc import Callable

_CONSUMERS: dict[str, tuple[Callable[..., None], ...]] = {
    # The quick one first: the others wait for a model.
    MessageCompleted.type: (search.index_turn, title_conversation, summarise_conversation),
    ConversationsImported.type: (index_imported,),
}


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
    _consume(event)
    log.info("message", topic="chat-events", event_type=event.type, event_id=event.id)


def _consume(event: Event) -> None:
    """Have every consumer try. When one fails the message comes again, and those that are done know their event."""
    failures: list[Exception] = []
    for consume in _CONSUMERS.get(event.type, ()):
        try:
            consume(event, now=utc_now())
        except Exception as error:  # noqa: BLE001  # each consumer is an edge of its own
            log.error("consumer failed", cause=error, consumer=consume.__name__, event_id=event.id)
            failures.append(error)
    if failures:
        raise ExceptionGroup(f"{len(failures)} consumers of {event.id} failed", failures)


on_chat_event = on_message_published(
    topic="chat-events", retry=True, secrets=[OPENROUTER_API_KEY], **arguments_of("on_chat_event")
)(_on_chat_event)
