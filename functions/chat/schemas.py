"""Bodies and answers of the chat routes."""

import json
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from functions.chat.domain import (
    MAX_CONTEXT_TOKENS,
    MAX_PARTS,
    MAX_RETENTION,
    MAX_TAGS,
    MIN_CONTEXT_TOKENS,
    UNTITLED,
    ConversationState,
    json_bytes,
)
from shared.http.schema import Body, Schema, wrong
from shared.ids import is_safe_id

MAX_CONTENT_CHARS = 100_000
MAX_SYSTEM_PROMPT_CHARS = 8_000
MAX_TOOLS, MAX_TOOLS_BYTES = 128, 64 * 1024


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


def _line(value: str) -> str:
    line = " ".join(value.split())
    if not line:
        raise ValueError("must not be empty")
    return line


def _distinct(values: list[str]) -> list[str]:
    if len({value.casefold() for value in values}) != len(values):
        raise ValueError("must not name one twice")
    return values


def _small_json(value: Any) -> Any:
    try:
        size = json_bytes(value)
    except (UnicodeEncodeError, RecursionError, ValueError) as error:
        raise ValueError("must be plain JSON of valid Unicode text") from error
    if size > MAX_TOOLS_BYTES:
        raise ValueError(f"must not be larger than {MAX_TOOLS_BYTES // 1024} KiB")
    return value


Id = Annotated[str, AfterValidator(_id)]
ModelId = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable)]
Title = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable), AfterValidator(_line)]
TagName = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(_storable), AfterValidator(_line)]
TagNames = Annotated[list[TagName], Field(max_length=MAX_TAGS), AfterValidator(_distinct)]
Json = Annotated[dict[str, Any], AfterValidator(_small_json)]


# What a question is made of


class TextPart(Body):
    type: Literal["text"]
    text: Annotated[str, Field(max_length=MAX_CONTENT_CHARS), AfterValidator(_storable)]


class AttachmentPart(Body):
    """An image or a file that was uploaded before (`POST /api/v1/uploads`)."""

    type: Literal["image", "file"]
    upload_id: Id


def _part_kind(value: Any) -> str:
    """By what it says it is; what is neither is refused as an attachment, whose `type` names what there is."""
    is_text = isinstance(value, dict) and value.get("type") in (None, "text")
    return "~text" if is_text or isinstance(value, TextPart) else "~attachment"


PartIn = Annotated[
    Annotated[TextPart, Tag("~text")] | Annotated[AttachmentPart, Tag("~attachment")], Discriminator(_part_kind)
]


def _bounded(parts: list[TextPart | AttachmentPart]) -> list[TextPart | AttachmentPart]:
    text = "\n\n".join(part.text for part in parts if isinstance(part, TextPart))
    if not text.strip() and not any(isinstance(part, AttachmentPart) for part in parts):
        raise ValueError("must not be empty")
    if len(text) > MAX_CONTENT_CHARS:
        raise ValueError(f"must not be longer than {MAX_CONTENT_CHARS} characters in all")
    return parts


def _content_kind(value: Any) -> str:
    return "~parts" if isinstance(value, list) else "~text"


ContentText = Annotated[str, Field(max_length=MAX_CONTENT_CHARS), AfterValidator(_has_text), AfterValidator(_storable)]
ContentParts = Annotated[list[PartIn], Field(min_length=1, max_length=MAX_PARTS), AfterValidator(_bounded)]
Content = Annotated[
    Annotated[ContentText, Tag("~text")] | Annotated[ContentParts, Tag("~parts")], Discriminator(_content_kind)
]


class ToolResult(Body):
    tool_call_id: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_storable)]
    content: Annotated[str, Field(max_length=MAX_CONTENT_CHARS), AfterValidator(_storable)]


class ToolFunction(Schema):
    """A function that the model may ask for. What it takes is a JSON schema."""

    model_config = ConfigDict(extra="allow")

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
    description: Annotated[str, Field(max_length=4_000)] | None = None
    parameters: dict[str, Any] | None = None


class Tool(Body):
    type: Literal["function"]
    function: ToolFunction


class Reasoning(Body):
    """How much the model thinks before it answers, where it can."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=128_000)] | None = None
    exclude: bool | None = None


class AnswerSettings(Body):
    """How answers are made. What is absent is left to the conversation, then to the model."""

    model: ModelId | None = None
    fallbacks: Annotated[list[ModelId], Field(max_length=3)] | None = Field(
        default=None, description="Asked in this order when the model fails before its first word."
    )
    context_tokens: Annotated[int, Field(ge=MIN_CONTEXT_TOKENS, le=MAX_CONTEXT_TOKENS)] | None = Field(
        default=None,
        description="How much of the conversation goes along at most; older messages are replaced by a summary. "
        "Counted so that it is never exceeded: one token per byte of text.",
    )
    max_tokens: Annotated[int, Field(ge=1, le=128_000)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    reasoning: Reasoning | None = None


class ConversationSettings(AnswerSettings):
    """How a conversation's answers are made, unless a question says otherwise."""

    system_prompt: Annotated[str, Field(max_length=MAX_SYSTEM_PROMPT_CHARS), AfterValidator(_storable)] | None = None


class Make(AnswerSettings):
    """How one answer shall be made."""

    tools: Annotated[list[Tool], Field(min_length=1, max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | Json | None = None
    parallel_tool_calls: bool | None = None
    response_format: Json | None = Field(
        default=None, description='`{"type": "json_object"}` or `{"type": "json_schema", "json_schema": {…}}`.'
    )
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=4)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None

    @model_validator(mode="after")
    def _tools_are_bounded(self) -> Self:
        if self.tools and json_bytes([tool.model_dump(exclude_none=True) for tool in self.tools]) > MAX_TOOLS_BYTES:
            raise wrong("tools", f"must not be larger than {MAX_TOOLS_BYTES // 1024} KiB in all")
        if self.tool_choice is not None and not self.tools:
            raise wrong("tool_choice", "needs tools")
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        """What goes to the model as it was given."""
        names = (
            "tools",
            "tool_choice",
            "parallel_tool_calls",
            "response_format",
            "seed",
            "stop",
            "frequency_penalty",
            "presence_penalty",
        )
        return self.model_dump(include=set(names), exclude_none=True)


class Ask(Make):
    """A question: `content`, or the results of tools that the last answer asked for.

    `content` is plain text or a list of parts, with at most 100,000 characters in all.
    """

    tool_results: Annotated[list[ToolResult], Field(min_length=1, max_length=MAX_TOOLS)] | None = None
    content: Annotated[Content | None, Field(validate_default=True)] = None
    parent_id: Id | None = Field(
        default=None, description="The message this one follows; the end of the conversation when absent."
    )

    @field_validator("tool_results")
    @classmethod
    def _results_are_bounded(cls, results: list[ToolResult] | None) -> list[ToolResult] | None:
        if results and sum(len(result.content) for result in results) > MAX_CONTENT_CHARS:
            raise ValueError(f"must not be longer than {MAX_CONTENT_CHARS} characters in all")
        return results

    @field_validator("content")
    @classmethod
    def _asks_one_thing(cls, content: Any, info: ValidationInfo) -> Any:
        if "tool_results" in info.data and (content is None) == (info.data["tool_results"] is None):
            raise ValueError("give either content or tool_results")
        return content


class _Streaming(Schema):
    stream: bool = Field(default=True, description="Answer as an event stream; false: one JSON document.")


class SendMessage(Ask, _Streaming):
    """A question in a conversation."""


class EditMessage(Make, _Streaming):
    """Another version of a message, and the answer to it. The first version stays, as a branch of its own."""

    content: Content


class MakeAnswer(Make, _Streaming):
    """Another answer, or more of one. An empty object: as the conversation's settings say, as a stream."""


class ChatSend(Ask):
    """What the callable `chat_send` takes: without `conversation_id` it begins a conversation."""

    conversation_id: Id | None = None
    idempotency_key: Annotated[str, Field(min_length=1, max_length=255)] | None = Field(
        default=None,
        description="As the header `Idempotency-Key`, which the SDKs of callables cannot set: sent again with the same "
        "key, the question is asked and paid once.",
    )


# Conversations


class CreateConversation(Body):
    title: Title | None = None
    settings: ConversationSettings | None = None
    folder_id: Id | None = None
    tags: TagNames = Field(default=[])
    temporary: bool = Field(
        default=False, description="Kept out of lists and search, without a title, and deleted when its time is over."
    )
    retention_hours: Annotated[int, Field(ge=1, le=int(MAX_RETENTION.total_seconds() // 3600))] | None = Field(
        default=None, description="How long a temporary chat is kept; 24 hours when absent."
    )

    @model_validator(mode="after")
    def _retention_is_for_temporary_chats(self) -> Self:
        if self.retention_hours is not None and not self.temporary:
            raise wrong("retention_hours", "is for temporary chats")
        return self


class ChangeConversation(Body):
    """What is absent stays as it is; null removes."""

    title: Title | None = None
    settings: ConversationSettings | None = Field(default=None, description="Replaces all of the settings.")
    folder_id: Id | None = None
    tags: TagNames | None = None
    pinned: bool | None = None
    archived: bool | None = None
    tip: Id | None = Field(default=None, description="The end of the branch to use from now on: any message.")


class PageQuery(Schema):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=200)] | None = None


class ConversationsQuery(PageQuery):
    """One of the filters at a time."""

    folder_id: Id | None = None
    tag: Annotated[str, Field(max_length=40)] | None = None
    pinned: bool | None = None
    archived: bool = False

    @model_validator(mode="after")
    def _one_filter(self) -> Self:
        if sum(each is not None for each in (self.folder_id, self.tag, self.pinned)) > 1:
            filters = [name for name in ("folder_id", "tag", "pinned") if getattr(self, name) is not None]
            raise wrong(filters[1], f"cannot be combined with {filters[0]}")
        return self


class MessagesQuery(PageQuery):
    branch: Annotated[str, Field(max_length=200)] | None = Field(
        default=None,
        description="`tip` or the id of a message: only the branch that ends there, the newest message first. "
        "Absent: all branches, the oldest message first.",
    )


class EventsQuery(Schema):
    after: Annotated[int, Field(ge=0, le=10**9)] = Field(default=0, description="Give events with a higher `seq` only.")
    wait_s: Annotated[float, Field(ge=0, le=25)] = Field(
        default=0, description="Wait this long for the next event when there is none yet."
    )


class ShareState(Schema):
    token: str
    revision: int
    updated_at: datetime


class Conversation(Schema):
    id: str
    title: str = UNTITLED
    title_source: Literal["default", "model", "user"] = "default"
    model: str | None = Field(default=None, description="The model that answered last.")
    tip: str | None = Field(default=None, description="The newest message of the branch in use.")
    message_count: int = 0
    state: ConversationState = ConversationState.ACTIVE
    pinned: bool = False
    folder_id: str | None = None
    tags: list[str] = Field(default=[])
    settings: ConversationSettings = ConversationSettings()
    share: ShareState | None = None
    generation_id: str | None = Field(default=None, description="The answer that was begun last.")
    expires_at: datetime | None = Field(default=None, description="When a temporary chat is deleted.")
    created_at: datetime
    updated_at: datetime


class ConversationPage(Schema):
    items: list[Conversation]
    next_cursor: str | None


# Messages


class Usage(Schema):
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int


class Charge(Schema):
    """What a turn cost its user, in credits. One micro-credit is a millionth of a credit."""

    charged_micro: int
    credits: str = Field(description="The same in credits, exact.")
    pending: bool = Field(description="The provider has not told the cost yet; the credits are still held.")


class Text(Schema):
    type: Literal["text", "reasoning"]
    text: str


class AttachmentShown(Schema):
    """An image or a file; `GET /api/v1/uploads/{upload_id}` gives a link to it."""

    type: Literal["image", "file"]
    upload_id: str
    name: str
    content_type: str
    size_bytes: int


class ToolCallShown(Schema):
    """A function that the model asks for. Send its result as `tool_results` in the next message."""

    type: Literal["tool_call"]
    id: str
    name: str
    arguments: str = Field(description="JSON text, as the model wrote it.")


class ToolResultShown(Schema):
    type: Literal["tool_result"]
    tool_call_id: str
    text: str


class Citation(Schema):
    """What a passage of the text rests on; `start` and `end` are places in it, where the model names them."""

    type: Literal["citation"]
    url: str
    title: str
    start: int | None = None
    end: int | None = None


Part = Annotated[Text | AttachmentShown | ToolCallShown | ToolResultShown | Citation, Field(discriminator="type")]


class Message(Schema):
    id: str
    parent_id: str | None = None
    role: Literal["user", "assistant", "tool"]
    parts: list[Part]
    status: str
    model: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    credits: Charge | None = None
    generation_id: str | None = None
    continues: str | None = Field(default=None, description="The answer that this one goes on with.")
    created_at: datetime

    @classmethod
    def from_document(cls, message_id: str, document: dict[str, Any]) -> Self:
        return cls.model_validate({**document, "id": message_id})

    def to_document(self) -> dict[str, Any]:
        return self.model_dump(exclude={"id"}, exclude_none=True)


class MessagePage(Schema):
    items: list[Message]
    next_cursor: str | None


class TurnAnswer(Schema):
    conversation_id: str
    generation_id: str
    user_message: Message | None = Field(description="The question; None when an earlier one was answered again.")
    message: Message
    usage: Usage | None
    credits: Charge


# Generations


class Generation(Schema):
    id: str
    status: str
    conversation_id: str | None
    message_id: str
    user_message_id: str | None
    model: str
    started_at: datetime
    ended_at: datetime | None
    error: str | None = Field(description="The code of what went wrong.")


class GenerationEvents(Schema):
    """Events in order. Ask again with `after=next` until `done`."""

    items: list[dict[str, Any]]
    next: int
    done: bool


class StopAnswer(Schema):
    id: str
    stopping: bool = Field(description="False when the generation had already ended.")


def json_text(items: Any) -> str | None:
    """What is kept of the provider's reasoning; None when there is nothing."""
    return json.dumps(items, ensure_ascii=False, separators=(",", ":")) if items else None
