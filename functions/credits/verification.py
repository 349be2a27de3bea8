"""Whether everything that is stored about an account agrees with a replay of its entries. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from functions.credits.domain import AMOUNT_NAMES, END_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from functions.credits.domain import Account, Entry, Grant, Hold, Ledger


@dataclass(frozen=True)
class Drift:
    """Two things that should be equal and are not."""

    name: str
    expected: str
    actual: str


def find_drifts(
    account: Account, ledger: Ledger, entries: Sequence[Entry], *, grants: Sequence[Grant], holds: Sequence[Hold]
) -> Iterator[Drift]:
    """All arguments are of one moment; `ledger` is the replay of all `entries`."""
    yield from _account_drifts(account, ledger)
    yield from _hold_drifts(ledger, entries, holds)
    yield from _grant_drifts(entries, grants)


def _account_drifts(account: Account, ledger: Ledger) -> Iterator[Drift]:
    for name in AMOUNT_NAMES:
        yield from compare(f"account.{name}", getattr(ledger.totals, name), getattr(account.amounts, name))
    yield from compare("relations_hold", expected=True, actual=ledger.adds_up)
    if account.next_expiry_ms > ledger.next_expiry_ms():
        yield Drift("account.next_expiry_ms", f"at most {ledger.next_expiry_ms()}", str(account.next_expiry_ms))


def _hold_drifts(ledger: Ledger, entries: Sequence[Entry], holds: Sequence[Hold]) -> Iterator[Drift]:
    opened = {hold_id: hold.amount_micro for hold_id, hold in ledger.holds.items()}
    yield from compare("open_holds", opened, {hold.id: hold.amount_micro for hold in holds if hold.state == "open"})
    end_kinds = set(END_KINDS.values())
    ends = {entry.hold_id: (entry.kind, entry.amounts.spent_micro) for entry in entries if entry.kind in end_kinds}
    stored = {hold.id: (END_KINDS[hold.state], hold.cost_micro or 0) for hold in holds if hold.state != "open"}
    yield from compare("ended_holds", ends, stored)
    for hold_id, count in Counter(entry.hold_id for entry in entries if entry.kind in end_kinds).items():
        yield from compare(f"holds/{hold_id}.ends", 1, count)


def _grant_drifts(entries: Sequence[Entry], grants: Sequence[Grant]) -> Iterator[Drift]:
    granted: Counter[str | None] = Counter()
    expired: Counter[str | None] = Counter()
    for entry in entries:
        granted[entry.grant_id] += entry.amounts.granted_micro
        expired[entry.grant_id] += entry.amounts.expired_micro
    yield from compare("grants.amount_micro", +granted, Counter({grant.id: grant.amount_micro for grant in grants}))
    yield from compare("grants.expired_micro", +expired, +Counter({grant.id: grant.expired_micro for grant in grants}))


def compare(name: str, expected: Any, actual: Any) -> Iterator[Drift]:
    if expected != actual:
        yield Drift(name, str(expected), str(actual))
