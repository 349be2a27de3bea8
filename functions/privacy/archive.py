"""The archive that users take away: a ZIP of JSON files, written from its beginning to its end.

Nothing is held in memory but the document at hand, so its size does not matter; where it goes need not be seekable.
"""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import zipfile
from contextlib import contextmanager
from datetime import datetime
from io import TextIOWrapper
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from shared.holdings import Documents

    Found = tuple[tuple[str, ...], dict[str, Any]]

_COPY_BYTES = 256 * 1024

_README = """\
Your data
=========

This is everything the service holds about the account {uid}, as it was between {begun_at} and
{ended_at} (UTC). Work that was going on meanwhile may be in one file and not yet in another.

The files are JSON (https://www.json.org), which every text editor shows. In them

- a time is written as 2026-01-31T12:00:00+00:00 (ISO 8601) and is in UTC,
- a number whose name ends in _micro is in millionths of a credit; 1000 credits are one US dollar before the mark-up,
- a number whose name ends in _pico_usd is in millionths of a millionth of a US dollar,
- "id" is the name of a thing; what belongs to it is listed inside it.

Messages of a conversation form a tree: "parent_id" names the message that one answers.
Entries of activity.json form a chain: each holds the hash of the one before it, so that nobody can change the log
unnoticed.

Passwords, keys and session cookies are not here: what we keep of them cannot be turned back into them.

{files}
"""


class ArchiveWriter:
    """Writes the archive into `out`, counting its bytes and hashing them on the way.

    As a context manager it ends the archive; after an exception it leaves it unfinished.
    """

    def __init__(self, out: BinaryIO, *, on_document: Callable[[], None]) -> None:
        self._out = _Measured(out)
        self._zip = zipfile.ZipFile(cast("IO[bytes]", self._out), "w", zipfile.ZIP_DEFLATED)
        self._on_document = on_document
        self._contents: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._zip.close()
        else:
            self._zip.fp = None  # or it would write its table into a stream that is gone when it is collected

    @property
    def size_bytes(self) -> int:
        return self._out.size_bytes

    @property
    def sha256(self) -> str:
        return self._out.digest.hexdigest()

    def add_documents(self, holding: Documents, documents: Iterable[Found]) -> None:
        """The documents in the order of their paths: in one file, or each of the collection's in its own."""
        assert holding.archive is not None, "left out of the archive"
        reader = _Reader(documents)
        if "{id}" not in holding.archive:
            with self._file(holding.archive) as file:
                count = (
                    self._one(file, holding, reader) if holding.is_one_document else self._all(file, holding, reader)
                )
            self._contents.append(f"{holding.archive}: {_counted(count)}")
            return
        files = count = 0
        while reader.head is not None:
            name = holding.archive.format(id=quote(reader.head[0][0], safe=""))
            with self._file(name) as file:
                count += self._document(file, holding, reader, 0)
            files += 1
        self._contents.append(f"{holding.archive.format(id='…')}: {files} files, {_counted(count)}")

    def add_object(self, name: str, value: dict[str, Any] | None) -> None:
        with self._file(name) as file:
            file.write(_dump(value))
        self._contents.append(name)

    def add_file(self, name: str, content: BinaryIO) -> None:
        with self._zip.open(name, "w", force_zip64=True) as file:
            shutil.copyfileobj(content, file, _COPY_BYTES)
        self._contents.append(name)

    def add_readme(self, *, uid: str, begun_at: datetime, ended_at: datetime) -> None:
        """Last, because it lists what is there."""
        text = _README.format(
            uid=uid,
            begun_at=begun_at.isoformat(timespec="seconds"),
            ended_at=ended_at.isoformat(timespec="seconds"),
            files="\n".join(self._contents),
        )
        with self._file("README.txt") as file:
            file.write(text)

    @contextmanager
    def _file(self, name: str) -> Iterator[TextIOWrapper]:
        with self._zip.open(name, "w", force_zip64=True) as raw, TextIOWrapper(raw, encoding="utf-8") as text:
            yield text

    def _one(self, file: TextIOWrapper, holding: Documents, reader: _Reader) -> int:
        if reader.head is None:
            file.write("null")
            return 0
        return self._document(file, holding, reader, 0)

    def _all(self, file: TextIOWrapper, holding: Documents, reader: _Reader) -> int:
        return self._list(file, holding, reader, ())

    def _list(self, file: TextIOWrapper, holding: Documents, reader: _Reader, place: tuple[str, ...]) -> int:
        """All that stands below `place`, a collection."""
        count = 0
        file.write("[")
        while reader.is_below(place):
            file.write(",\n" if count else "\n")
            count += self._document(file, holding, reader, len(place))
        file.write("]")
        return count

    def _document(self, file: TextIOWrapper, holding: Documents, reader: _Reader, depth: int) -> int:
        """The document whose id is at `depth` of the next path, with all below it; it need not be there itself."""
        path, fields = reader.next_path[: depth + 1], {}
        count = 0
        if reader.next_path == path:
            fields = reader.take()
            count = 1
            self._on_document()
        shown = {name: value for name, value in fields.items() if name not in holding.secret_fields}
        named = shown if holding.secret_id else {"id": path[-1], **shown}
        parts = [_dump(named)[1:-1]] if named else []
        file.write("{" + "".join(parts))
        separator = ", " if parts else ""
        while reader.is_below(path):
            collection = reader.next_path[depth + 1]
            # A list beside a field of the same name must not hide it from those who read the file.
            label = collection if collection not in named else f"{collection}/"
            file.write(f"{separator}{json.dumps(label)}: ")
            count += self._list(file, holding, reader, (*path, collection))
            separator = ", "
        file.write("}")
        return count


class _Reader:
    """The documents, with a look at the next one."""

    def __init__(self, documents: Iterable[Found]) -> None:
        self._rest = iter(documents)
        self.head = next(self._rest, None)

    @property
    def next_path(self) -> tuple[str, ...]:
        assert self.head is not None, "there is a next document"
        return self.head[0]

    def is_below(self, place: tuple[str, ...]) -> bool:
        return self.head is not None and len(self.head[0]) > len(place) and self.head[0][: len(place)] == place

    def take(self) -> dict[str, Any]:
        assert self.head is not None, "there is a next document"
        fields = self.head[1]
        self.head = next(self._rest, None)
        return fields


class _Measured:
    """A stream that is only written to, with what has gone through it. To write, an archive needs no more of a file."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self.size_bytes = 0
        self.digest = hashlib.sha256()

    def write(self, data: Any) -> int:
        self._out.write(data)
        self.digest.update(data)
        size = memoryview(data).nbytes
        self.size_bytes += size
        return size

    def flush(self) -> None:
        """What is buffered goes out when the archive ends."""


def _counted(count: int) -> str:
    return f"{count} entry" if count == 1 else f"{count} entries"


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON does not know, as text or a list."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if hasattr(value, "to_map_value"):  # a Vector of Firestore
        return list(value)
    return str(value)
