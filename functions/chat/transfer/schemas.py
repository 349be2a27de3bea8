"""Bodies and answers of export and import."""

from typing import Literal

from pydantic import Field

from shared.http.schema import Schema


class ExportQuery(Schema):
    format: Literal["json", "markdown"] = Field(
        default="json",
        description="`json`: all branches, to be imported again. `markdown`: the branch in use, to be read.",
    )


class ExportAllQuery(Schema):
    format: Literal["json"] = "json"


class ImportedConversation(Schema):
    conversation_id: str
    title: str
    message_count: int


class SkippedConversation(Schema):
    place: str = Field(description="Where in the file: `[3]`.")
    title: str | None
    reason: str


class ImportProblem(Schema):
    """Something in the file that was not taken as it is."""

    place: str = Field(description="Where in the file: `[3].mapping.abc.message.content.parts[0]`.")
    message: str


class ImportAnswer(Schema):
    """What became of a file. Lists are bounded, the counts are not."""

    imported: list[ImportedConversation]
    skipped: list[SkippedConversation]
    problems: list[ImportProblem]
    imported_count: int
    skipped_count: int
    problem_count: int
    more: bool = Field(
        description="One request takes in no more; send the same file again to go on with the rest of it."
    )
