"""Answers of the activity routes."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from shared.http.schema import Schema


class ActivityQuery(Schema):
    limit: Annotated[int, Field(ge=1, le=100)] = 20
    cursor: Annotated[str, Field(max_length=200)] | None = None


class ActivityEntry(Schema):
    n: int = Field(description="Counts from 1 per user, without gaps.")
    action: str
    subject: str | None = Field(description="What it happened to; null, like details and salt, once it is erased.")
    details: dict[str, Any] | None
    salt: str | None
    occurred_at: datetime
    trace_id: str
    hash: str
    previous_hash: str
    personal_hash: str = Field(description="SHA-256 of the salt and the canonical JSON of subject and details.")


class ActivityPage(Schema):
    items: list[ActivityEntry]
    next_cursor: str | None
