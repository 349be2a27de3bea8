"""Rules of folders. Pure."""

import unicodedata
from dataclasses import dataclass
from datetime import datetime

MAX_FOLDERS = 200
"""Per user."""
MAX_NAME_CHARS = 80


@dataclass(frozen=True)
class Folder:
    id: str
    name: str
    position: int
    created_at: datetime
    updated_at: datetime


def name_key(name: str) -> str:
    """The same for names that only differ in their case or in how their characters are put together."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def in_order(folder: Folder) -> tuple[int, str, str]:
    """As they are shown: by position, those of the same by name."""
    return (folder.position, name_key(folder.name), folder.id)
