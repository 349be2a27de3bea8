"""The credit ledger's use cases, and the only module of it that others import.

A piece of work holds credits first, then ends the hold exactly once: settled at its real cost, released, expired by the
sweeper, or refused because the account could not cover it. Every operation has a key made by its caller: the same key
with the same content returns the first outcome, with other content it is refused by name. Whoever wants their own
writes to stand or fall with a ledger operation adds them to its batch.
"""

from __future__ import annotations

import copy
import hashlib
import random
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, NoReturn

from functions.credits import repository
from functions.credits.domain import (
    Account,
    BrokenHistory,
    Entry,
    Grant,
    Hold,
    Ledger,
    burn_order,
    credits_for_cost,
    credits_text,
    end_entry,
    grant_entry,
    hold_entry,
    late_cost_entry,
    replay,
    unix_ms,
)
from functions.credits.events import CreditsExpired, CreditsGranted
from functions.credits.repository import find_hold, list_entries, list_expired_holds, list_expiring_accounts
from functions.credits.verification import Drift, compare, find_drifts
from shared import events, holdings, log, store
from shared.errors import Conflict, FieldError, InsufficientCredits, InvalidRequest, KeyReused, NotFound, Unavailable
from shared.ids import is_safe_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from functions.credits.domain import EndState
    from functions.credits.repository import Reading
    from shared.store import Batch

__all__ = [
    "Account",
    "Balance",
    "Drift",
    "Entry",
    "Grant",
    "GrantLeft",
    "Hold",
    "HoldAlreadyEnded",
    "credits_for_cost",
    "credits_text",
    "expire_grants",
    "expire_hold",
    "expire_into",
    "find_hold",
    "get_account",
    "get_balance",
    "grant",
    "hold",
    "late_cost_into",
    "list_entries",
    "list_expired_holds",
    "list_expiring_accounts",
    "list_grants",
    "record_late_cost",
    "release",
    "release_into",
    "settle",
    "settle_into",
    "sweep",
    "verify_account",
]

LAPSE_ATTEMPTS = 12
LAPSE_ATTEMPTS_BY_READERS = 2
"""Who only wants to know what is alive gets that from the reading; the sweeper has the time to insist."""
LAPSE_BACKOFF_S = 0.02
REFUSE_ATTEMPTS = 3
VERIFY_ATTEMPTS = 5
SWEPT_HOLDS, SWEPT_ACCOUNTS, ACCOUNTS_PER_PAGE = 200, 200, 50
"""How much one run of the sweeper takes on; the next run goes on from there."""
READ_AHEAD = timedelta(minutes=10)
CHECKPOINT_AFTER = 200
"""A reader that had to replay more entries than this leaves a checkpoint for the next one."""

_HOLD_CONTENT = ("amount_micro", "purpose", "ref")
_GRANT_CONTENT = ("amount_micro", "source", "priority", "promotional", "expires_at", "note")


class HoldAlreadyEnded(Conflict):
    """A hold has one end; `details` name which one it was (`state`) and what it cost (`cost_micro`)."""

    code, status, title = "hold_already_ended", 409, "This hold has ended already"


@dataclass(frozen=True)
class GrantLeft:
    """A grant, and what is left of it: free, or backing an open hold."""

    grant: Grant
    remaining_micro: int


@dataclass(frozen=True)
class Balance:
    """What a user has. `grants` are those with anything left, in the order they burn; `next_expiry_at` is None when
    none of them expires.
    """

    available_micro: int
    held_micro: int
    debt_micro: int
    grants: tuple[GrantLeft, ...]
    next_expiry_at: datetime | None


# --- grants ----------------------------------------------------------------------------------------------------------


def grant(
    uid: str,
    key: str,
    amount_micro: int,
    *,
    source: str,
    now: datetime,
    expires_at: datetime | None = None,
    priority: int = 50,
    promotional: bool = False,
    note: str = "",
    also: Callable[[Batch], None] | None = None,
) -> Grant:
    """Give credits; the account comes to be with its first grant. A debt is paid from it first.

    `expires_at` is part of the content that a repeated key must match: take it from what was bought, not from a clock.
    Raises KeyReused naming the field that differs, InvalidRequest for a new grant that has already expired, and
    Conflict (`account_deleted`) for somebody whose account was erased: a late payment must not bring it back.
    """
    if amount_micro <= 0:
        raise ValueError("A grant gives something.")
    if holdings.is_erased(uid):
        raise Conflict("This account was erased.", reason="account_deleted")
    given = Grant(
        id=_document_id(key),
        priority=priority,
        promotional=promotional,
        granted_at=now,
        expires_at=expires_at,
        amount_micro=amount_micro,
        source=source,
        note=note,
    )
    if not given.alive_at(now):
        return _first_grant(uid, given) or _refuse_dead_grant()
    batch = store.new_batch()
    repository.add_grant(batch, uid, given, grant_entry(given))
    payload = CreditsGranted(
        grant_id=given.id, amount_micro=amount_micro, source=source, promotional=promotional, expires_at=expires_at
    )
    events.record(batch, payload, uid=uid, subject=f"grants/{given.id}", at=now)
    if also is not None:
        also(batch)
    try:
        store.commit(batch)
    except store.AlreadyExists:
        first = _first_grant(uid, given)
        if first is None:  # what exists is a document of the caller's
            raise
        return first
    return given


def _first_grant(uid: str, again: Grant) -> Grant | None:
    first = repository.find_grant(uid, again.id)
    if first is not None:
        _require_same_content(first, again, _GRANT_CONTENT)
    return first


def _refuse_dead_grant() -> NoReturn:
    problem = FieldError("expires_at", "choose a time in the future")
    raise InvalidRequest("Credits cannot be granted that have expired already.", fields=[problem])


def expire_grants(uid: str, now: datetime) -> Ledger:
    """Let lapse what is left of grants that have expired and backs no open hold; returns the ledger after it.

    Exact: what lapses is computed from the entries, and the write is refused when the account changed meanwhile.
    Raises Unavailable when the account stays too busy for that; a later sweep does it.
    """
    ledger, done = _lapse(uid, now, LAPSE_ATTEMPTS)
    if not done:
        raise Unavailable("The account is too busy to expire its credits; try again.", retry_after_s=1)
    return ledger


def _lapse(uid: str, now: datetime, attempts: int) -> tuple[Ledger, bool]:
    """The ledger as last read, and whether nothing in it is due any more."""
    ledger = Ledger()
    for _ in _spread_out(attempts):
        reading = repository.find_reading(uid)
        if reading is None:
            return ledger, True
        ledger = reading.ledger
        try:
            return _lapse_what_is_due(reading, now), True
        except store.StaleWrite:
            continue
    return ledger, False


def _lapse_what_is_due(reading: Reading, now: datetime) -> Ledger:
    """The ledger after it. Raises StaleWrite when the account changed after the reading."""
    uid, due = reading.account.uid, reading.ledger.due_entries(now)
    after = replay(due, onto=copy.deepcopy(reading.ledger))
    next_expiry_ms = after.next_expiry_ms()
    if not due and next_expiry_ms == reading.account.next_expiry_ms:
        return after
    batch = store.new_batch()
    repository.add_lapses(batch, reading, due, next_expiry_ms=next_expiry_ms, now=now)
    repository.add_checkpoint(batch, reading)
    for entry in due:
        payload = CreditsExpired(grant_id=entry.grant_id or "", amount_micro=entry.amounts.expired_micro)
        events.record(batch, payload, uid=uid, subject=f"grants/{entry.grant_id}", at=now)
    store.commit(batch)
    return after


def _spread_out(attempts: int) -> Iterator[int]:
    """Attempt numbers, with a pause between them that grows and differs from one contender to the next."""
    for attempt in range(attempts):
        if attempt:
            time.sleep(random.uniform(0, LAPSE_BACKOFF_S * min(attempt, 8)))  # noqa: S311  # jitter is no secret
        yield attempt


# --- holds -----------------------------------------------------------------------------------------------------------


def hold(
    uid: str,
    key: str,
    amount_micro: int,
    *,
    purpose: str,
    ref: Mapping[str, str],
    ttl: timedelta,
    now: datetime,
    also: Callable[[Batch], None] | None = None,
    undo: Callable[[Batch], None] | None = None,
) -> Hold:
    """Set credits aside in one round trip. `also` adds the caller's writes to the same batch, `undo` takes them back
    in the batch that refuses the hold; it may run more than once.

    The batch itself decides: its increments return what they left. Credits of a grant that has expired do not count,
    swept or not. While another hold overshoots and is about to be refused, an affordable one may be refused too; never
    is more held than there is.

    Raises InsufficientCredits with `needed_micro` and `available_micro`; for a repeated key KeyReused naming the field
    that differs, or HoldAlreadyEnded; Unavailable when the outcome is not known: try again with the same key.
    """
    if amount_micro <= 0:
        raise ValueError("A hold sets something aside.")
    wanted = Hold(
        id=_document_id(key),
        uid=uid,
        amount_micro=amount_micro,
        purpose=purpose,
        ref=dict(ref),
        state="open",
        created_at=now,
        expires_at=now + ttl,
    )
    batch = store.new_batch()
    repository.add_hold(batch, wanted, hold_entry(wanted))
    if also is not None:
        also(batch)
    try:
        results = store.commit(batch)
    except store.AlreadyExists:
        first = repository.find_hold(uid, wanted.id)
        if first is None:  # what exists is a document of the caller's
            raise
        return _first_outcome(first, wanted, now=now, undo=undo)
    except store.StaleWrite as error:
        if repository.find_account(uid) is None:
            raise _insufficient(wanted, available_micro=0) from error
        raise
    after = repository.after_hold(results[0])
    if after.available_micro < 0:
        _refuse(wanted, now=now, undo=undo, available_micro=after.available_micro + amount_micro)
    if after.next_expiry_ms <= unix_ms(now):
        ledger, _ = _lapse(uid, now, LAPSE_ATTEMPTS_BY_READERS)
        return _if_covered(wanted, ledger, now=now, undo=undo)
    return wanted


def _first_outcome(first: Hold, again: Hold, *, now: datetime, undo: Callable[[Batch], None] | None) -> Hold:
    """What became of a hold whose key has come back."""
    _require_same_content(first, again, _HOLD_CONTENT)
    if first.state == "refused":
        raise _insufficient(first)
    if first.state != "open":
        raise _already_ended(first)
    if first.expires_at <= now:  # the sweeper is about to end it, so nobody may start to work on it
        raise _already_ended(expire_hold(first, now=now))
    reading = _find_reading(first.uid)
    if reading is None:
        raise NotFound("This user has no credit account yet.")
    return _if_covered(first, reading.ledger, now=now, undo=undo)


def _if_covered(wanted: Hold, ledger: Ledger, *, now: datetime, undo: Callable[[Batch], None] | None) -> Hold:
    """The hold, if the entries before it left enough in grants that were alive; that is a fact which never changes."""
    opened = ledger.holds.get(wanted.id)
    if opened is None:
        ended = _get_hold(wanted.uid, wanted.id)
        raise _insufficient(ended) if ended.state == "refused" else _already_ended(ended)
    if not opened.covered:
        _refuse(wanted, now=now, undo=undo, available_micro=max(ledger.totals.available_micro, 0))
    return wanted


def _refuse(wanted: Hold, *, now: datetime, undo: Callable[[Batch], None] | None, available_micro: int) -> NoReturn:
    """Take the hold back together with what its caller wrote. Raises InsufficientCredits."""
    batch = store.new_batch()
    _end_into(batch, wanted, "refused", now=now)
    if undo is not None:
        undo(batch)
    try:
        _commit_insistently(batch)
    except store.AlreadyExists:
        # Refused already under the same key, with this undo; or expired by the sweeper, which knows of no undo.
        if undo is not None and _get_hold(wanted.uid, wanted.id).state == "expired":
            batch = store.new_batch()
            undo(batch)
            _commit_insistently(batch)
    raise _insufficient(wanted, available_micro=available_micro)


def _commit_insistently(batch: Batch) -> None:
    """Until it is taken back, a hold that overshoots blocks the account: worth more than one try."""
    for attempt in _spread_out(REFUSE_ATTEMPTS):
        try:
            store.commit(batch)
        except Unavailable:
            if attempt + 1 == REFUSE_ATTEMPTS:
                raise
        else:
            return


# --- ends ------------------------------------------------------------------------------------------------------------


def settle_into(
    batch: Batch, open_hold: Hold, cost_micro: int, *, now: datetime, ref: Mapping[str, str] | None = None
) -> Hold:
    """Add the settlement to the caller's batch: the cost is spent, the rest returns. A cost above the hold is recorded
    all the same, as debt if it must be. The commit raises store.AlreadyExists when the hold has ended: see `find_hold`.
    """
    if cost_micro < 0:
        raise ValueError("A cost is never negative.")
    return _end_into(batch, open_hold, "settled", now=now, cost_micro=cost_micro, ref=ref)


def release_into(batch: Batch, open_hold: Hold, *, now: datetime, reason: str) -> Hold:
    """Add the release to the caller's batch: nothing is spent. The commit raises as that of `settle_into`."""
    return _end_into(batch, open_hold, "released", now=now, ref={"reason": reason})


def expire_into(batch: Batch, open_hold: Hold, *, now: datetime) -> Hold:
    """Add the end of a hold that nobody ended in time: all of it returns. The commit raises as for `settle_into`."""
    if open_hold.expires_at > now:
        raise ValueError(f"The hold {open_hold.id} has not expired yet.")
    return _end_into(batch, open_hold, "expired", now=now)


def settle(open_hold: Hold, cost_micro: int, *, now: datetime, ref: Mapping[str, str] | None = None) -> Hold:
    """Settle on its own. The same settlement again returns the first; raises HoldAlreadyEnded after any other end."""
    batch = store.new_batch()
    return _commit_end(batch, settle_into(batch, open_hold, cost_micro, now=now, ref=ref))


def release(open_hold: Hold, *, now: datetime, reason: str) -> Hold:
    """Release on its own. A release again returns the first; raises HoldAlreadyEnded after any other end."""
    batch = store.new_batch()
    return _commit_end(batch, release_into(batch, open_hold, now=now, reason=reason))


def expire_hold(open_hold: Hold, *, now: datetime) -> Hold:
    """The sweeper's end on its own. Raises HoldAlreadyEnded when a worker was faster."""
    batch = store.new_batch()
    return _commit_end(batch, expire_into(batch, open_hold, now=now))


def late_cost_into(
    batch: Batch, ended_hold: Hold, cost_micro: int, *, now: datetime, ref: Mapping[str, str] | None = None
) -> Entry:
    """Add a cost that became known after its hold was released, expired or refused to the caller's batch.

    Once per hold: the commit raises store.AlreadyExists the second time. Raises HoldAlreadyEnded when the hold was
    settled, and Conflict while it is open: then settle it.
    """
    if cost_micro <= 0:
        raise ValueError("A late cost is a cost.")
    if ended_hold.state == "open":
        raise Conflict("This hold is open: settle it.", state=ended_hold.state)
    if ended_hold.state == "settled":
        raise _already_ended(ended_hold)
    entry = late_cost_entry(ended_hold, cost_micro, at=now, ref=ref or {})
    repository.add_charge(batch, ended_hold.uid, entry)
    return entry


def record_late_cost(
    uid: str, hold_id: str, cost_micro: int, *, now: datetime, ref: Mapping[str, str] | None = None
) -> Entry:
    """Record a late cost on its own. The same cost again returns the first entry; raises as `late_cost_into` does,
    NotFound, and KeyReused when another cost was recorded for the hold.
    """
    batch = store.new_batch()
    entry = late_cost_into(batch, _get_hold(uid, hold_id), cost_micro, now=now, ref=ref)
    try:
        store.commit(batch)
    except store.AlreadyExists:
        first = repository.find_entry(uid, entry.id)
        if first is None or first.amounts != entry.amounts:
            raise _key_reused("cost_micro") from None
        return first
    return entry


def _end_into(
    batch: Batch,
    open_hold: Hold,
    state: EndState,
    *,
    now: datetime,
    cost_micro: int | None = None,
    ref: Mapping[str, str] | None = None,
) -> Hold:
    ended = replace(open_hold, state=state, ended_at=now, cost_micro=cost_micro)
    repository.add_end(batch, ended, end_entry(open_hold, state, cost_micro=cost_micro, at=now, ref=ref or {}))
    return ended


def _commit_end(batch: Batch, ended: Hold) -> Hold:
    try:
        store.commit(batch)
    except store.AlreadyExists:
        first = _get_hold(ended.uid, ended.id)
        if (first.state, first.cost_micro) != (ended.state, ended.cost_micro):
            raise _already_ended(first) from None
        return first
    return ended


def sweep(*, now: datetime) -> dict[str, int]:
    """End the holds that nobody ended in time and let expired grants lapse. Gives what was done, by kind.

    Accounts whose grants expire soon are read ahead, which leaves them a fresh checkpoint: the first hold after an
    expiry has to wait for a replay, and it should be a short one.

    An account that cannot be swept is logged and passed over, so that it holds up nobody else's.
    """
    holds = [_sweep_hold(each, now) for each in repository.list_expired_holds(now, SWEPT_HOLDS)]
    accounts = [_sweep_account(each, now) for each in _expiring_accounts(now + READ_AHEAD)]
    return {
        "holds_expired": holds.count(True),
        "accounts_swept": accounts.count(True),
        "sweeps_failed": holds.count(False) + accounts.count(False),
    }


def _sweep_hold(open_hold: Hold, now: datetime) -> bool | None:
    """Whether it could be ended; None when its worker came at the last moment."""
    try:
        expire_hold(open_hold, now=now)
    except HoldAlreadyEnded:
        return None
    except (store.StaleWrite, Unavailable) as error:
        log.error("hold could not be expired", cause=error, hold_id=open_hold.id, uid_hash=log.uid_hash(open_hold.uid))
        return False
    return True


def _sweep_account(account: Account, now: datetime) -> bool | None:
    """Whether it could be swept; None when it was only read ahead."""
    try:
        if account.next_expiry_ms > unix_ms(now):
            _find_reading(account.uid)
            return None
        expire_grants(account.uid, now)
    except (BrokenHistory, Unavailable) as error:
        log.error("credits could not be expired", cause=error, uid_hash=log.uid_hash(account.uid))
        return False
    return True


def _expiring_accounts(before: datetime) -> Iterator[Account]:
    """The accounts with grants that expire by then, up to the limit of one run, read page by page."""
    last = None
    for _ in range(SWEPT_ACCOUNTS // ACCOUNTS_PER_PAGE):
        page = repository.list_expiring_accounts(before, ACCOUNTS_PER_PAGE, after=last)
        yield from page
        if len(page) < ACCOUNTS_PER_PAGE:
            return
        last = page[-1]


# --- reading ---------------------------------------------------------------------------------------------------------


def get_account(uid: str) -> Account:
    """The six sums as they are stored: credits of a grant that has just expired count until they are swept."""
    account = repository.find_account(uid)
    if account is None:
        raise NotFound("This user has no credit account yet.")
    return account


def get_balance(uid: str, now: datetime) -> Balance:
    """What the user can really spend; all zero for a user without an account. Sweeps grants that are due."""
    reading = _find_reading(uid)
    if reading is None:
        return Balance(available_micro=0, held_micro=0, debt_micro=0, grants=(), next_expiry_at=None)
    ledger = reading.ledger
    if ledger.due_entries(now):
        ledger, _ = _lapse(uid, now, LAPSE_ATTEMPTS_BY_READERS)
    due_micro = sum(entry.amounts.expired_micro for entry in ledger.due_entries(now))
    living = [terms.expires_at for terms in ledger.grants.values() if terms.expires_at and terms.alive_at(now)]
    return Balance(
        available_micro=ledger.totals.available_micro - due_micro,
        held_micro=ledger.totals.held_micro,
        debt_micro=ledger.debt_micro,
        grants=_grants_left(uid, ledger),
        next_expiry_at=min(living, default=None),
    )


def list_grants(uid: str) -> tuple[GrantLeft, ...]:
    """The grants with anything left, in the order they burn."""
    reading = _find_reading(uid)
    return _grants_left(uid, reading.ledger) if reading is not None else ()


def _grants_left(uid: str, ledger: Ledger) -> tuple[GrantLeft, ...]:
    grants = sorted(repository.find_grants(uid, ledger.grants), key=burn_order)
    return tuple(GrantLeft(grant, ledger.remaining_micro(grant.id)) for grant in grants)


def verify_account(uid: str) -> list[Drift]:
    """Hold everything that is stored about an account against a replay of all its entries; empty when all agree.

    Reads the whole history: for tests and operators. Raises NotFound, and Unavailable when the account keeps changing.
    """
    for _ in _spread_out(VERIFY_ATTEMPTS):
        history = repository.find_history(uid)
        if history is None:
            raise NotFound("This user has no credit account yet.")
        try:
            ledger, shortcut = replay(history.entries), repository.find_reading(uid)
        except BrokenHistory as error:
            return [Drift("history", "entries that follow on each other", str(error))]
        grants, holds = repository.list_grants(uid), repository.list_holds(uid)
        if shortcut is None or shortcut.as_of != history.as_of or repository.has_changed(uid, history.as_of):
            continue
        drifts = list(find_drifts(history.account, ledger, history.entries, grants=grants, holds=holds))
        return drifts + list(compare("checkpoint", ledger.to_json(), shortcut.ledger.to_json()))
    raise Unavailable("The account keeps changing; try again.", retry_after_s=1)


# --- small parts -----------------------------------------------------------------------------------------------------


def _document_id(key: str) -> str:
    """The key itself where it can name a document, so that people can find it; else its digest."""
    return key if is_safe_id(key) else f"key_{hashlib.sha256(key.encode()).hexdigest()}"


def _get_hold(uid: str, hold_id: str) -> Hold:
    found = repository.find_hold(uid, hold_id)
    if found is None:
        raise NotFound("There is no such hold.")
    return found


def _find_reading(uid: str) -> Reading | None:
    """The reading; after a long replay it leaves a checkpoint, so that the next one is short."""
    reading = repository.find_reading(uid)
    if reading is not None and reading.replayed > CHECKPOINT_AFTER:
        batch = store.new_batch()
        repository.add_checkpoint(batch, reading)
        store.commit(batch)
    return reading


def _require_same_content(first: Grant | Hold, again: Grant | Hold, names: Iterable[str]) -> None:
    for name in names:
        if getattr(first, name) != getattr(again, name):
            raise _key_reused(name)


def _key_reused(name: str) -> KeyReused:
    problem = FieldError(name, "differs from what this key was first used with")
    return KeyReused(f"This key was used before with another {name}.", fields=[problem])


def _insufficient(wanted: Hold, available_micro: int | None = None) -> InsufficientCredits:
    return InsufficientCredits(needed_micro=wanted.amount_micro, available_micro=available_micro)


def _already_ended(first: Hold) -> HoldAlreadyEnded:
    return HoldAlreadyEnded(
        f"This hold has ended already: {first.state}.", state=first.state, cost_micro=first.cost_micro
    )
