"""Query and answers of content search."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from shared.http.schema import Schema
from shared.ids import is_safe_id

MAX_QUERY_CHARS = 200


def _id(value: str) -> str:
    if not is_safe_id(value):
        raise ValueError("is not an id")
    return value


class SearchQuery(Schema):
    q: Annotated[str, Field(min_length=1, max_length=MAX_QUERY_CHARS)] = Field(
        description='Words that must all be there; "in quotes": next to each other. The last word, when it is not '
        "quoted, may be the beginning of one: from three letters on."
    )
    limit: Annotated[int, Field(ge=1, le=50)] = 20
    cursor: Annotated[str, Field(max_length=200)] | None = None
    role: Literal["user", "assistant"] | None = Field(
        default=None, description="Only what one of the two said; without it titles are found too."
    )
    folder_id: Annotated[str, AfterValidator(_id)] | None = None


class Hit(Schema):
    """A message, or a title, that holds what was asked for."""

    conversation_id: str
    title: str
    state: str = Field(description="Of the conversation: `active` or `archived`.")
    message_id: str | None = Field(description="None: the title itself.")
    role: str | None
    snippet: str = Field(description="Plain text around the first match, at most 160 characters.")
    matches: list[tuple[int, int]] = Field(
        description="Where the matches are in the snippet: first character and the one after the last, counted in "
        "Unicode characters."
    )
    at: datetime = Field(description="When the message was written.")


class SearchPage(Schema):
    """The newest first. One request looks at a bounded number of candidates: a page may hold less than its limit, even
    nothing, and still have a `next_cursor` with which the search goes on. It has ended when there is none.
    """

    items: list[Hit]
    next_cursor: str | None
