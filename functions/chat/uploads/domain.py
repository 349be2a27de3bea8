"""Rules of attachments: which files a message may carry, and what a model is shown of them. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal, NamedTuple, get_args

from shared.file_types import MAGIC_BYTES, file_type
from shared.texts import JOINERS, is_unseen, shows_something

MAX_ATTACHMENTS = 10
"""Of one message."""
MAX_OPEN = 50
"""Of one user: uploads that no message has used yet. Each may lie in the bucket for a day."""
OPEN_FOR = timedelta(days=1)
"""How long an upload waits for its first use; then the bucket has deleted it."""
NAME_CHARS = 200

_KIB = 1024
MAX_IMAGE_BYTES = 10 * _KIB * _KIB
MAX_PDF_BYTES = 20 * _KIB * _KIB
MAX_TEXT_BYTES = 256 * _KIB

PDF_PLUGINS: tuple[Mapping[str, Any], ...] = ({"id": "file-parser", "pdf": {"engine": "pdf-text"}},)
"""What a request with a PDF says in `plugins`: the engine that costs nothing. Left out, OpenRouter takes what the model
brings, or one that costs by the page and that no bound of ours would cover
(https://openrouter.ai/docs/guides/overview/multimodal/pdfs)."""

ImageType = Literal["image/png", "image/jpeg", "image/webp", "image/gif"]
PdfType = Literal["application/pdf"]
TextType = Literal[
    "text/plain",
    "text/markdown",
    "text/csv",
    "text/tab-separated-values",
    "text/html",
    "text/css",
    "text/xml",
    "text/yaml",
    "text/javascript",
    "text/x-c",
    "text/x-c++",
    "text/x-csharp",
    "text/x-go",
    "text/x-java",
    "text/x-kotlin",
    "text/x-log",
    "text/x-php",
    "text/x-python",
    "text/x-ruby",
    "text/x-rust",
    "text/x-sh",
    "text/x-sql",
    "text/x-swift",
    "text/x-toml",
    "text/x-typescript",
    "application/json",
    "application/xml",
    "application/yaml",
]
ContentType = Literal[ImageType, PdfType, TextType]
Kind = Literal["image", "file"]

_IMAGE_TYPES: frozenset[str] = frozenset(get_args(ImageType))
_TEXT_TYPES: frozenset[str] = frozenset(get_args(TextType))
_PDF: str = get_args(PdfType)[0]


class State(StrEnum):
    """What has become of an upload."""

    OPEN = "open"
    """A link was given; whether anything was put there shows when a message uses it."""
    KEPT = "kept"
    """A message used it: it was looked at, and stays as long as the conversation."""
    REMOVED = "removed"
    """Taken away before its link was over: remembered until then, because something may still come through it."""


@dataclass(frozen=True)
class Attachment:
    """A file as messages name it. `conversation_id`: where it was first used; None before that."""

    id: str
    name: str
    content_type: str
    size_bytes: int
    kind: Kind
    conversation_id: str | None


@dataclass(frozen=True)
class Upload:
    """An attachment as it is stored. `link_ends_at` and `expires_at` are those of uploads that no message used."""

    id: str
    name: str
    content_type: str
    size_bytes: int
    state: State
    conversation_id: str | None
    created_at: datetime
    link_ends_at: datetime | None = None
    expires_at: datetime | None = None

    @property
    def attachment(self) -> Attachment:
        return Attachment(
            id=self.id,
            name=self.name,
            content_type=self.content_type,
            size_bytes=self.size_bytes,
            kind=kind_of(self.content_type),
            conversation_id=self.conversation_id,
        )


class PromptBound(NamedTuple):
    """What attachments can add to a prompt at most."""

    text_bytes: int
    """Of texts; no tokenizer in use makes more tokens than a text has bytes."""
    images: int
    """What each counts as depends on the model."""
    whole_context: bool
    """Whether only the model's context bounds it: nobody knows how much text a PDF holds."""


def kind_of(content_type: str) -> Kind:
    return "image" if content_type in _IMAGE_TYPES else "file"


def is_text(content_type: str) -> bool:
    return content_type in _TEXT_TYPES


def max_bytes(content_type: str) -> int:
    if content_type in _IMAGE_TYPES:
        return MAX_IMAGE_BYTES
    return MAX_PDF_BYTES if content_type == _PDF else MAX_TEXT_BYTES


def as_file_name(text: str) -> str:
    """A file's name as it is shown: one visible line without folders. Raises ValueError saying what is wrong."""
    name = unicodedata.normalize("NFC", text).strip()
    if not 1 <= len(name) <= NAME_CHARS:
        raise ValueError(f"must have 1 to {NAME_CHARS} characters")
    if "/" in name or "\\" in name or not name.strip("."):
        raise ValueError("must be the name of a file, without folders")
    if any(is_unseen(character) and character not in JOINERS for character in name) or not shows_something(name):
        raise ValueError("must not hold control characters or other invisible ones")
    return name


def bytes_to_look_at(content_type: str) -> int:
    """How much of a file `flaw` needs: texts are read as a whole."""
    return MAX_TEXT_BYTES if is_text(content_type) else MAGIC_BYTES


def flaw(said: Upload, *, content_type: str, size_bytes: int, content: bytes) -> str | None:
    """What is wrong with a file that was put, as the end of a sentence; None when it is what it was said to be.

    `content_type` and `size_bytes` are what the bucket has; of `content` as much is needed as `bytes_to_look_at` says.
    """
    if (content_type, size_bytes) != (said.content_type, said.size_bytes):
        return f"is not the file of {said.size_bytes} bytes and type {said.content_type} that it was said to be"
    if is_text(said.content_type):
        return None if _is_plain_text(content) else f"is not the {said.content_type} in UTF-8 that it was said to be"
    if file_type(content[:MAGIC_BYTES]) != said.content_type:
        return f"is not the {said.content_type} that it was said to be"
    return None


def as_text(content: bytes) -> str:
    """The text of a file that `flaw` has found to be one."""
    return content.decode("utf-8-sig")


def shown_text(name: str, text: str) -> str:
    """A text file as a model reads it."""
    return f"[File: {name}]\n{text}\n[End of file: {name}]"


def gone_text(name: str) -> str:
    """What a model reads in the place of an attachment that was removed since."""
    return f"[{name}: no longer available]"


def prompt_bound(attachments: Sequence[Attachment]) -> PromptBound:
    """What the attachments can add to a prompt at most, whether they are still there or not."""
    text_bytes = images = 0
    whole_context = False
    for attachment in attachments:
        if attachment.kind == "image":
            images += 1
        elif is_text(attachment.content_type):
            shown = len(shown_text(attachment.name, "").encode()) + attachment.size_bytes
            text_bytes += max(shown, len(gone_text(attachment.name).encode()))
        else:
            whole_context = True
    return PromptBound(text_bytes, images, whole_context)


def _is_plain_text(content: bytes) -> bool:
    """UTF-8 without NUL that does not begin like a file of another kind, some of which could be read as text too."""
    if b"\0" in content or file_type(content[:MAGIC_BYTES]) is not None:
        return False
    try:
        as_text(content)
    except UnicodeDecodeError:
        return False
    return True
