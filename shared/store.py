"""The unit of work: one Firestore batch that several capabilities add their writes to and one of them commits.

A batch is atomic: a `create` of a document that exists, or an update with a stale precondition, refuses the whole of
it. That is what makes operations happen exactly once without transactions on busy documents.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from google.api_core import exceptions as google_errors

from shared.clients import firestore_client
from shared.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.cloud.firestore import WriteBatch
    from google.cloud.firestore_v1.types import WriteResult

COMMIT_TIMEOUT_S = 10.0
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
                return batch.commit(timeout=COMMIT_TIMEOUT_S)
            except google_errors.Aborted:
                time.sleep(random.uniform(0, CONTENTION_PAUSE_S * attempt))  # noqa: S311  # spreads the contenders
        return batch.commit(timeout=COMMIT_TIMEOUT_S)


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
