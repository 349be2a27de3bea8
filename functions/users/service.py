"""What people can do with their account, and what operators can do with others'."""

from __future__ import annotations

import random
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from google.cloud.firestore import DELETE_FIELD

from functions.users import firebase_auth, repository
from functions.users.domain import Suspension, User, is_reserved, may_act_on, takes_power
from functions.users.events import (
    ErasureRequested,
    ExportRequested,
    ProfileUpdated,
    Reinstated,
    RoleChanged,
    SignedOut,
    Suspended,
)
from shared import events, store
from shared.errors import Conflict, FieldError, InvalidRequest, NotFound, PermissionDenied, Unavailable
from shared.identity import accounts
from shared.identity.accounts import Status
from shared.identity.permissions import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from google.cloud.firestore import Transaction

    from functions.users.repository import Job, Read
    from shared.events import EventPayload
    from shared.identity.caller import Caller
    from shared.store import Batch

PROFILE = "profile"
"""What events of an account are about."""
_ATTEMPTS = 6
_PAUSE_S = 0.05
_UNFINISHED = {"queued", "running"}


# Oneself


def get_user(uid: str) -> User:
    return _read(uid).user


def change_profile(uid: str, changes: Mapping[str, Any], *, now: datetime) -> User:
    """Change `display_name`, `bio` (None removes) and `username`, as `domain` made them.

    Raises InvalidRequest for a user name that nobody can choose, Conflict for one that somebody has.
    """

    def change(batch: Batch, read: Read) -> dict[str, Any]:
        changed = {name: value for name, value in changes.items() if getattr(read.user, name) != value}
        if "username" in changed:
            if is_reserved(changed["username"]):
                raise _refused("username", "is reserved; choose another")
            repository.add_rename(batch, read.user, changed["username"], now)
        return changed

    try:
        return change_account(uid, change, now=now)
    except store.AlreadyExists as error:
        user = get_user(uid)
        if user.username == changes["username"]:
            # Theirs since another request of the same person, or since this one, whose first answer was lost.
            return change_profile(uid, changes, now=now)
        problem = FieldError("username", "is taken; choose another")
        raise Conflict("This user name is taken.", fields=[problem]) from error


def change_account(uid: str, change: Callable[[Batch, Read], Mapping[str, Any]], *, now: datetime) -> User:
    """Change what was read, once: `change` adds its own writes to the batch and gives the account's new fields.

    When the account changed since, it is read again and `change` is asked again. Raises NotFound, store.AlreadyExists.
    """
    for attempt in range(_ATTEMPTS):
        read = _read(uid)
        batch = store.new_batch()
        changes = change(batch, read)
        if not changes:
            return read.user
        repository.add_changes(batch, read, changes, now)
        events.record(batch, ProfileUpdated(fields=sorted(changes)), uid=uid, subject=PROFILE, at=now)
        try:
            store.commit(batch)
        except store.StaleWrite:
            time.sleep(random.uniform(0, _PAUSE_S * (attempt + 1)))  # noqa: S311  # spreads the writers
            continue
        return get_user(uid)
    raise Unavailable("This account is being changed by many requests at once; try again.", retry_after_s=1)


def request_erasure(uid: str, *, job_id: str, now: datetime) -> Job:
    """Close the account for good and queue the erasure of everything it holds.

    From then on nobody gets in with it. Raises Conflict for the last admin, without whom nobody could appoint another.
    """

    def close(transaction: Transaction) -> str:
        user = _in(transaction, uid)
        if user.erasure_job_id is not None:
            return user.erasure_job_id
        _keep_an_admin(transaction, user)
        repository.change_in(transaction, uid, {"status": Status.ERASING.value, "erasure_job_id": job_id}, now)
        repository.add_job(transaction, job_id, "erasure", uid, now)
        events.record(transaction, ErasureRequested(job_id=job_id), uid=uid, subject=PROFILE, at=now)
        return job_id

    found = repository.transact(close)
    accounts.forget(uid)
    return _job(found)


def request_export(uid: str, *, job_id: str, now: datetime) -> Job:
    """Queue the making of an archive; while one is being made, that one."""

    def begin(transaction: Transaction) -> str:
        user = _in(transaction, uid)
        newest = repository.find_job(user.export_job_id, transaction) if user.export_job_id else None
        if newest is not None and newest.state in _UNFINISHED:
            return newest.id
        repository.change_in(transaction, uid, {"export_job_id": job_id}, now)
        repository.add_job(transaction, job_id, "export", uid, now)
        events.record(transaction, ExportRequested(job_id=job_id), uid=uid, subject=PROFILE, at=now)
        return job_id

    try:
        return _job(repository.transact(begin))
    except store.AlreadyExists:
        return _job(job_id)  # this same request was here before, and its archive is finished


def get_export(uid: str) -> Job:
    """The newest export."""
    job_id = get_user(uid).export_job_id
    if job_id is None:
        raise NotFound("No export was asked for; POST here to begin one.")
    return _job(job_id)


def get_erasure(job_id: str) -> Job:
    job = repository.find_job(job_id)
    if job is None or job.kind != "erasure":
        raise NotFound("There is no such erasure.")
    return job


# Plans


def set_plan(uid: str, plan: str, *, now: datetime) -> None:
    """Keep the name of the plan with the account, where limits are looked up; subscriptions are the truth."""

    def change(transaction: Transaction) -> None:
        if _in(transaction, uid).plan != plan:
            repository.change_in(transaction, uid, {"plan": plan}, now)

    repository.transact(change)
    accounts.forget(uid)


# Operators


def list_users(
    *, role: Role | None, status: Status | None, limit: int, cursor: str | None
) -> tuple[list[User], str | None]:
    """Newest first."""
    return repository.list_users(role=role, status=status, limit=limit, cursor=cursor)


def find_by_username(username: str) -> User | None:
    return repository.find_by_username(username)


def find_by_email(email: str) -> User | None:
    """By the address that Firebase Auth knows now; the one in the account is that of the first sign-in."""
    uid = firebase_auth.find_uid(email)
    read = repository.find(uid) if uid else None
    return read.user if read else None


def set_role(by: Caller, uid: str, role: Role, *, reason: str, now: datetime) -> User:
    """Make somebody an operator, or no longer one.

    Takes effect here within the time that standings are believed. When the role takes something away, everything that
    was proved before ends too: the claim `role` in an ID token would otherwise stay good for an hour.
    Raises PermissionDenied for one's own role, Conflict for the last admin, Unavailable when only Firebase Auth is
    missing: the same request again completes it.
    """
    if by.uid == uid:
        raise PermissionDenied("Nobody changes their own role.", reason="own_account")

    def change(transaction: Transaction) -> None:
        user = _open_in(transaction, uid)
        if user.role is role:
            return
        if user.role is Role.ADMIN:
            _keep_an_admin(transaction, user)
        changes: dict[str, Any] = {"role": role.value, "role_change": {"by": by.uid, "reason": reason, "at": now}}
        if takes_power(user.role, role):
            changes["valid_since"] = now
        payload = RoleChanged(old_role=user.role.value, new_role=role.value, by=by.uid)
        _change(transaction, user, changes, payload, now)

    repository.transact(change)
    return _settled(uid)


def suspend(by: Caller, uid: str, *, reason: str, now: datetime) -> User:
    """Cut somebody off everywhere until they are reinstated. Suspending again changes nothing.

    Raises PermissionDenied for oneself and for those the operator may not act on, Conflict for the last admin.
    """
    if by.uid == uid:
        raise PermissionDenied("Nobody suspends themselves.", reason="own_account")

    def change(transaction: Transaction) -> None:
        user = _target(transaction, by, uid)
        if user.status == Status.SUSPENDED:
            return
        if user.role is Role.ADMIN:
            _keep_an_admin(transaction, user)
        suspension = Suspension(reason=reason, by=by.uid, at=now)
        changes = {"status": Status.SUSPENDED.value, "suspension": asdict(suspension)}
        _change(transaction, user, changes, Suspended(by=by.uid), now)

    repository.transact(change)
    return _settled(uid)


def reinstate(by: Caller, uid: str, *, now: datetime) -> User:
    """End a suspension. Raises PermissionDenied for those the operator may not act on."""

    def change(transaction: Transaction) -> None:
        user = _target(transaction, by, uid)
        if user.status != Status.SUSPENDED:
            return
        changes = {"status": Status.ACTIVE.value, "suspension": DELETE_FIELD}
        _change(transaction, user, changes, Reinstated(by=by.uid), now)

    repository.transact(change)
    return _settled(uid)


def sign_out_everywhere(by: Caller, uid: str, *, now: datetime) -> User:
    """End every session and sign-in of somebody. API keys are no sign-ins and stay."""

    def change(transaction: Transaction) -> None:
        user = _target(transaction, by, uid)
        _change(transaction, user, {"valid_since": now}, SignedOut(by=by.uid), now)

    repository.transact(change)
    return _settled(uid)


def _change(
    transaction: Transaction, user: User, changes: Mapping[str, Any], payload: EventPayload, now: datetime
) -> None:
    repository.change_in(transaction, user.uid, changes, now)
    events.record(transaction, payload, uid=user.uid, subject=PROFILE, at=now)


def _target(transaction: Transaction, by: Caller, uid: str) -> User:
    user = _open_in(transaction, uid)
    if by.uid != uid and not may_act_on(by.role, user.role):
        raise PermissionDenied("Only an admin may do this to another operator.", reason="operator_account")
    return user


def _keep_an_admin(transaction: Transaction, user: User) -> None:
    if user.role is Role.ADMIN and repository.is_last_admin_in(transaction, user.uid):
        raise Conflict("This is the last admin; appoint another first.", reason="last_admin")


def _settled(uid: str) -> User:
    """The account once every copy of its standing agrees with it, also when it changed on the way."""
    accounts.forget(uid)
    user = get_user(uid)
    for _ in range(_ATTEMPTS):
        firebase_auth.align(user)
        newest = get_user(uid)
        if (newest.role, newest.status, newest.valid_since) == (user.role, user.status, user.valid_since):
            return newest
        user = newest
    raise Unavailable("This account is being changed by many operators at once; try again.", retry_after_s=1)


def _read(uid: str) -> Read:
    read = repository.find(uid)
    if read is None:
        raise NotFound("There is no such user.")
    return read


def _in(transaction: Transaction, uid: str) -> User:
    user = repository.find_in(transaction, uid)
    if user is None:
        raise NotFound("There is no such user.")
    return user


def _open_in(transaction: Transaction, uid: str) -> User:
    user = _in(transaction, uid)
    if user.status == Status.ERASING:
        raise Conflict("This account is being erased.", reason="account_deleted")
    return user


def _job(job_id: str) -> Job:
    job = repository.find_job(job_id)
    if job is None:
        raise NotFound("There is no such job.")
    return job


def _refused(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"Check: {field}.", fields=[FieldError(field, message)])
