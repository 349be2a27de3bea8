"""Every Firestore path, query and write of the credit ledger.

    credit_accounts/{uid}                     the six sums and next_expiry_ms
    credit_accounts/{uid}/grants/{id}
    credit_accounts/{uid}/holds/{id}
    credit_accounts/{uid}/entries/{id}        append-only; every batch that touches the account adds some
    credit_accounts/{uid}/checkpoints/latest  a replay so far; only saves reading

Balances change by transforms (Increment, Minimum), so concurrent writers never wait for a read of theirs.

The order of the entries is that of their commits: Firestore serialises the writes to the account's document, every
batch writes to it, and all documents made by one batch carry its commit time as `create_time`. An account read with
`update_time` T is therefore exactly the sum of the entries created up to T. Since queries cannot filter on
`create_time`, entries also carry the server's time of the request (`recorded_at`), which is close to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from functions.credits.domain import (
    AMOUNT_NAMES,
    NEVER_MS,
    Account,
    Amounts,
    BrokenHistory,
    Entry,
    Grant,
    Hold,
    Ledger,
    Terms,
    replay,
    unix_ms,
)
from shared import store
from shared.clients import firestore_client
from shared.pages import page
from shared.store import READING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from google.cloud.firestore import CollectionReference
    from google.cloud.firestore_v1.base_document import DocumentSnapshot

    Snapshot = DocumentSnapshot[Any] | store.Snapshot

RECORDING_SKEW = timedelta(minutes=1)
"""How far `recorded_at` may be from the commit time: a commit's own deadline is shorter. Should it ever be farther, the
sums disagree, and the replay starts from the beginning."""

ENTRIES_PER_PAGE = 1000
_CHECKPOINT_VERSION = 1


@dataclass(frozen=True)
class Reading:
    """An account together with the replay of its entries, both at the account's `update_time`."""

    account: Account
    ledger: Ledger
    as_of: datetime
    replayed: int
    """How many entries had to be read because no checkpoint held them."""


@dataclass(frozen=True)
class History:
    """An account together with all its entries, in the order of their commits, at the account's `update_time`."""

    account: Account
    as_of: datetime
    entries: tuple[Entry, ...]


@dataclass(frozen=True)
class AfterWrite:
    """What a batch that opens a hold left the account with: the transforms return it, no read is needed."""

    available_micro: int
    next_expiry_ms: int


def _account(uid: str) -> store.Reference:
    return store.document("credit_accounts", uid)


def _grant(uid: str, grant_id: str) -> store.Reference:
    return store.document("credit_accounts", uid, "grants", grant_id)


def _hold(uid: str, hold_id: str) -> store.Reference:
    return store.document("credit_accounts", uid, "holds", hold_id)


def _entry(uid: str, entry_id: str) -> store.Reference:
    return store.document("credit_accounts", uid, "entries", entry_id)


def _grants(uid: str) -> CollectionReference:
    return firestore_client().collection("credit_accounts", uid, "grants")


def _holds(uid: str) -> CollectionReference:
    return firestore_client().collection("credit_accounts", uid, "holds")


def _entries(uid: str) -> CollectionReference:
    return firestore_client().collection("credit_accounts", uid, "entries")


def _checkpoint(uid: str) -> store.Reference:
    return store.document("credit_accounts", uid, "checkpoints", "latest")


# --- writes: each adds to the caller's batch -------------------------------------------------------------------------


def add_hold(batch: store.Batch, hold: Hold, entry: Entry) -> None:
    """Must come first in its batch: `after_hold` reads the first write's result."""
    asked = {"next_expiry_ms": store.Minimum(NEVER_MS)}
    batch.update(_account(hold.uid), _increments(entry.amounts) | asked | {"updated_at": entry.at})
    batch.create(_hold(hold.uid, hold.id), _hold_document(hold))
    _add_entry(batch, hold.uid, entry)


def after_hold(result: store.WriteResult) -> AfterWrite:
    """Transform results come in the order of the field names: available_micro, held_micro, next_expiry_ms."""
    available, _held, next_expiry = result.transform_results
    return AfterWrite(available, next_expiry)


def add_end(batch: store.Batch, ended: Hold, entry: Entry) -> None:
    batch.update(_account(ended.uid), _increments(entry.amounts) | {"updated_at": entry.at})
    outcome = {"state": ended.state, "ended_at": ended.ended_at, "cost_micro": ended.cost_micro}
    batch.update(_hold(ended.uid, ended.id), outcome)
    _add_entry(batch, ended.uid, entry)


def add_charge(batch: store.Batch, uid: str, entry: Entry) -> None:
    batch.update(_account(uid), _increments(entry.amounts) | {"updated_at": entry.at})
    _add_entry(batch, uid, entry)


def add_grant(batch: store.Batch, uid: str, grant: Grant, entry: Entry) -> None:
    """Makes the account when it is not there. `Minimum` also keeps the soonest expiry right under concurrency."""
    expiry = NEVER_MS if grant.expires_at is None else unix_ms(grant.expires_at)
    sums = {name: store.Increment(getattr(entry.amounts, name)) for name in AMOUNT_NAMES}
    account = sums | {"next_expiry_ms": store.Minimum(expiry), "updated_at": entry.at}
    batch.set(_account(uid), account, merge=True)
    batch.create(_grant(uid, grant.id), _grant_document(grant))
    _add_entry(batch, uid, entry)


def add_lapses(
    batch: store.Batch, reading: Reading, entries: Iterable[Entry], *, next_expiry_ms: int, now: datetime
) -> None:
    """Compare and set: the batch is refused with StaleWrite when the account changed after `reading`."""
    uid = reading.account.uid
    lapsed = sum((entry.amounts for entry in entries), Amounts())
    changes = _increments(lapsed) | {"next_expiry_ms": next_expiry_ms, "updated_at": now}
    unchanged = store.LastUpdateOption(reading.as_of)
    batch.update(_account(uid), changes, option=unchanged)
    for entry in entries:
        part = {"expired_micro": store.Increment(entry.amounts.expired_micro)}
        assert entry.grant_id is not None, "what lapses is a grant"
        batch.update(_grant(uid, entry.grant_id), part)
        _add_entry(batch, uid, entry)


def add_checkpoint(batch: store.Batch, reading: Reading) -> None:
    """A reading is what the entries up to its time say, whoever reads it when, so writers need no order among them."""
    batch.set(_checkpoint(reading.account.uid), _checkpoint_document(reading.ledger, reading.as_of))


def _add_entry(batch: store.Batch, uid: str, entry: Entry) -> None:
    batch.create(_entry(uid, entry.id), _entry_document(entry))


def _increments(amounts: Amounts) -> dict[str, Any]:
    return {name: store.Increment(delta) for name in AMOUNT_NAMES if (delta := getattr(amounts, name))}


# --- reads -----------------------------------------------------------------------------------------------------------


def find_account(uid: str) -> Account | None:
    snapshot = store.read(_account(uid))
    return _account_of(snapshot) if snapshot else None


def find_hold(uid: str, hold_id: str) -> Hold | None:
    snapshot = store.read(_hold(uid, hold_id))
    return _hold_of(snapshot) if snapshot else None


def find_grant(uid: str, grant_id: str) -> Grant | None:
    snapshot = store.read(_grant(uid, grant_id))
    return _grant_of(snapshot) if snapshot else None


def find_entry(uid: str, entry_id: str) -> Entry | None:
    snapshot = store.read(_entry(uid, entry_id))
    return _entry_of(snapshot) if snapshot else None


def find_grants(uid: str, grant_ids: Iterable[str]) -> list[Grant]:
    """Those of the grants that exist, in one round trip, in no particular order."""
    references = [_grant(uid, grant_id) for grant_id in grant_ids]
    if not references:
        return []
    return [_grant_of(snapshot) for snapshot in store.start_reading(references).result() if snapshot]


def list_grants(uid: str) -> list[Grant]:
    with store.translated_errors():
        return [_grant_of(snapshot) for snapshot in _grants(uid).stream(**READING)]


def list_holds(uid: str) -> list[Hold]:
    with store.translated_errors():
        return [_hold_of(snapshot) for snapshot in _holds(uid).stream(**READING)]


def list_expired_holds(now: datetime, limit: int) -> list[Hold]:
    """Open holds of all users whose time is over, the oldest first."""
    query = (
        firestore_client()
        .collection_group("holds")
        .where(filter=store.field_filter("state", "==", "open"))
        .where(filter=store.field_filter("expires_at", "<=", now))
        .order_by("expires_at")
        .limit(limit)
    )
    with store.translated_errors():
        return [_hold_of(snapshot) for snapshot in query.stream(**READING)]


def list_expiring_accounts(before: datetime, limit: int, after: Account | None = None) -> list[Account]:
    """Accounts with a grant that expires by `before`, the soonest first, continued after the last one of a page."""
    query = (
        firestore_client()
        .collection("credit_accounts")
        .where(filter=store.field_filter("next_expiry_ms", "<=", unix_ms(before)))
        .order_by("next_expiry_ms")
        .order_by("__name__")
        .limit(limit)
    )
    if after is not None:
        query = query.start_after([after.next_expiry_ms, after.uid])
    with store.translated_errors():
        return [_account_of(snapshot) for snapshot in query.stream(**READING)]


def list_entries(uid: str, limit: int, cursor: str | None) -> tuple[list[Entry], str | None]:
    """The latest entries first, and the cursor of the next page. Raises InvalidRequest for a cursor not from here."""
    snapshots, more = page(_entries(uid), "recorded_at", newest_first=True, limit=limit, cursor=cursor)
    return [_entry_of(snapshot) for snapshot in snapshots], more


def find_reading(uid: str) -> Reading | None:
    """The account and the replay of its entries at one moment, in two round trips; None without an account.

    When more has come since the last checkpoint than fits a page, every page moves the checkpoint on, so that the
    reading of a very long history gets there even if it is cut short.
    """
    account, as_of, replaying = _start_of_reading(uid)
    if account is None or as_of is None:
        return None
    if replaying.as_of is not None and not _leads_to(account.amounts, replaying, as_of):
        replaying = _Replaying(uid)
    if replaying.as_of != as_of:
        replaying.run(as_of)
    return Reading(account, replaying.ledger, as_of, replaying.count)


def find_history(uid: str) -> History | None:
    """The account and all of its entries at one moment. Reads everything: for verification."""
    account, as_of, _ = _start_of_reading(uid)
    if account is None or as_of is None:
        return None
    snapshots = [each for page_of_entries, _ in _pages(uid, None) for each in page_of_entries]
    entries = _in_commit_order(each for each in snapshots if each.create_time <= as_of)
    return History(account, as_of, tuple(entries))


def has_changed(uid: str, as_of: datetime) -> bool:
    snapshot = store.read(_account(uid), fields=["updated_at"])
    return snapshot is None or snapshot.update_time != as_of


@dataclass
class _Replaying:
    """A replay on its way: `ledger` is what the entries committed up to `as_of` add up to."""

    uid: str
    as_of: datetime | None = None
    ledger: Ledger = field(default_factory=Ledger)
    count: int = 0

    def run(self, until: datetime) -> None:
        """Raises BrokenHistory."""
        since, waiting = self.as_of, list[Any]()
        for snapshots, more_follow in _pages(self.uid, since):
            waiting += [each for each in snapshots if since is None or each.create_time > since]
            if more_follow:
                # What was committed earlier than this has been recorded, and so read, already.
                safe = min(snapshots[-1].get("recorded_at") - RECORDING_SKEW, until)
                waiting = self._fold(waiting, safe)
                self._save()
        self._fold(waiting, until)

    def _fold(self, waiting: list[Any], until: datetime) -> list[Any]:
        """Replay what was committed up to then; gives back the rest."""
        if self.as_of is not None and until <= self.as_of:
            return waiting
        ready = _in_commit_order(each for each in waiting if each.create_time <= until)
        replay(ready, onto=self.ledger)
        self.count += len(ready)
        self.as_of = until
        return [each for each in waiting if each.create_time > until]

    def _save(self) -> None:
        if self.as_of is not None:
            batch = store.new_batch()
            batch.set(_checkpoint(self.uid), _checkpoint_document(self.ledger, self.as_of))
            store.commit(batch)


def _start_of_reading(uid: str) -> tuple[Account | None, datetime | None, _Replaying]:
    """The account, the moment of its last change, and the replay as far as the checkpoint has it."""
    account, checkpoint = store.start_reading([_account(uid), _checkpoint(uid)]).result()
    if account is None:
        return None, None, _Replaying(uid)
    document = checkpoint.fields if checkpoint else {}
    usable = document.get("version") == _CHECKPOINT_VERSION and document["as_of"] <= account.update_time
    replaying = _Replaying(uid, document["as_of"], Ledger.from_json(document["ledger"])) if usable else _Replaying(uid)
    return _account_of(account), account.update_time, replaying


def _leads_to(amounts: Amounts, replaying: _Replaying, until: datetime) -> bool:
    """Bring the replay forward. False when it does not arrive at these sums, so that its checkpoint was wrong."""
    try:
        replaying.run(until)
    except BrokenHistory:
        return False
    return replaying.ledger.totals == amounts


def _pages(uid: str, since: datetime | None) -> Iterator[tuple[list[Any], bool]]:
    """The entries committed after `since`, and some before it, in pages; with each whether more follow."""
    query: Any = _entries(uid)
    if since is not None:
        query = query.where(filter=store.field_filter("recorded_at", ">=", since - RECORDING_SKEW))
    cursor: str | None = None
    while True:
        snapshots, cursor = page(query, "recorded_at", newest_first=False, limit=ENTRIES_PER_PAGE, cursor=cursor)
        yield snapshots, cursor is not None
        if cursor is None:
            return


def _in_commit_order(snapshots: Iterable[Any]) -> list[Entry]:
    ordered = sorted(snapshots, key=lambda snapshot: (snapshot.create_time, snapshot.id))
    return [_entry_of(snapshot) for snapshot in ordered]


# --- shapes ----------------------------------------------------------------------------------------------------------


def _fields(snapshot: Snapshot) -> dict[str, Any]:
    return snapshot.to_dict() or {}


def _account_of(snapshot: Snapshot) -> Account:
    document = _fields(snapshot)
    return Account(
        uid=snapshot.id,
        amounts=Amounts(*(document[name] for name in AMOUNT_NAMES)),
        next_expiry_ms=document["next_expiry_ms"],
        created_at=snapshot.create_time,
        updated_at=document["updated_at"],
    )


def _checkpoint_document(ledger: Ledger, as_of: datetime) -> dict[str, Any]:
    return {"version": _CHECKPOINT_VERSION, "as_of": as_of, "ledger": ledger.to_json()}


def _hold_document(hold: Hold) -> dict[str, Any]:
    return {
        "uid": hold.uid,
        "amount_micro": hold.amount_micro,
        "purpose": hold.purpose,
        "ref": dict(hold.ref),
        "state": hold.state,
        "created_at": hold.created_at,
        "expires_at": hold.expires_at,
        "ended_at": hold.ended_at,
        "cost_micro": hold.cost_micro,
    }


def _hold_of(snapshot: Snapshot) -> Hold:
    return Hold(id=snapshot.id, **_fields(snapshot))


def _terms_document(terms: Terms) -> dict[str, Any]:
    return {
        "priority": terms.priority,
        "promotional": terms.promotional,
        "granted_at": terms.granted_at,
        "expires_at": terms.expires_at,
    }


def _grant_document(grant: Grant) -> dict[str, Any]:
    return _terms_document(grant) | {
        "amount_micro": grant.amount_micro,
        "source": grant.source,
        "note": grant.note,
        "expired_micro": grant.expired_micro,
    }


def _grant_of(snapshot: Snapshot) -> Grant:
    return Grant(id=snapshot.id, **_fields(snapshot))


def _entry_document(entry: Entry) -> dict[str, Any]:
    deltas = {_delta(name): value for name in AMOUNT_NAMES if (value := getattr(entry.amounts, name))}
    names = {name: value for name in ("hold_id", "grant_id") if (value := getattr(entry, name))}
    terms = {"terms": _terms_document(entry.terms)} if entry.terms else {}
    times = {"at": entry.at, "recorded_at": store.SERVER_TIMESTAMP}
    return {"kind": entry.kind, "ref": dict(entry.ref)} | deltas | names | terms | times


def _entry_of(snapshot: Snapshot) -> Entry:
    document = _fields(snapshot)
    grant_id = document.get("grant_id")
    return Entry(
        id=snapshot.id,
        kind=document["kind"],
        amounts=Amounts(*(document.get(_delta(name), 0) for name in AMOUNT_NAMES)),
        at=document["at"],
        hold_id=document.get("hold_id"),
        grant_id=grant_id,
        ref=document["ref"],
        terms=Terms(id=grant_id, **document["terms"]) if grant_id and "terms" in document else None,
    )


def _delta(name: str) -> str:
    """The field of an entry that adds to this sum: `held_micro` is changed by `held_delta_micro`."""
    return name.replace("_micro", "_delta_micro")
