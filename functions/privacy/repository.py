"""Privacy jobs, and the Firestore documents, Redis keys and files that the declared holdings name.

privacy_jobs/{id}            kind, uid, state, progress {step, done, total}, result; leased to one run at a time
erased_accounts/{hash}       the tombstone of an erased account (`shared.holdings`)
"""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, BinaryIO

from google.cloud.firestore import DELETE_FIELD, Increment, LastUpdateOption
from google.cloud.firestore_v1.base_query import FieldFilter
from google.cloud.firestore_v1.field_path import FieldPath

from functions.privacy.domain import Job, Kind, State, archive_name
from shared import storage, store
from shared.clients import firestore_client, redis_client, storage_bucket
from shared.store import READING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from datetime import datetime

    from google.cloud.firestore import CollectionReference, DocumentReference, DocumentSnapshot, Query

    from shared.holdings import CacheKeys, Documents, Files
    from shared.store import Batch

    Snapshot = DocumentSnapshot[Any]

JOBS = "privacy_jobs"
ONE_MORE = Increment(1)
SWEPT_AFTER = timedelta(minutes=2)
"""A new job's own function has more time than the sweep, so it gets the first try."""

DELETES_PER_BATCH = 400
DOCUMENTS_PER_PAGE = 1000
PAGE_TIMEOUT_S = 60.0
"""The time in which a page is read and written on, not only that of the database."""
KEYS_PER_SCAN = 1000
FILES_PER_PAGE = 100
UPLOAD_CHUNK_BYTES = 1024 * 1024

_GLOB_SPECIAL = "\\*?[]^"


# --- jobs ------------------------------------------------------------------------------------------------------------


def _jobs() -> CollectionReference:
    return firestore_client().collection(JOBS)


def find_job(job_id: str) -> Job | None:
    with store.translated_errors():
        snapshot = _jobs().document(job_id).get(**READING)
    return _job_of(snapshot) if snapshot.exists else None


def change_job(job: Job, changes: dict[str, Any]) -> Any:
    """Gives the job's new version. Raises store.StaleWrite when it was changed, or went, after it was read."""
    batch = store.new_batch()
    add_change(batch, job, changes)
    return store.commit(batch)[0].update_time


def add_change(batch: Batch, job: Job, changes: dict[str, Any]) -> None:
    batch.update(_jobs().document(job.id), changes, option=LastUpdateOption(job.version))


def anonymise_job(batch: Batch, job: Job, pseudonym: str, changes: dict[str, Any]) -> None:
    """The last change of an erasure: from then on the job names its user by a pseudonym."""
    add_change(batch, job, {**changes, "uid": DELETE_FIELD, "uid_sha256": pseudonym, "lease_until": DELETE_FIELD})


def withdraw_job(job: Job) -> None:
    """End a job that an erasure makes pointless. Whoever runs it notices by its next change."""
    batch = store.new_batch()
    batch.update(_jobs().document(job.id), {"state": State.FAILED.value, "last_error": "account_erased"})
    store.commit(batch)


def archive_of(job: Job) -> str:
    return archive_name(job.uid, job.id)


def delete_job(job_id: str) -> None:
    batch = store.new_batch()
    batch.delete(_jobs().document(job_id))
    store.commit(batch)


def list_waiting_jobs(now: datetime, limit: int) -> list[Job]:
    """Jobs that nobody runs: those that nobody has begun, and those whose lease is over; the oldest first of each."""
    queued = (
        _jobs()
        .where(filter=FieldFilter("state", "==", State.QUEUED.value))
        .where(filter=FieldFilter("created_at", "<=", now - SWEPT_AFTER))
        .order_by("created_at")
        .limit(limit)
    )
    left = (
        _jobs()
        .where(filter=FieldFilter("state", "==", State.RUNNING.value))
        .where(filter=FieldFilter("lease_until", "<=", now))
        .order_by("lease_until")
        .limit(limit)
    )
    jobs = [_job_of(snapshot) for snapshot in (*_get(queued), *_get(left))]
    return [job for job in jobs if job.can_be_taken(now)]


def list_past_exports(now: datetime, limit: int) -> list[Job]:
    """Exports that are kept no longer, the oldest first."""
    past = _jobs().where(filter=FieldFilter("expires_at", "<=", now)).order_by("expires_at").limit(limit)
    return [_job_of(snapshot) for snapshot in _get(past)]


def list_other_jobs(job: Job) -> list[Job]:
    """The user's other jobs, of both kinds, whatever their state."""
    snapshots = _get(_jobs().where(filter=FieldFilter("uid", "==", job.uid)))
    return [_job_of(snapshot) for snapshot in snapshots if snapshot.id != job.id]


def _get(query: Query) -> list[Snapshot]:
    with store.translated_errors():
        return list(query.get(**READING))


def _job_of(snapshot: Snapshot) -> Job:
    document = snapshot.to_dict() or {}
    progress = document.get("progress") or {}
    return Job(
        id=snapshot.id,
        kind=Kind(document["kind"]),
        uid=document.get("uid", ""),
        state=State(document["state"]),
        created_at=document["created_at"],
        step=str(progress.get("step", "")),
        done=int(progress.get("done", 0)),
        total=int(progress.get("total", 0)),
        failures=int(document.get("failures", 0)),
        passes=int(document.get("passes", 0)),
        cut_off_at=document.get("cut_off_at"),
        lease_until=document.get("lease_until"),
        version=snapshot.update_time,
    )


# --- documents -------------------------------------------------------------------------------------------------------


def count_documents(holding: Documents, uid: str, *, apart: frozenset[str] = frozenset()) -> int:
    """How many documents there are. `apart`: collections directly below the document that other holdings name."""
    root = _root(holding, uid)
    with store.translated_errors():
        found = 0 if root is None else int(root.get(field_paths=["__name__"], **READING).exists)
        for query in _queries(holding, uid, apart):
            found += int(query.count().get(**READING)[0][0].value)
    return found


def next_references(holding: Documents, uid: str, *, apart: frozenset[str] = frozenset()) -> list[DocumentReference]:
    """Documents to delete next: what is below a document before it. An empty list when nothing is left."""
    with store.translated_errors():
        for query in _queries(holding, uid, apart):
            found = query.select([]).limit(DELETES_PER_BATCH).get(**READING)
            if found:
                return [snapshot.reference for snapshot in found]
        root = _root(holding, uid)
        if root is not None and root.get(field_paths=["__name__"], **READING).exists:
            return [root]
    return []


def walk(
    holding: Documents, uid: str, *, apart: frozenset[str] = frozenset()
) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every document with its path from its collection on (`c1`, `c1/messages/m1`): each before what is below it."""
    root = _root(holding, uid)
    above = holding.path.count("/") + (0 if root is not None else 1) if holding.by_path else 1
    if root is not None:
        with store.translated_errors():
            snapshot = root.get(**READING)
        if snapshot.exists:
            yield (root.id,), snapshot.to_dict() or {}
    for query in _queries(holding, uid, apart):
        for found in _pages(query):
            yield tuple(found.reference.path.split("/")[above:]), found.to_dict() or {}


def delete_documents(references: list[DocumentReference]) -> None:
    batch = store.new_batch()
    for reference in references:
        batch.delete(reference)
    store.commit(batch)


def _root(holding: Documents, uid: str) -> DocumentReference | None:
    return firestore_client().document(holding.path.format(uid=uid)) if holding.is_one_document else None


def _queries(holding: Documents, uid: str, apart: frozenset[str]) -> Iterator[Any]:
    """The queries that together find every document, also below documents that are not there."""
    root = _root(holding, uid)
    if root is not None:
        for collection in root.collections(**READING):
            if collection.id not in apart:
                yield collection.recursive()
    elif holding.by_path:
        yield firestore_client().collection(holding.path.format(uid=uid)).recursive()
    else:
        everybodys = firestore_client().collection(holding.path)
        yield everybodys.where(filter=FieldFilter(holding.field, "==", uid)).order_by(FieldPath.document_id())


def _pages(query: Any) -> Iterator[Snapshot]:
    """Page by page, so that no request takes long; of a page only what has just arrived is in memory."""
    page: Any = query.limit(DOCUMENTS_PER_PAGE)
    while True:
        last, found = None, 0
        with store.translated_errors():
            for snapshot in page.stream(timeout=PAGE_TIMEOUT_S):
                last, found = snapshot, found + 1
                yield snapshot
        if found < DOCUMENTS_PER_PAGE:
            return
        page = query.start_after(last).limit(DOCUMENTS_PER_PAGE)


# --- caches ----------------------------------------------------------------------------------------------------------


def cached_keys(holding: CacheKeys, uid: str) -> Iterator[str]:
    """The names of the Redis keys that are there. Raises redis.RedisError."""
    client = redis_client()
    if "*" not in holding.match:
        name = holding.match.format(uid=uid)
        yield from [name] if client.exists(name) else []
        return
    names = client.scan_iter(match=holding.match.format(uid=_literally(uid)), count=KEYS_PER_SCAN)
    if holding.owner_field is None:
        yield from names
        return
    while some := list(islice(names, KEYS_PER_SCAN)):
        for name in _owned(some, holding.owner_field, uid):
            stem = name.rpartition(":")[0]
            yield from (key for ending in holding.family if client.exists(key := f"{stem}:{ending}"))


def _owned(names: list[str], field: str, uid: str) -> list[str]:
    """Those of the hashes whose field names the user."""
    pipeline = redis_client().pipeline(transaction=False)
    for name in names:
        pipeline.hget(name, field)
    return [name for name, owner in zip(names, pipeline.execute(), strict=True) if owner == uid]


def delete_keys(keys: list[str]) -> None:
    """Raises redis.RedisError."""
    redis_client().delete(*keys)


def _literally(text: str) -> str:
    """Text in a glob that stands for itself."""
    return "".join(f"\\{character}" if character in _GLOB_SPECIAL else character for character in text)


# --- files -----------------------------------------------------------------------------------------------------------


def list_files(holding: Files, uid: str) -> list[str]:
    """The names of the next files; deleting them brings up further ones."""
    return [file.name for file in storage.list_files(holding.prefix.format(uid=uid), limit=FILES_PER_PAGE)]


def walk_files(holding: Files, uid: str) -> Iterator[tuple[str, AbstractContextManager[BinaryIO]]]:
    """Every file: its name after the prefix, and its content to be opened."""
    prefix = holding.prefix.format(uid=uid)
    blobs = iter(storage_bucket().list_blobs(prefix=prefix, timeout=storage.TIMEOUT_S))
    while True:
        with storage.translated_errors():
            some = list(islice(blobs, FILES_PER_PAGE))
        for blob in some:
            yield blob.name.removeprefix(prefix), blob.open("rb", chunk_size=UPLOAD_CHUNK_BYTES)
        if not some:
            return


def open_archive(name: str) -> AbstractContextManager[BinaryIO]:
    """A file to write from its beginning to its end: it appears when it is closed, and not at all after an error."""
    writer: AbstractContextManager[BinaryIO] = (
        storage_bucket()
        .blob(name)
        .open(
            "wb",
            content_type="application/zip",
            chunk_size=UPLOAD_CHUNK_BYTES,
            ignore_flush=True,
            timeout=storage.UPLOAD_TIMEOUT_S,
        )
    )
    return writer
