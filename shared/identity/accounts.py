"""The standing of an account, read on every request, and how an account comes to be.

The truth is `users/{uid}`; what this process learned is believed for 30 seconds, so a suspension is felt everywhere
within that time. Without the database and without such knowledge nobody gets in.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from shared import events, log, store
from shared.errors import AccountSuspended, Unauthenticated, Unavailable
from shared.identity import documents
from shared.identity.events import UserRegistered
from shared.identity.permissions import Role
from shared.identity.recent import Recent
from shared.texts import shown_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.identity.tokens import Person

STANDING_KEPT = timedelta(seconds=30)
RESERVED_USERNAME_PREFIX = "user_"
"""Names that begin like this belong to the accounts they are derived from; nobody can choose one."""

_CACHED_ACCOUNTS = 10_000
_USERNAME_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"
_USERNAME_CHARS = 12
_MAX_NAME_CHARS = 80
_FIELDS = ("role", "status", "plan", "valid_since")


class Status(StrEnum):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ERASING = "erasing"


@dataclass(frozen=True)
class Standing:
    """What an account may do, as `users/{uid}` says."""

    role: Role = Role.USER
    status: Status = Status.ACTIVE
    plan: str = "free"
    valid_since: datetime | None = None
    """What was proved before this moment does not hold; None until a sign-out everywhere."""

    def admit(self, *, proved_at: datetime | None) -> None:
        """Raises AccountSuspended or Unauthenticated when this account, or a proof this old, gets nobody in."""
        if self.status is Status.ERASING:
            raise _deleted()
        if self.status is not Status.ACTIVE:
            raise AccountSuspended("This account is suspended. Write to support to have it looked at.")
        if proved_at is not None and self.valid_since is not None and proved_at < self.valid_since:
            raise Unauthenticated("This sign-in was ended: sign in again.", reason="revoked_token")


_recent: Recent[Standing] = Recent(size=_CACHED_ACCOUNTS, keep=STANDING_KEPT)


def get_standing(uid: str, *, now: datetime, fresh: bool = False) -> Standing:
    """The standing of an account that was opened before. `fresh` reads it from the database.

    Raises Unauthenticated when it is gone, Unavailable when the database does not answer.
    """
    standing = _known(uid, now, fresh=fresh) or _read(uid, now)
    if standing is None:
        raise _deleted()
    return standing


def get_or_open(person: Person, *, now: datetime, fresh: bool = False) -> Standing:
    """The standing of somebody who signed in. The first time, this opens the account: exactly once, whoever else tries.

    Raises Unauthenticated when the account was deleted, Unavailable when the database does not answer.
    """
    return _known(person.uid, now, fresh=fresh) or _read(person.uid, now) or _open(person, now)


def end_sign_ins(batch: store.Batch, uid: str, at: datetime) -> None:
    """Add to the batch that whatever was proved before this moment holds no longer. `forget` the account afterwards."""
    batch.update(_account(uid), {"valid_since": at, "updated_at": at})


def forget(uid: str) -> None:
    """Drop what this process knows of the account, because it changed."""
    _recent.drop(uid)


def forget_all() -> None:
    _recent.clear()


def tombstone_id(uid: str) -> str:
    """The document of `erased_accounts` that keeps an erased account from being opened again; it names nobody."""
    return hashlib.sha256(uid.encode()).hexdigest()


def default_username(uid: str) -> str:
    """The user name of somebody who chose none. It needs no reservation: the prefix is reserved for such names."""
    number = int.from_bytes(hashlib.sha256(f"username\n{uid}".encode()).digest())
    characters = []
    for _ in range(_USERNAME_CHARS):
        number, index = divmod(number, len(_USERNAME_ALPHABET))
        characters.append(_USERNAME_ALPHABET[index])
    return RESERVED_USERNAME_PREFIX + "".join(characters)


def _known(uid: str, now: datetime, *, fresh: bool) -> Standing | None:
    return None if fresh else _recent.get(uid, now)


def _read(uid: str, now: datetime) -> Standing | None:
    document = documents.find(_account(uid), _FIELDS)
    if document is None:
        _recent.drop(uid)
        return None
    standing = _standing_of(document, uid)
    _recent.put(uid, standing, now)
    return standing


def _open(person: Person, now: datetime) -> Standing:
    if documents.find(store.document("erased_accounts", tombstone_id(person.uid))) is not None:
        raise _deleted()
    batch = store.new_batch()
    batch.create(_account(person.uid), _new_account(person, now))
    payload = UserRegistered(email_verified=person.email_verified)
    events.record(batch, payload, uid=person.uid, subject="profile", at=now)
    try:
        store.commit(batch)
    except store.AlreadyExists:
        log.info("account was opened by another request", uid_hash=log.uid_hash(person.uid))
    # Read in either case: what is there counts, also when somebody changed it since.
    standing = _read(person.uid, now)
    if standing is None:
        raise _deleted()
    return standing


def _new_account(person: Person, now: datetime) -> dict[str, Any]:
    return {
        "role": Role.USER.value,
        "status": Status.ACTIVE.value,
        "plan": "free",
        "email": person.email,
        "email_verified": person.email_verified,
        # Whoever signs up says what they like to Firebase Auth; here it is shown to others.
        "display_name": shown_line(person.display_name, max_chars=_MAX_NAME_CHARS),
        "photo_url": person.photo_url,
        "username": default_username(person.uid),
        "created_at": now,
        "updated_at": now,
    }


def _standing_of(document: Mapping[str, Any], uid: str) -> Standing:
    """Raises Unavailable for a document that cannot be understood: what is unclear opens no door."""
    try:
        return Standing(
            role=Role(document.get("role", Role.USER)),
            status=Status(document["status"]),
            plan=str(document.get("plan", "free")),
            valid_since=document.get("valid_since"),
        )
    except (KeyError, ValueError) as error:
        log.error("an account's document cannot be understood", cause=error, uid_hash=log.uid_hash(uid))
        raise Unavailable("This account cannot be checked right now; try again.", retry_after_s=30) from error


def _account(uid: str) -> store.Reference:
    return store.document("users", uid)


def _deleted() -> Unauthenticated:
    return Unauthenticated("This account was deleted.", reason="account_deleted")
