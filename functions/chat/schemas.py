"""Bodies and answers of the chat routes."""

from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from shared.ids import is_safe_id

MAX_CONTENT_CHARS = 100_000


def _has_text(value: str) -> str:
    if not value.strip():
        raise ValueError("must not be empty")
    return value


def _storable(value: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must be valid Unicode text")
    return value


def _id(value: str) -> str:
    if not is_safe_id(value):
        raise ValueError("is not an id")
    return value


Id = Annotated[str, AfterValidator(_id)]


class _In(BaseModel):
    """A body: unknown fields are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(extra="forbid")


class TextPart(_In):
    type: Literal["text"]
    text: Annotated[str, Field(max_length=MAX_CONTENT_CHARS), AfterValidator(_storable)]


def _content_kind(value: Any) -> str:
    return "~parts" if isinstance(value, list) else "~text"


ContentText = Annotated[str, Field(max_length=MAX_CONTENT_CHARS), AfterValidator(_has_text), AfterValidator(_storable)]
ContentParts = Annotated[list[TextPart], Field(min_length=1, max_length=32)]
Content = Annotated[
    Annotated[ContentText, Tag("~text")] | Annotated[ContentParts, Tag("~parts")], Discriminator(_content_kind)
]


class CreateConversation(_In):
    title: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable)] | None = None


class Ask(_In):
    """A question. `content` is plain text or a list of text parts, at most 100,000 characters in all."""

    content: Content
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    parent_id: Id | None = Field(
        default=None, description="The message this one follows; the end of the conversation when absent."
    )
    max_tokens: Annotated[int, Field(ge=1, le=128_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None

    @model_validator(mode="after")
    def _whole_text_is_bounded(self) -> Self:
        if not self.text.strip():
            raise ValueError("content must not be empty")
        if len(self.text) > MAX_CONTENT_CHARS:
            raise ValueError(f"content must not be longer than {MAX_CONTENT_CHARS} characters in all")
        return self

    @property
    def text(self) -> str:
        if isinstance(self.content, str):
            return self.content
        return "\n\n".join(part.text for part in self.content)


class SendMessage(Ask):
    """A question in a conversation."""

    stream: bool = Field(default=True, description="Answer as an event stream; false: one JSON document.")


class ChatSend(Ask):
    """What the callable `chat_send` takes: without `conversation_id` it begins a conversation."""

    conversation_id: Id | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None,
        description="As the header `Idempotency-Key`, which the SDKs of callables cannot set: sent again with the same "
        "key, the question is asked and paid once.",
    )


class PageQuery(BaseModel):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=200)] | None = None


class EventsQuery(BaseModel):
    after: Annotated[int, Field(ge=0, le=10**9)] = Field(default=0, description="Give events with a higher `seq` only.")
    wait_s: Annotated[float, Field(ge=0, le=25)] = Field(
        default=0, description="Wait this long for the next event when there is none yet."
    )


class Conversation(BaseModel):
    id: str
    title: str
    model: str | None = Field(description="The model that answered last.")
    tip: str | None = Field(description="The newest message of the branch in use.")
    message_count: int
    created_at: datetime
    updated_at: datetime


class ConversationPage(BaseModel):
    items: list[Conversation]
    next_cursor: str | None


class Usage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int


class Charge(BaseModel):
    """What a turn cost its user, in credits. One micro-credit is a millionth of a credit."""

    charged_micro: int
    credits: str = Field(description="The same in credits, exact.")
    pending: bool = Field(description="The provider has not told the cost yet; the credits are still held.")


class Part(BaseModel):
    type: Literal["text", "reasoning"]
    text: str


class Message(BaseModel):
    id: str
    parent_id: str | None
    role: Literal["user", "assistant"]
    parts: list[Part]
    status: str
    model: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    credits: Charge | None = None
    generation_id: str | None = None
    created_at: datetime


class MessagePage(BaseModel):
    items: list[Message]
    next_cursor: str | None


class TurnAnswer(BaseModel):
    conversation_id: str
    generation_id: str
    user_message: Message
    message: Message
    usage: Usage | None
    credits: Charge


class Generation(BaseModel):
    id: str
    status: str
    conversation_id: str
    message_id: str
    user_message_id: str
    model: str
    started_at: datetime
    ended_at: datetime | None
    error: str | None = Field(description="The code of what went wrong.")


class GenerationEvents(BaseModel):
    """Events in order. Ask again with `after=next` until `done`."""

    items: list[dict[str, Any]]
    next: int
    done: bool


class StopAnswer(BaseModel):
    id: str
    stopping: bool = Field(description="False when the generation had already ended.")


class ModelView(BaseModel):
    id: str
    name: str
    context_tokens: int
    max_answer_tokens: int
    prompt_usd_per_million: str
    completion_usd_per_million: str
    usd_per_request: str


class ModelList(BaseModel):
    items: list[ModelView]
    default: str
