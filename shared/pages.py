"""Pages of a Firestore query ordered by a time field: cursors, never offsets."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared import store
from shared.errors import FieldError, InvalidRequest
from shared.ids import can_name_a_document
from shared.store import READING

if TYPE_CHECKING:
    from google.cloud.firestore import CollectionReference, DocumentSnapshot, Query


def page(
    query: CollectionReference | Query, field: str, *, newest_first: bool, limit: int, cursor: str | None
) -> tuple[list[DocumentSnapshot[Any]], str | None]:
    """At most `limit` documents and the cursor of the next page. Ties are broken by document id.

    Raises InvalidRequest naming `cursor` when it is not one that an earlier page gave.
    """
    direction = "DESCENDING" if newest_first else "ASCENDING"
    ordered = query.order_by(field, direction=direction).order_by("__name__", direction=direction)
    if cursor is not None:
        moment, document_id = _decode(cursor)
        ordered = ordered.start_after({field: moment, "__name__": document_id})
    with store.translated_errors():
        found = list(ordered.limit(limit + 1).get(**READING))
    if len(found) <= limit:
        return found, None
    last = found[limit - 1]
    return found[:limit], cursor_after(last.get(field), last.id)


def cursor_after(moment: datetime, document_id: str) -> str:
    """The cursor of what comes behind this document, by the value of its field."""
    return base64.urlsafe_b64encode(f"{moment.isoformat()}|{document_id}".encode()).decode()


def _decode(cursor: str) -> tuple[datetime, str]:
    try:
        moment, _, document_id = base64.urlsafe_b64decode(cursor.encode()).decode().partition("|")
        decoded = datetime.fromisoformat(moment), document_id
    except ValueError as error:
        raise _unknown_cursor() from error
    if not can_name_a_document(document_id):
        raise _unknown_cursor()
    return decoded


def _unknown_cursor() -> InvalidRequest:
    problem = FieldError("cursor", "use the next_cursor of the page before, unchanged")
    return InvalidRequest("Check: cursor.", fields=[problem])
