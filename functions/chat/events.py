"""What the chat capability tells the rest of the system."""

from typing import ClassVar

from shared.events import EventPayload, Topic


class ConversationCreated(EventPayload):
    type: ClassVar[str] = "chat.conversation.created"
    topic: ClassVar[Topic] = "chat-events"

    conversation_id: str


class MessageCompleted(EventPayload):
    """A turn ended and its answer, whole or partial, is stored and paid for."""

    type: ClassVar[str] = "chat.message.completed"
    topic: ClassVar[Topic] = "chat-events"

    conversation_id: str
    generation_id: str
    message_id: str
    user_message_id: str
    first_in_conversation: bool
    status: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_pico_usd: int
    charged_micro: int
    duration_ms: int


class GenerationFailed(EventPayload):
    """A turn ended and nothing of it was kept in the conversation; the provider may have charged all the same."""

    type: ClassVar[str] = "chat.generation.failed"
    topic: ClassVar[Topic] = "chat-events"

    conversation_id: str
    generation_id: str
    model: str
    code: str
    cost_pico_usd: int
    charged_micro: int


class GenerationSettled(EventPayload):
    """The cost of a turn became known after its end and was charged."""

    type: ClassVar[str] = "chat.generation.settled"
    topic: ClassVar[Topic] = "chat-events"

    generation_id: str
    model: str
    cost_pico_usd: int
    charged_micro: int
