"""Bodies and answers of the routes of shared conversations."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from functions.chat.schemas import Citation, Id, Title
from shared.http.schema import Body, Schema


class ShareConversation(Body):
    """What to show."""

    message_id: Id | None = Field(
        default=None, description="The end of the branch to show; the end of the conversation when absent."
    )
    title: Title | None = Field(default=None, description="What others read; the conversation's title when absent.")


class ShareView(Schema):
    """A conversation as it is shared, for its owner."""

    token: str = Field(description="Whoever has it can read what is shared.")
    url_path: str
    revision: int
    title: str
    message_count: int
    created_at: datetime
    updated_at: datetime


class SharedQuery(Schema):
    revision: Annotated[int, Field(ge=1, le=999_999)] | None = Field(
        default=None, description="An earlier one; the latest when absent."
    )
    limit: Annotated[int, Field(ge=1, le=100)] = Field(default=50, description="A page may have fewer messages.")
    cursor: Annotated[str, Field(max_length=200)] | None = None


class SharedText(Schema):
    type: Literal["text"]
    text: str


class SharedAttachment(Schema):
    """That there was one; nobody gets it."""

    type: Literal["image", "file"]
    name: str
    content_type: str


SharedPart = Annotated[SharedText | SharedAttachment | Citation, Field(discriminator="type")]


class SharedMessage(Schema):
    role: Literal["user", "assistant"]
    parts: list[SharedPart]
    model: str | None
    created_at: datetime


class SharedRevision(Schema):
    revision: int
    title: str
    message_count: int
    created_at: datetime


class SharedConversation(Schema):
    """A page of a shared conversation: a branch as it was at one moment, the oldest message first."""

    title: str
    revision: int
    message_count: int
    created_at: datetime = Field(description="When this revision was made.")
    items: list[SharedMessage]
    next_cursor: str | None
    revisions: list[SharedRevision] | None = Field(
        default=None, description="All that can be read, the oldest first; on the first page only."
    )
