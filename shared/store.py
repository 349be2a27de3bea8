"""The unit of work: one Firestore batch that several capabilities add their writes to and one of them commits.

A batch is atomic: a `create` of a document that exists, or an update with a stale precondition, refuses the whole of
it. That is what makes operations happen exactly once without transactions on busy documents.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry, if_exception_type

from shared.clients import firestore_client
from shared.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from google.cloud.firestore import WriteBatch
    from google.cloud.firestore_v1.types import WriteResult

_PATIENCE_S = 10.0


def _patience(*retried: type[Exception]) -> dict[str, Any]:
    """How long a call may take with its repetitions: the library's own go on for minutes, `timeout` is for each one."""
    retry = Retry(predicate=if_exception_type(*retried), initial=0.1, maximum=1.0, timeout=_PATIENCE_S)
    return {"timeout": _PATIENCE_S, "retry": retry}


READING: Mapping[str, Any] = _patience(
    google_errors.ServiceUnavailable, google_errors.InternalServerError, google_errors.TooManyRequests
)
"""What every read is called with."""
_COMMITTING: Mapping[str, Any] = _patience(google_errors.ServiceUnavailable, google_errors.TooManyRequests)
COMMIT_ATTEMPTS = 6
CONTENTION_PAUSE_S = 0.05


class AlreadyExists(Exception):
    """A document that the batch wanted to create is there: somebody, perhaps this same request, was first."""


class StaleWrite(Exception):
    """A document changed since it was read, or is not there to be updated."""


class WriteRefused(Exception):
    """Firestore will never take this batch: a document is too large, or holds what it cannot store."""


def new_batch() -> WriteBatch:
    return firestore_client().batch()


def commit(batch: WriteBatch) -> Sequence[WriteResult]:
    """Commit once. Raises AlreadyExists, StaleWrite, WriteRefused, or Unavailable when Firestore is out of reach.

    Under contention Firestore gives a commit up without applying any of it; that one is tried again after a pause.
    """
    with translated_errors():
        for attempt in range(1, COMMIT_ATTEMPTS):
            try:
                return batch.commit(**_COMMITTING)
            except google_errors.Aborted:
                time.sleep(random.uniform(0, CONTENTION_PAUSE_S * attempt))  # noqa: S311  # spreads the contenders
        return batch.commit(**_COMMITTING)


@contextmanager
def translated_errors() -> Iterator[None]:
    """Turn Google's errors into this module's and into `shared.errors.Unavailable`."""
    try:
        yield
    except google_errors.AlreadyExists as error:
        raise AlreadyExists(str(error)) from error
    except (google_errors.FailedPrecondition, google_errors.NotFound) as error:
        raise StaleWrite(str(error)) from error
    except google_errors.InvalidArgument as error:
        raise WriteRefused(str(error)) from error
    except (
        google_errors.Aborted,  # too much contention on a document: nothing was written
        google_errors.ServerError,
        google_errors.TooManyRequests,
        google_errors.RetryError,
    ) as error:
        raise Unavailable("The database did not answer in time; try again.", retry_after_s=1) from error
