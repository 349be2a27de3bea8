"""Reading one document on a request's way in: with little patience, because everything waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.api_core import exceptions as google_errors
from google.api_core.retry import Retry, if_exception_type

from shared import store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from google.cloud.firestore import DocumentReference

_TIMEOUT_S = 5.0
# The library's own retry goes on for five minutes while nobody listens at the database's address.
_RETRY = Retry(
    predicate=if_exception_type(google_errors.ServiceUnavailable, google_errors.InternalServerError),
    initial=0.1,
    maximum=0.5,
    timeout=_TIMEOUT_S,
)


def find(reference: DocumentReference, fields: Iterable[str] | None = None) -> dict[str, Any] | None:
    """The document's fields, or those of them that are named; None when there is no document. Raises Unavailable."""
    with store.translated_errors():
        snapshot = reference.get(field_paths=fields, timeout=_TIMEOUT_S, retry=_RETRY)
    return snapshot.to_dict() if snapshot.exists else None
