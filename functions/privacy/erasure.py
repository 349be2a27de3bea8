"""Erasing an account: everywhere, for good, and with a proof.

Steps in the order of `domain.Step`. Each can be stopped anywhere and begun again, so a run that dies costs nothing but
time. The proof counts everything once more, from the declarations alone; anything found means another pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from functions.activity import service as activity
from functions.chat import holdings as chat
from functions.privacy import inventory, repository, sign_in
from functions.privacy.domain import (
    BUSY_PAUSE,
    STEPS,
    UPLOAD_TAKES,
    State,
    Step,
    after,
    may_wait_for_answers,
    pause_after,
    quiet_at,
)
from functions.privacy.run import LeaseLost, OutOfTime
from functions.users import holdings as users
from shared import holdings, log, storage, store
from shared.holdings import Erasure
from shared.identity import accounts
from shared.ids import derived_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from functions.privacy.domain import Job
    from functions.privacy.run import Run
    from shared.holdings import Documents

_KEYS_AT_ONCE = 500


def erase(run: Run) -> None:
    """Go on where the last run stopped, until the proof holds. Raises LeaseLost, OutOfTime."""
    if run.job.step not in STEPS:
        run.advance(Step.CUT_OFF)
    while (step := run.job.erasure_step) is not Step.PROVE:
        _DOES[step](run)
        run.advance(after(step), failures=0)
    proof = _count_everything(run)
    if any(proof.values()):
        left = {name: count for name, count in proof.items() if count}
        log.warning("erasure found more", job_id=run.job.id, passes=run.job.passes + 1, left=left)
        run.advance(Step.DOCUMENTS, passes=run.job.passes + 1)
        raise OutOfTime(run.now + pause_after(run.job.passes))
    _finish(run, proof)


def pseudonym(uid: str) -> str:
    """What stands for an erased user: the name of the tombstone."""
    return accounts.tombstone_id(uid)


# The steps


def _cut_off(run: Run) -> None:
    """The account already says that it is being erased; what would still let somebody in goes first."""
    uid = run.job.uid
    batch = store.new_batch()
    holdings.bury(batch, uid, run.now)
    store.commit(batch)
    accounts.forget(uid)
    for holding in inventory.CREDENTIALS:
        _delete_documents(run, holding)
    sign_in.revoke(uid)
    run.change(cut_off_at=run.now)


def _wait(run: Run) -> None:
    """Until no request, no upload, no archive and no answer in the making can write about the user any more."""
    job = run.job
    assert job.cut_off_at is not None, "the step before says when"
    run.wait_until(quiet_at(job.cut_off_at))
    others = repository.list_other_jobs(job)
    for other in others:
        repository.withdraw_job(other)
    for lease in filter(None, (other.lease_until for other in others)):
        run.wait_until(lease)
    for upload_ends_at in filter(None, (users.open_upload_ends_at(job.uid), chat.open_upload_ends_at(job.uid))):
        run.wait_until(upload_ends_at + UPLOAD_TAKES)
    while chat.is_busy(job.uid) and may_wait_for_answers(job.cut_off_at, run.now):
        run.wait_until(run.now + BUSY_PAUSE)


def _documents(run: Run) -> None:
    uid = run.job.uid
    run.advance(Step.DOCUMENTS, total=sum(_count(each, run.job) for each in inventory.DOCUMENTS if _is_deleted(each)))
    for holding in inventory.DOCUMENTS:
        if _is_deleted(holding):
            _delete_documents(run, holding)
    for other in repository.list_other_jobs(run.job):
        storage.delete(repository.archive_of(other))
        repository.delete_job(other.id)
    log.info("documents erased", job_id=run.job.id, uid_hash=log.uid_hash(uid), count=run.job.done)


def _activity(run: Run) -> None:
    event_id = derived_id("evt", run.job.id)
    uid = run.job.uid
    while moved := activity.erase_some(uid, pseudonym=pseudonym(uid), event_id=event_id, now=run.now):
        run.note(moved)


def _files(run: Run) -> None:
    for holding in inventory.FILES:
        while names := repository.list_files(holding, run.job.uid):
            for name in names:
                storage.delete(name)
                run.note()


def _caches(run: Run) -> None:
    for holding in inventory.CACHE_KEYS:
        keys = list(repository.cached_keys(holding, run.job.uid))
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            some = keys[start : start + _KEYS_AT_ONCE]
            repository.delete_keys(some)
            run.note(len(some))


def _sign_in(run: Run) -> None:
    sign_in.delete(run.job.uid)


_DOES: Mapping[Step, Callable[[Run], None]] = {
    Step.CUT_OFF: _cut_off,
    Step.WAIT: _wait,
    Step.DOCUMENTS: _documents,
    Step.ACTIVITY: _activity,
    Step.FILES: _files,
    Step.CACHES: _caches,
    Step.SIGN_IN: _sign_in,
}


def _is_deleted(holding: Documents) -> bool:
    return holding.erasure is Erasure.DELETED


def _delete_documents(run: Run, holding: Documents) -> None:
    """Copies in Redis first: once the document is gone, nobody knows their names."""
    apart = inventory.apart_from(holding)
    while references := repository.next_references(holding, run.job.uid, apart=apart):
        if holding.cached_as:
            repository.delete_keys([name.format(id=one.id) for one in references for name in holding.cached_as])
        repository.delete_documents(references)
        run.note(len(references))


# The proof


def _count(holding: Documents, job: Job) -> int:
    if holding.path == repository.JOBS:
        return len(repository.list_other_jobs(job))
    return repository.count_documents(holding, job.uid, apart=inventory.apart_from(holding))


def _count_everything(run: Run) -> dict[str, int]:
    """How much is left, by what was declared."""
    uid = run.job.uid
    documents = {each.path: _count(each, run.job) for each in inventory.DOCUMENTS}
    run.change()
    keys = {f"redis {each.match}": _length(repository.cached_keys(each, uid)) for each in inventory.CACHE_KEYS}
    files = {f"files {each.prefix}": len(repository.list_files(each, uid)) for each in inventory.FILES}
    run.change()
    return {**documents, **keys, **files, "firebase_auth": int(sign_in.find(uid) is not None)}


def _length(items: Iterable[Any]) -> int:
    return sum(1 for _ in items)


def _finish(run: Run, proof: Mapping[str, int]) -> None:
    """From then on the job, too, names its user by the pseudonym only."""
    job = run.job
    broken_at = activity.find_break(pseudonym(job.uid))
    if broken_at is not None:
        log.error("the chain of an erased account does not hold", job_id=job.id, entry=broken_at)
    result = {
        "proof": dict(proof),
        "checked_at": run.now,
        "passes": job.passes + 1,
        "activity_chain": "holds" if broken_at is None else f"does not hold from entry {broken_at} on",
    }
    batch = store.new_batch()
    changes = {"state": State.DONE.value, "result": result, "updated_at": run.now, "progress": run.progress}
    repository.anonymise_job(batch, job, pseudonym(job.uid), changes)
    try:
        store.commit(batch)
    except store.StaleWrite as error:
        raise LeaseLost(job.id) from error
    log.info("account erased", job_id=job.id, uid_hash=log.uid_hash(job.uid), passes=job.passes + 1)
