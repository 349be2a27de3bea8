"""Every Firestore path and query of accounts.

users/{uid} · usernames/{name} · privacy_jobs/{id} (begun here; what then happens is not decided here)

`users/{uid}` has two writers: `shared.identity.accounts` opens it, everything later is here. What clients may change is
written with a precondition, so that a change is made to what was read or not at all; what operators change is a
transaction, because who may be demoted depends on who else is an admin. Such changes are rare, so nothing contends.
"""

from __future__ import annotations

import random
import time
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from google.api_core import exceptions as google_errors
from google.cloud import firestore
from google.cloud.firestore_v1.base_query import FieldFilter

from functions.users.domain import Avatar, Suspension, User, needs_reservation
from shared import store
from shared.clients import firestore_client
from shared.errors import Unavailable
from shared.identity.accounts import Status
from shared.identity.permissions import Role
from shared.pages import page
from shared.store import READING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from google.cloud.firestore import DocumentReference, DocumentSnapshot, Transaction

    from shared.store import Batch, Writes

    Document = Mapping[str, Any]

ResultT = TypeVar("ResultT")

_ATTEMPTS = 4
_PAUSE_S = 0.1


@dataclass(frozen=True)
class Read:
    """An account and the version it was read at, for writes that depend on it."""

    user: User
    version: Any


@dataclass(frozen=True)
class StoredPreferences:
    """The preferences as they were stored, None when nobody chose any, and when the document was written."""

    value: Document | None
    written_at: datetime


@dataclass(frozen=True)
class Job:
    """A privacy job as its user may see it."""

    id: str
    kind: str
    state: str
    created_at: datetime
    updated_at: datetime
    progress: Document
    result: Document


def _user_ref(uid: str) -> DocumentReference:
    return firestore_client().collection("users").document(uid)


def _username_ref(username: str) -> DocumentReference:
    return firestore_client().collection("usernames").document(username)


def _job_ref(job_id: str) -> DocumentReference:
    return firestore_client().collection("privacy_jobs").document(job_id)


def _get(reference: DocumentReference) -> DocumentSnapshot[Any]:
    with store.translated_errors():
        return reference.get(**READING)


# Reading


def find(uid: str) -> Read | None:
    snapshot = _get(_user_ref(uid))
    return Read(_user(snapshot), snapshot.update_time) if snapshot.exists else None


def find_by_username(username: str) -> User | None:
    query = firestore_client().collection("users").where(filter=FieldFilter("username", "==", username)).limit(1)
    with store.translated_errors():
        found = list(query.get(**READING))
    return _user(found[0]) if found else None


def list_users(
    *, role: Role | None, status: Status | None, limit: int, cursor: str | None
) -> tuple[list[User], str | None]:
    """Newest first."""
    query: Any = firestore_client().collection("users")
    for name, value in (("role", role), ("status", status)):
        if value is not None:
            query = query.where(filter=FieldFilter(name, "==", value.value))
    found, next_cursor = page(query, "created_at", newest_first=True, limit=limit, cursor=cursor)
    return [_user(snapshot) for snapshot in found], next_cursor


def find_preferences(uid: str) -> StoredPreferences | None:
    snapshot = _get(_user_ref(uid))
    if not snapshot.exists:
        return None
    return StoredPreferences((snapshot.to_dict() or {}).get("preferences"), snapshot.update_time)


def find_open_upload_end(uid: str) -> datetime | None:
    """Until when the link is good that was given last and not completed; None without one."""
    upload = (_get(_user_ref(uid)).to_dict() or {}).get("open_upload")
    return upload["until"] if upload else None


def find_job(job_id: str, transaction: Transaction | None = None) -> Job | None:
    snapshot = _get(_job_ref(job_id)) if transaction is None else _get_in(transaction, _job_ref(job_id))
    if not snapshot.exists:
        return None
    document = snapshot.to_dict() or {}
    return Job(
        id=job_id,
        kind=document["kind"],
        state=document["state"],
        created_at=document["created_at"],
        updated_at=document["updated_at"],
        progress=document.get("progress") or {},
        result=document.get("result") or {},
    )


# Writing: each adds to the caller's batch


def add_changes(batch: Batch, read: Read, changes: Document, at: datetime) -> None:
    """Change fields of the account that was read; the batch fails when it has changed since."""
    option = firestore.LastUpdateOption(read.version)
    batch.update(_user_ref(read.user.uid), {**changes, "updated_at": at}, option=option)


def add_rename(batch: Batch, user: User, username: str, at: datetime) -> None:
    """Take the name and free the old one. The batch fails with AlreadyExists when somebody has it."""
    batch.create(_username_ref(username), {"uid": user.uid, "created_at": at})
    if needs_reservation(user.username):
        batch.delete(_username_ref(user.username))


def add_preferences(batch: Batch, uid: str, preferences: Document, at: datetime) -> None:
    """Must come first in its batch: `shared.store.commit` gives the writes' times in their order."""
    batch.update(_user_ref(uid), {"preferences": dict(preferences), "updated_at": at})


def add_favourite_models(batch: Batch, uid: str, slugs: Sequence[str], read: StoredPreferences, at: datetime) -> None:
    """Change these alone of the preferences that were read; the batch fails when the account has changed since.

    Must come first in its batch, like `add_preferences`.
    """
    option = firestore.LastUpdateOption(read.written_at)
    batch.update(_user_ref(uid), {"preferences.favourite_models": list(slugs), "updated_at": at}, option=option)


def add_open_upload(batch: Batch, uid: str, upload_id: str, *, until: datetime) -> None:
    batch.update(_user_ref(uid), {"open_upload": {"id": upload_id, "until": until}})


def close_upload(batch: Batch, uid: str) -> None:
    batch.update(_user_ref(uid), {"open_upload": firestore.DELETE_FIELD})


def add_job(batch: Writes, job_id: str, kind: str, uid: str, at: datetime) -> None:
    document = {
        "kind": kind,
        "uid": uid,
        "state": "queued",
        "created_at": at,
        "updated_at": at,
        "lease_until": None,
        "progress": {"step": "queued", "done": 0, "total": 0},
        "result": None,
    }
    batch.create(_job_ref(job_id), document)


def avatar_field(avatar: Avatar | None) -> Any:
    return firestore.DELETE_FIELD if avatar is None else asdict(avatar)


# Operators


def transact(work: Callable[[Transaction], ResultT]) -> ResultT:
    """Run `work` in a transaction, again when somebody else's came first.

    Raises Unavailable when that does not end, and what `shared.store` raises.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _transact_once(work)
        except _Contended as error:
            if attempt == _ATTEMPTS:
                raise Unavailable("Somebody else is changing this account right now.", retry_after_s=1) from error
            time.sleep(random.uniform(0, _PAUSE_S * attempt))  # noqa: S311  # spreads the contenders
    raise AssertionError("the last attempt returns or raises")


def _transact_once(work: Callable[[Transaction], ResultT]) -> ResultT:
    with store.translated_errors():
        try:
            result: ResultT = firestore.transactional(work)(firestore_client().transaction(max_attempts=1))
        except google_errors.Aborted as error:
            raise _Contended from error
        except ValueError as error:
            # The library's word for a commit that was aborted; any other ValueError is not of its making.
            if isinstance(error.__cause__, google_errors.Aborted):
                raise _Contended from error
            raise
    return result


class _Contended(Exception):
    """Another transaction came first; nothing of this one was written."""


def _get_in(transaction: Transaction, reference: DocumentReference) -> DocumentSnapshot[Any]:
    return reference.get(transaction=transaction, **READING)


def find_in(transaction: Transaction, uid: str) -> User | None:
    snapshot = _get_in(transaction, _user_ref(uid))
    return _user(snapshot) if snapshot.exists else None


def is_last_admin_in(transaction: Transaction, uid: str) -> bool:
    """Whether no other admin could take over. The transaction sees to it that two do not rely on each other."""
    admins = firestore_client().collection("users").where(filter=FieldFilter("role", "==", Role.ADMIN.value))
    active = admins.where(filter=FieldFilter("status", "==", Status.ACTIVE.value)).limit(2)
    return all(snapshot.id == uid for snapshot in active.get(transaction=transaction, **READING))


def change_in(transaction: Transaction, uid: str, changes: Document, at: datetime) -> None:
    transaction.update(_user_ref(uid), {**changes, "updated_at": at})


def _user(snapshot: DocumentSnapshot[Any]) -> User:
    document = snapshot.to_dict() or {}
    avatar, suspension, upload = document.get("avatar"), document.get("suspension"), document.get("open_upload")
    return User(
        uid=snapshot.id,
        role=Role(document.get("role", Role.USER)),
        status=document["status"],
        plan=document.get("plan", "free"),
        username=document["username"],
        email=document.get("email"),
        email_verified=bool(document.get("email_verified")),
        display_name=document.get("display_name"),
        photo_url=document.get("photo_url"),
        bio=document.get("bio"),
        avatar=Avatar(**avatar) if avatar else None,
        created_at=document["created_at"],
        updated_at=document["updated_at"],
        valid_since=document.get("valid_since"),
        suspension=Suspension(**suspension) if suspension else None,
        export_job_id=document.get("export_job_id"),
        erasure_job_id=document.get("erasure_job_id"),
        open_upload_id=upload["id"] if upload else None,
    )
