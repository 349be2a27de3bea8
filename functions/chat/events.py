"""What the chat capability tells the rest of the system."""

from typing import ClassVar

from shared.events import EventPayload, Topic


class ConversationCreated(EventPayload):
    type: ClassVar[str] = "chat.conversation.created"
    topic: ClassVar[Topic] = "chat-events"

    conversation_id: str


class ConversationShared(EventPayload):
    """A branch of a conversation can be read by whoever has its link."""

    type: ClassVar[str] = "chat.conversation.shared"
    topic: ClassVar[Topic] = "chat-events"

    conversation_id: str
    revision: int
    message_count: int


class ConversationUnshared(EventPayload):
    """The link of a conversation leads nowhere any more."""

    type: ClassVar[str] = "chat.conversation.unshared"
    topic: ClassVar[Topic] = "chat-events"

    conversation_id: str


class ConversationDeleted(EventPayload):
    """A conversation is gone, with all that belonged to it; the last of it may go a little later."""

    type: ClassVar[str] = "chat.conversation.deleted"
    topic: ClassVar[Topic] = "chat-events"

    conversation_id: str
    reason: str
    """`user`, or `expired` for temporary chats."""


class MessagesDeleted(EventPayload):
    """A message is gone, with all that followed it."""

    type: ClassVar[str] = "chat.messages.deleted"
    topic: ClassVar[Topic] = "chat-events"

    conversation_id: str
    message_id: str
    message_count: int


class ConversationsImported(EventPayload):
    """Conversations of another product, or of an export, were taken in; a large import tells it several times."""

    type: ClassVar[str] = "chat.conversations.imported"
    topic: ClassVar[Topic] = "chat-events"

    conversation_ids: list[str]
    conversation_count: int
    message_count: int


class ConversationChanged(EventPayload):
    """Its title, settings, place or branch in use changed. `changed` names the fields, not what they hold."""

    type: ClassVar[str] = "chat.conversation.changed"
    topic: ClassVar[Topic] = "chat-events"

    conversation_id: str
    changed: list[str]


class MessageCompleted(EventPayload):
    """A turn ended and its answer, whole or partial, is stored and paid for."""

    type: ClassVar[str] = "chat.message.completed"
    topic: ClassVar[Topic] = "chat-events"

    conversation_id: str
    generation_id: str
    message_id: str
    user_message_id: str | None
    """None when an earlier question was answered again, or an answer was gone on with."""
    first_in_conversation: bool
    temporary: bool = False
    """Of a chat that nothing shall be remembered of."""
    context_bytes: int = 0
    """How much of the conversation is kept for its next turn; much of it is worth a summary."""
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

    conversation_id: str | None
    generation_id: str
    model: str
    code: str
    cost_pico_usd: int
    charged_micro: int


class GenerationCompleted(EventPayload):
    """An answer outside any conversation ended and is paid for; nothing of it is kept."""

    type: ClassVar[str] = "chat.generation.completed"
    topic: ClassVar[Topic] = "chat-events"

    generation_id: str
    status: str
    model: str
    prompt_tokens: int
    completion_tokens: int
    cost_pico_usd: int
    charged_micro: int
    duration_ms: int


class GenerationSettled(EventPayload):
    """The cost of a turn became known after its end and was charged."""

    type: ClassVar[str] = "chat.generation.settled"
    topic: ClassVar[Topic] = "chat-events"

    generation_id: str
    model: str
    cost_pico_usd: int
    charged_micro: int
