"""Bodies and answers of the folder routes."""

from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, Field

from functions.chat.folders.domain import MAX_NAME_CHARS
from shared.http.schema import Body, Schema
from shared.texts import JOINERS, is_unseen, shows_something


def _seen(value: str) -> str:
    name = " ".join(value.split())
    if any(is_unseen(character) and character not in JOINERS for character in name) or not shows_something(name):
        raise ValueError("must not be empty, and must not hold invisible characters")
    return name


Name = Annotated[
    str,
    Field(min_length=1, max_length=MAX_NAME_CHARS, description="Unique among the folders of its user, in any case."),
    AfterValidator(_seen),
]
Position = Annotated[
    int, Field(ge=0, le=1_000_000, description="Folders are listed by it; those of the same one by name.")
]


class CreateFolder(Body):
    name: Name
    position: Position | None = Field(default=None, description="Behind all others when absent.")


class ChangeFolder(Body):
    """What is absent stays as it is."""

    name: Name = ""
    position: Position = 0


class FolderView(Schema):
    id: str
    name: str
    position: int
    created_at: datetime
    updated_at: datetime


class FolderList(Schema):
    """All of them: there are never more than 200."""

    items: list[FolderView]
