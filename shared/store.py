"""The unit of work: one Firestore batch that several capabilities add their writes to and one of them commits.

A batch is atomic: a `create` of a document that exists, or an update with a stale precondition, refuses the whole of
it. That is what makes operations happen exactly once without transactions on busy documents.

Beside it stands the reading of single documents. Both go below the client library (`shared.firestore_wire`), because a
request does little else; queries and transactions are the library's, called with `READING` in `translated_errors`.
References and field values of either kind serve for both.
"""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from shared import firestore_wire as wire
from shared.clients import firestore_channel, firestore_database
from shared.errors import Unavailable
from shared.firestore_wire import (
    DELETE_FIELD,
    SERVER_TIMESTAMP,
    AnyReference,
    ArrayRemove,
    ArrayUnion,
    Increment,
    LastUpdateOption,
    Maximum,
    Minimum,
    Reference,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from google.cloud.firestore import FieldFilter

    from shared.firestore_channel import Exchange

__all__ = [
    "DELETE_FIELD",
    "READING",
    "SERVER_TIMESTAMP",
    "AlreadyExists",
    "ArrayRemove",
    "ArrayUnion",
    "Batch",
    "Increment",
    "LastUpdateOption",
    "Maximum",
    "Minimum",
    "Reference",
    "Snapshot",
    "StaleWrite",
    "WriteRefused",
    "WriteResult",
    "commit",
    "commit_patiently",
    "document",
    "field_filter",
    "new_batch",
    "read",
    "start_committing",
    "start_reading",
    "translated_errors",
]

PATIENCE_S = 10.0
"""How long a call may take with its repetitions."""
COMMIT_ATTEMPTS = 6
CONTENTION_PAUSE_S = 0.05
PATIENT_PAUSES_S = (0.2, 0.6, 1.5)
_NEVER_SET = "untouched"
"""A field that no document has: removing it changes nothing of a document, and fails when there is none."""
_READS_RETRIED = frozenset({"UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED"})
_COMMITS_RETRIED = frozenset({"UNAVAILABLE", "RESOURCE_EXHAUSTED"})
_OUT_OF_REACH = {
    "ABORTED",  # too much contention on a document: nothing was written
    "DATA_LOSS",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "UNIMPLEMENTED",
    "UNKNOWN",
}


class AlreadyExists(Exception):
    """A document that the batch wanted to create is there: somebody, perhaps this same request, was first."""


class StaleWrite(Exception):
    """A document changed since it was read, or is not there to be updated."""


class WriteRefused(Exception):
    """Firestore will never take this batch: a document is too large, or holds what it cannot store."""


@dataclass(frozen=True)
class WriteResult:
    """What became of one write of a batch."""

    update_time: datetime
    transform_results: tuple[Any, ...]
    """What the fields that Firestore computed hold now, in the order of their paths."""


@dataclass(frozen=True)
class Snapshot:
    """A document that is there, as it was read."""

    reference: Reference
    fields: dict[str, Any]
    create_time: datetime
    update_time: datetime

    @property
    def id(self) -> str:
        return self.reference.id

    def to_dict(self) -> dict[str, Any]:
        return self.fields


def document(*segments: str) -> Reference:
    """Where a document is: `document("users", uid)`. Raises ValueError for what names no document."""
    return Reference(firestore_database(), *segments)


# --- writing ---------------------------------------------------------------------------------------------------------


class Batch:
    """Writes that happen together or not at all. One database, and committed once; for one thread at a time.

    Every method raises TypeError or ValueError for what cannot be stored, and then adds nothing.
    """

    def __init__(self) -> None:
        self.request = wire.MESSAGES["CommitRequest"]()

    def __len__(self) -> int:
        return len(self.request.writes)

    def create(self, reference: AnyReference, fields: Mapping[str, Any]) -> None:
        """Make a document; the batch fails with AlreadyExists when it is there."""
        with self._write(reference) as write:
            wire.put_creation(write, reference._document_path, fields)  # noqa: SLF001  # the library's name for it

    def set(self, reference: AnyReference, fields: Mapping[str, Any], *, merge: bool = False) -> None:
        """Make or replace a document; with `merge` only change the fields that are named, to any depth."""
        put = wire.put_merge if merge else wire.put_replacement
        with self._write(reference) as write:
            put(write, reference._document_path, fields)  # noqa: SLF001  # the library's name for it

    def update(self, reference: AnyReference, changes: Mapping[str, Any], option: Any = None) -> None:
        """Change fields, named by their paths (`usage.total`); a map among them replaces the one that is there.

        The batch fails with StaleWrite when the document is not there, or with a LastUpdateOption when it changed.
        """
        with self._write(reference) as write:
            wire.put_update(write, reference._document_path, changes, option)  # noqa: SLF001  # the library's name

    def delete(self, reference: AnyReference, option: Any = None) -> None:
        """Remove a document, if it is there; with a LastUpdateOption the batch fails when it changed."""
        with self._write(reference) as write:
            wire.put_deletion(write, reference._document_path, option)  # noqa: SLF001  # the library's name for it

    def require(self, reference: AnyReference) -> None:
        """Change nothing of a document; the batch fails with StaleWrite when it is not there."""
        self.update(reference, {_NEVER_SET: DELETE_FIELD})

    @contextmanager
    def _write(self, reference: AnyReference) -> Iterator[Any]:
        writes = self.request.writes
        write = writes.add()
        try:
            yield write
        except BaseException:
            del writes[-1]
            raise
        if not self.request.database:
            self.request.database = _database_of(reference)


class Writes(Protocol):
    """What writes are added to: a `Batch`, or a transaction of the library, which has the same methods."""

    def create(self, reference: Any, fields: Any, /) -> None: ...
    def update(self, reference: Any, changes: Any, /) -> None: ...


class Committing:
    """A commit that was begun. It may happen also when nobody waits for it."""

    def __init__(self, batch: Batch, *, at_once: bool) -> None:
        channel = firestore_channel()
        self._request = batch.request
        if not self._request.database:  # of a batch without writes
            self._request.database = firestore_database()
        self._begin = channel.start_commit if at_once else channel.commit
        self._exchange = self._ask()

    def result(self) -> list[WriteResult]:
        """Wait for its end, once. Raises AlreadyExists, StaleWrite, WriteRefused, Unavailable.

        Under contention Firestore gives a commit up without applying any of it; that one is tried again after a pause.
        """
        with translated_errors():
            [answer] = self._answers()
        return [_write_result(each) for each in answer.write_results]

    def _answers(self) -> Sequence[Any]:
        from shared.firestore_channel import RpcError, status_of

        for attempt in range(1, COMMIT_ATTEMPTS):
            try:
                return self._exchange.messages()
            except RpcError as error:
                if status_of(error) != "ABORTED":
                    raise
            time.sleep(random.uniform(0, CONTENTION_PAUSE_S * attempt))  # noqa: S311  # spreads the contenders
            self._exchange = self._ask()
        return self._exchange.messages()

    def _ask(self) -> Exchange:
        from shared.firestore_channel import Exchange

        return Exchange(
            lambda timeout_s: self._begin(self._request, timeout_s), retried=_COMMITS_RETRIED, patience_s=PATIENCE_S
        )


def new_batch() -> Batch:
    return Batch()


def commit(batch: Batch) -> list[WriteResult]:
    """Commit once. Raises AlreadyExists, StaleWrite, WriteRefused, or Unavailable when Firestore is out of reach."""
    return Committing(batch, at_once=False).result()


def commit_patiently(make: Callable[[], Batch]) -> None:
    """Commit what `make` gives, again after pauses while Firestore is out of reach: a paid answer is worth waiting for.

    Raises as `commit` does. When only the answer to an attempt was lost, the next may raise AlreadyExists.
    """
    for pause_s in PATIENT_PAUSES_S:
        try:
            commit(make())
        except Unavailable:
            time.sleep(pause_s)
        else:
            return
    commit(make())


def start_committing(batch: Batch) -> Committing:
    """Send the batch off; what it did is heard from `result`. Nothing may be added to it any more."""
    return Committing(batch, at_once=True)


# --- reading ---------------------------------------------------------------------------------------------------------


class Reading:
    """Documents that were asked for, all in one request."""

    def __init__(self, references: Sequence[AnyReference], fields: Iterable[str] | None, patience_s: float) -> None:
        from shared.firestore_channel import Exchange

        channel = firestore_channel()
        self._paths = [reference._document_path for reference in references]  # noqa: SLF001  # the library's name
        request = wire.read_request(_database_of(references[0]), list(dict.fromkeys(self._paths)), fields)
        self._exchange = Exchange(
            lambda timeout_s: channel.start_reading(request, timeout_s), retried=_READS_RETRIED, patience_s=patience_s
        )

    def result(self) -> list[Snapshot | None]:
        """Wait for them, once: in the order they were asked for, None for what is not there. Raises Unavailable."""
        with translated_errors():
            answers = self._exchange.messages()
        found = {
            answer.found.name: _snapshot(answer.found) for answer in answers if answer.WhichOneof("result") == "found"
        }
        return [found.get(path) for path in self._paths]


def start_reading(
    references: Sequence[AnyReference], *, fields: Iterable[str] | None = None, patience_s: float = PATIENCE_S
) -> Reading:
    """Ask for documents, at least one; all are read at the same moment. `fields` are the only ones to be read."""
    return Reading(references, fields, patience_s)


def read(
    reference: AnyReference, *, fields: Iterable[str] | None = None, patience_s: float = PATIENCE_S
) -> Snapshot | None:
    """The document, or None when it is not there. Raises Unavailable."""
    return start_reading([reference], fields=fields, patience_s=patience_s).result()[0]


class _LibraryPatience(Mapping[str, Any]):
    """Made when it is first used: the library's retries take long to import."""

    @cached_property
    def _arguments(self) -> dict[str, Any]:
        """The library's own retries go on for minutes; its `timeout` is for each of them."""
        from google.api_core import exceptions
        from google.api_core.retry import Retry, if_exception_type

        retried = if_exception_type(
            exceptions.ServiceUnavailable, exceptions.InternalServerError, exceptions.TooManyRequests
        )
        return {"timeout": PATIENCE_S, "retry": Retry(retried, initial=0.1, maximum=1.0, timeout=PATIENCE_S)}

    def __getitem__(self, name: str) -> Any:
        return self._arguments[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arguments)

    def __len__(self) -> int:
        return len(self._arguments)


READING: Mapping[str, Any] = _LibraryPatience()
"""What every read through the library is called with."""


def field_filter(path: str, operator: str, value: Any) -> FieldFilter:
    """A condition of a query of the library's."""
    from google.cloud.firestore import FieldFilter

    return FieldFilter(path, operator, value)


# --- errors ----------------------------------------------------------------------------------------------------------


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn gRPC's errors and those of Google's library into this module's and into `shared.errors.Unavailable`."""
    try:
        yield
    except Exception as error:
        translated = _translated(error)
        if translated is None:
            raise
        raise translated from error


def _translated(error: Exception) -> Exception | None:
    status, details = _status_of(error)
    if status == "ALREADY_EXISTS":
        return AlreadyExists(details)
    if status in ("FAILED_PRECONDITION", "NOT_FOUND"):
        return StaleWrite(details)
    if status == "INVALID_ARGUMENT":
        return WriteRefused(details)
    if status in _OUT_OF_REACH:
        return Unavailable("The database did not answer in time; try again.", retry_after_s=1)
    return None


def _status_of(error: Exception) -> tuple[str | None, str]:
    """The gRPC status that an error of gRPC or of Google's library stands for, and its text; None for other errors."""
    from shared.firestore_channel import RpcError, status_of

    if isinstance(error, RpcError):
        return status_of(error), str(error.details())
    from google.api_core import exceptions

    if isinstance(error, exceptions.RetryError):
        return "UNAVAILABLE", str(error)
    status = error.grpc_status_code if isinstance(error, exceptions.GoogleAPICallError) else None
    if status is None and isinstance(error, exceptions.ServerError | exceptions.TooManyRequests):
        return "UNAVAILABLE", str(error)
    return (None if status is None else str(status.name)), str(error)


def _database_of(reference: AnyReference) -> str:
    return reference._document_path.partition("/documents/")[0]  # noqa: SLF001  # the library's name for it


def _write_result(message: Any) -> WriteResult:
    return WriteResult(
        wire.time_of(message.update_time), tuple(wire.value_of(value) for value in message.transform_results)
    )


def _snapshot(message: Any) -> Snapshot:
    return Snapshot(
        reference=wire.reference_of(message.name),
        fields=wire.fields_of(message.fields),
        create_time=wire.time_of(message.create_time),
        update_time=wire.time_of(message.update_time),
    )
