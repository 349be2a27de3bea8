"""Reading one document on a request's way in: with little patience, because everything waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared import store

if TYPE_CHECKING:
    from collections.abc import Iterable

_PATIENCE_S = 5.0


def find(reference: store.Reference, fields: Iterable[str] | None = None) -> dict[str, Any] | None:
    """The document's fields, or those of them that are named; None when there is no document. Raises Unavailable."""
    snapshot = store.read(reference, fields=fields, patience_s=_PATIENCE_S)
    return None if snapshot is None else snapshot.fields
