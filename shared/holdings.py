"""What the product holds about a user.

Each capability declares once what it stores about people (`HOLDINGS` in its `holdings.py`). The archive that users
take away, the erasure of an account and the proof that nothing is left all work from these declarations; a test finds
every collection that is in none of them.

An erased account leaves a tombstone, `erased_accounts/{hash of the user id}`: with it a token that is still valid
opens no new account, and an event that is late leaves no trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from shared import store
from shared.clients import firestore_client
from shared.identity.accounts import tombstone_id
from shared.store import READING

if TYPE_CHECKING:
    from datetime import datetime

    from shared.store import Batch


class Erasure(Enum):
    """How a holding goes."""

    DELETED = "deleted"
    OWN_WAY = "own way"
    """Its owner takes it away; the proof counts it like all others."""


@dataclass(frozen=True)
class Documents:
    """Firestore documents about a user.

    `path` with `{uid}` names a document or a collection, and everything below it: `credit_accounts/{uid}`,
    `users/{uid}/conversations`. Without, it is a collection for all users whose `field` names the one.
    """

    path: str
    archive: str | None
    """The file of the archive: one JSON document, a list of them, or with `{id}` a file for each. None: left out."""
    left_out_because: str = ""
    field: str = "uid"
    secret_id: bool = False
    """The document's id is a secret's hash: it does not leave."""
    secret_fields: frozenset[str] = frozenset()
    cached_as: tuple[str, ...] = ()
    """Redis keys of the copies of each document, by its `{id}`."""
    erasure: Erasure = Erasure.DELETED

    def __post_init__(self) -> None:
        assert (self.archive is None) == bool(self.left_out_because), f"{self.path}: archived, or a reason why not"

    @property
    def by_path(self) -> bool:
        return "{uid}" in self.path

    @property
    def is_one_document(self) -> bool:
        """A document with what is below it, not a collection."""
        return self.by_path and self.path.count("/") % 2 == 1

    @property
    def root(self) -> str:
        """The root collection that it is in."""
        return self.path.partition("/")[0]


@dataclass(frozen=True)
class CacheKeys:
    """Redis keys about a user: those whose name `match` finds, or whose hash names the user in `owner_field`."""

    match: str
    """A glob; `{uid}` stands for the user's id, so braces of the name itself are doubled. Keys of users whose ids only
    begin or end like this one's must not fit."""
    owner_field: str | None = None
    family: tuple[str, ...] = ()
    """Endings in place of the name's last part, for keys that come and go together: `a:events` for `a:meta`."""


@dataclass(frozen=True)
class Files:
    """Objects in the product's bucket, by the beginning of their names."""

    prefix: str
    archive: str | None
    """The folder of the archive. None: left out."""
    left_out_because: str = ""

    def __post_init__(self) -> None:
        assert (self.archive is None) == bool(self.left_out_because), f"{self.prefix}: archived, or a reason why not"


@dataclass(frozen=True)
class NothingPersonal:
    """A root collection that says nothing about any user, and why."""

    root: str
    because: str


Holding = Documents | CacheKeys | Files | NothingPersonal


def bury(batch: Batch, uid: str, at: datetime) -> None:
    """Put up the tombstone; again, it only moves its date."""
    batch.set(firestore_client().collection("erased_accounts").document(tombstone_id(uid)), {"erased_at": at})


def is_erased(uid: str) -> bool:
    """Whether the account has been erased, or is being erased."""
    with store.translated_errors():
        tombstone = firestore_client().collection("erased_accounts").document(tombstone_id(uid))
        return bool(tombstone.get(**READING).exists)
