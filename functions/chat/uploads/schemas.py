"""Bodies and answers of the upload routes."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from functions.chat.uploads.domain import (
    MAX_PDF_BYTES,
    NAME_CHARS,
    ContentType,
    as_file_name,
    max_bytes,
)
from shared.http.schema import Body, Schema


class UploadRequest(Body):
    """A file to be put: images of at most 10 MiB, PDFs of 20 MiB, texts in UTF-8 of 256 KiB."""

    name: Annotated[str, Field(min_length=1, max_length=2 * NAME_CHARS), AfterValidator(as_file_name)] = Field(
        description="As people and models see it: 1 to 200 characters, without folders."
    )
    content_type: ContentType
    size_bytes: Annotated[int, Field(ge=1, le=MAX_PDF_BYTES)]

    @field_validator("size_bytes")
    @classmethod
    def _fits_the_type(cls, value: int, info: ValidationInfo) -> int:
        content_type = info.data.get("content_type")
        if content_type is not None and value > max_bytes(content_type):
            raise ValueError(f"must be at most {max_bytes(content_type)} for {content_type}")
        return value


class UploadAnswer(Schema):
    """Send the file with this method to this address, with exactly these headers; then name it in a message."""

    upload_id: str
    url: str
    method: Literal["PUT"] = "PUT"
    headers: dict[str, str]
    expires_at: datetime


class AttachmentView(Schema):
    """A file that a message carries."""

    upload_id: str
    type: Literal["image", "file"]
    name: str
    content_type: str
    size_bytes: int
    url: str = Field(description="A link that is good for half an hour at least; ask again, do not keep it.")
