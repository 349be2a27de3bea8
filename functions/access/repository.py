"""Every Firestore path of API keys, sessions and what keys have spent.

    api_keys/{sha256 of the key}          sessions/{sha256 of the cookie}          key_usage/{budget}:{month}

`shared.identity` reads the first two on every request's way in; everything is written here, except when a credential
was used last.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from functions.access.domain import USAGE_REMEMBERED, Key, Session, month_of
from shared import store
from shared.clients import firestore_client
from shared.identity import documents, keys, sessions
from shared.store import READING, LastUpdateOption

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from google.cloud.firestore import DocumentSnapshot

    Snapshot = DocumentSnapshot[Any]

_MOST = 1000
"""More documents of one user than the limits on live ones leave room for."""
_NOT_STORED = {"digest", "version"}


def find_key(uid: str, key_id: str) -> Key | None:
    """The user's key with this id; None also when it is somebody else's."""
    found = _query("api_keys", uid=uid, id=key_id)
    return _key_of(found[0]) if found else None


def list_keys(uid: str) -> list[Key]:
    """All but the revoked ones, the newest first."""
    found = [_key_of(snapshot) for snapshot in _query("api_keys", uid=uid, revoked_at=None)]
    return sorted(found, key=lambda key: (key.created_at, key.id), reverse=True)


def add_key(batch: store.Batch, key: Key) -> None:
    batch.create(keys.reference(key.digest), {**_document(key), "forgotten_at": key.forgotten_at})


def change_key(batch: store.Batch, before: Key, after: Key) -> None:
    """The batch fails when the key has changed since it was read."""
    changes = _changes(_document(before), _document(after)) | {"forgotten_at": after.forgotten_at}
    batch.update(keys.reference(before.digest), changes, option=LastUpdateOption(before.version))


def find_session(uid: str, session_id: str) -> Session | None:
    """The user's session with this id; None also when it is somebody else's."""
    found = _query("sessions", uid=uid, id=session_id)
    return _session_of(found[0]) if found else None


def list_sessions(uid: str) -> list[Session]:
    """All but the revoked ones, the newest first."""
    found = [_session_of(snapshot) for snapshot in _query("sessions", uid=uid, revoked_at=None)]
    return sorted(found, key=lambda session: (session.created_at, session.id), reverse=True)


def add_session(batch: store.Batch, session: Session) -> None:
    batch.create(sessions.reference(session.digest), _document(session))


def end_session(batch: store.Batch, session: Session, at: datetime) -> None:
    """The batch fails when the session has changed since it was read."""
    batch.update(sessions.reference(session.digest), {"revoked_at": at}, option=LastUpdateOption(session.version))


def add_spending(batch: store.Batch, *, uid: str, budget_id: str, micro: int, at: datetime) -> None:
    document = {
        "uid": uid,
        "budget_id": budget_id,
        "month": month_of(at),
        "spent_micro": store.Increment(micro),
        "updated_at": at,
        "expires_at": at + USAGE_REMEMBERED,
    }
    batch.set(_usage(budget_id, month_of(at)), document, merge=True)


def read_spent_micro(budget_id: str, month: str) -> int:
    document = documents.find(_usage(budget_id, month))
    return document["spent_micro"] if document else 0


def read_all_spent_micro(budget_ids: Iterable[str], month: str) -> dict[str, int]:
    """What each budget has spent in the month; those that spent nothing are left out."""
    references = [_usage(budget_id, month) for budget_id in set(budget_ids)]
    if not references:
        return {}
    found = [each.fields for each in store.start_reading(references).result() if each]
    return {fields["budget_id"]: fields["spent_micro"] for fields in found}


def _usage(budget_id: str, month: str) -> store.Reference:
    return store.document("key_usage", f"{budget_id}:{month}")


def _query(collection: str, **equal: str | None) -> list[Snapshot]:
    query: Any = firestore_client().collection(collection)
    for name, value in equal.items():
        query = query.where(filter=store.field_filter(name, "==", value))
    with store.translated_errors():
        return list(query.limit(_MOST).stream(**READING))


def _document(stored: Key | Session) -> dict[str, Any]:
    return {name: _plain(value) for name, value in asdict(stored).items() if name not in _NOT_STORED}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in after.items() if value != before[name]}


def _key_of(snapshot: Snapshot) -> Key:
    fields = _fields(snapshot)
    models = fields.pop("allowed_models")
    del fields["forgotten_at"]
    return Key(
        **fields | {"scopes": tuple(fields["scopes"])},
        allowed_models=None if models is None else tuple(models),
        digest=snapshot.id,
        version=snapshot.update_time,
    )


def _session_of(snapshot: Snapshot) -> Session:
    return Session(**_fields(snapshot), digest=snapshot.id, version=snapshot.update_time)


def _fields(snapshot: Snapshot) -> dict[str, Any]:
    return snapshot.to_dict() or {}
