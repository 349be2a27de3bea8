"""Making the archive that a user takes away.

It is written straight to where it is kept, page by page, and appears there when it is whole. A run that does not get to
the end leaves nothing, and the next one begins anew: at most `domain.EXPORT_TRIES` times.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from functions.privacy import inventory, repository, sign_in
from functions.privacy.archive import ArchiveWriter
from functions.privacy.domain import ARCHIVE_KEPT, State, archive_name
from functions.privacy.events import ExportCompleted
from functions.privacy.run import LeaseLost
from shared import events, log, storage, store

if TYPE_CHECKING:
    from functions.privacy.run import Run

_ARCHIVED = tuple(each for each in inventory.DOCUMENTS if each.archive is not None)


def export(run: Run) -> None:
    """Raises LeaseLost, OutOfTime."""
    job = run.job
    total = sum(repository.count_documents(each, job.uid, apart=inventory.apart_from(each)) for each in _ARCHIVED)
    run.advance("archive", total=total)
    name = archive_name(job.uid, job.id)
    with (
        storage.translated_errors(),
        repository.open_archive(name) as out,
        ArchiveWriter(out, on_document=run.note) as archive,
    ):
        _write(run, archive)
        # The file appears at the end of this block: not when the job has been taken away meanwhile.
        run.change()
    _finish(run, archive, name)


def _write(run: Run, archive: ArchiveWriter) -> None:
    uid, begun_at = run.job.uid, run.now
    for holding in _ARCHIVED:
        archive.add_documents(holding, repository.walk(holding, uid, apart=inventory.apart_from(holding)))
    archive.add_object("sign_in.json", sign_in.find(uid))
    for files in inventory.FILES:
        if files.archive is not None:
            for file_name, content in repository.walk_files(files, uid):
                with content as stream:
                    archive.add_file(f"{files.archive}/{file_name}", stream)
                run.note(0)
    archive.add_readme(uid=uid, begun_at=begun_at, ended_at=run.now)


def _finish(run: Run, archive: ArchiveWriter, name: str) -> None:
    now = run.now
    expires_at = now + ARCHIVE_KEPT
    result = {"file": name, "size_bytes": archive.size_bytes, "sha256": archive.sha256, "expires_at": expires_at}
    done = {
        "state": State.DONE.value,
        "result": result,
        "expires_at": expires_at,
        "progress": run.progress,
        "updated_at": now,
        "lease_until": None,
    }
    batch = store.new_batch()
    repository.add_change(batch, run.job, done)
    payload = ExportCompleted(job_id=run.job.id, size_bytes=archive.size_bytes)
    events.record(batch, payload, uid=run.job.uid, subject="profile", at=now)
    try:
        store.commit(batch)
    except store.StaleWrite as error:
        found = repository.find_job(run.job.id)
        if found is None or found.state is not State.DONE:  # else our commit came through and only its answer was lost
            storage.delete(name)
        raise LeaseLost(run.job.id) from error
    log.info("archive made", job_id=run.job.id, documents=run.job.done, size_bytes=archive.size_bytes)
