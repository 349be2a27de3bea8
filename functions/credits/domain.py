"""Rules of the credit ledger. Pure: no Firestore, no clock, no network.

Money is integers of a millionth of a credit ("micro"). One credit is 0.001 USD, so one micro-credit is 1e-9 USD.

An account is six sums, and every entry adds to them so that they stay in balance:

    available + held == granted - spent - expired + adjusted                                (Amounts.in_balance)

Replaying the entries in the order they were committed also tells which grant pays for what (`Ledger`):

- a hold reserves from the grants that are alive when it is made, in burn order; what they cannot cover is *uncovered*;
- a settlement burns what its hold reserved, in burn order, and above that free credits of grants that are still alive;
  what no grant covers is *debt*;
- credits that come free (a grant, the rest of a settlement, a release) pay the debt first, then uncovered holds;
- a grant that expired lapses what is free of it. What backs an open hold stays until the hold has ended. Free credits
  of an expired grant pay for nothing, so it makes no difference when the sweep that lapses them runs.

Hence at every moment, with `remaining` of a grant being what is free of it plus what holds have reserved of it:

    sum(remaining) - debt == available + held
    sum(free) - debt - sum(uncovered) == available
    sum(free) == max(available, 0), unless an expired grant waits for its sweep
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MICRO_PER_CREDIT = 1_000_000
PICO_USD_PER_MICRO_CREDIT = 1_000

FOREVER = datetime.max.replace(tzinfo=UTC)
NEVER_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, still exact as a JavaScript number: "no grant of this account expires"."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Open = Literal["open"]
EndState = Literal["settled", "released", "expired", "refused"]
HoldState = Literal[Open, EndState]
EntryKind = Literal["grant", "hold", "settle", "release", "expire_hold", "refuse", "expire_grant", "adjust"]

END_KINDS: dict[EndState, EntryKind] = {
    "settled": "settle",
    "released": "release",
    "expired": "expire_hold",
    "refused": "refuse",
}
ENTRY_KINDS: frozenset[EntryKind] = frozenset(get_args(EntryKind))


class BrokenHistory(ValueError):
    """The entries contradict each other: an end without its hold, or more expired than there was."""


def credits_for_cost(cost_pico_usd: int, markup_percent: int) -> int:
    """What a provider's cost is in micro-credits, markup included, rounded up: we never charge less than we pay."""
    if cost_pico_usd < 0 or markup_percent < 0:
        raise ValueError("A cost and its markup are never negative.")
    return -(-cost_pico_usd * (100 + markup_percent) // (100 * PICO_USD_PER_MICRO_CREDIT))


def credits_text(amount_micro: int) -> str:
    """Micro-credits as an exact decimal number of credits: 1_500_000 is "1.5"."""
    whole, rest = divmod(abs(amount_micro), MICRO_PER_CREDIT)
    decimals = f"{rest:06d}".rstrip("0")
    sign = "-" if amount_micro < 0 else ""
    return f"{sign}{whole}.{decimals}" if decimals else f"{sign}{whole}"


def unix_ms(moment: datetime) -> int:
    """Whole milliseconds since 1970, rounded down, so that what is due is never taken for not yet due."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Amounts:
    """The six sums of an account; also what one entry adds to each of them."""

    available_micro: int = 0
    held_micro: int = 0
    granted_micro: int = 0
    spent_micro: int = 0
    expired_micro: int = 0
    adjusted_micro: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(*(getattr(self, name) + getattr(other, name) for name in AMOUNT_NAMES))

    @property
    def in_balance(self) -> bool:
        paid_in = self.granted_micro - self.spent_micro - self.expired_micro + self.adjusted_micro
        return self.available_micro + self.held_micro == paid_in


AMOUNT_NAMES = tuple(field.name for field in fields(Amounts))


def granting(amount_micro: int) -> Amounts:
    return Amounts(available_micro=amount_micro, granted_micro=amount_micro)


def holding(amount_micro: int) -> Amounts:
    return Amounts(available_micro=-amount_micro, held_micro=amount_micro)


def returning(amount_micro: int) -> Amounts:
    """A release, an expiry or a refusal: the whole hold becomes available again."""
    return Amounts(available_micro=amount_micro, held_micro=-amount_micro)


def settling(amount_micro: int, cost_micro: int) -> Amounts:
    """The cost is spent and the rest returns; a cost above the hold is taken from what is available, below zero too."""
    return Amounts(available_micro=amount_micro - cost_micro, held_micro=-amount_micro, spent_micro=cost_micro)


def lapsing(amount_micro: int) -> Amounts:
    return Amounts(available_micro=-amount_micro, expired_micro=amount_micro)


def charging(amount_micro: int) -> Amounts:
    """A correction in our favour, such as a cost learned too late for its hold."""
    return Amounts(available_micro=-amount_micro, adjusted_micro=-amount_micro)


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What decides when a grant burns and when it lapses. `expires_at` None: never."""

    id: str
    priority: int
    promotional: bool
    granted_at: datetime
    expires_at: datetime | None

    def alive_at(self, moment: datetime) -> bool:
        return self.expires_at is None or self.expires_at > moment


@dataclass(frozen=True, kw_only=True)
class Grant(Terms):
    """Credits given: bought, part of a plan, a promotion, a correction. `expired_micro`: how much lapsed so far."""

    amount_micro: int
    source: str
    note: str
    expired_micro: int = 0


def burn_order(grant: Terms) -> tuple[int, datetime, bool, datetime, str]:
    """Which grant pays first: priority, soonest expiry, promotional before paid, oldest."""
    return (grant.priority, grant.expires_at or FOREVER, not grant.promotional, grant.granted_at, grant.id)


@dataclass(frozen=True, kw_only=True)
class Hold:
    """Credits set aside for one piece of work. `cost_micro` is None unless it was settled."""

    id: str
    uid: str
    amount_micro: int
    purpose: str
    ref: Mapping[str, str]
    state: HoldState
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None = None
    cost_micro: int | None = None


@dataclass(frozen=True, kw_only=True)
class Account:
    """The balance of one user. `next_expiry_ms`: no grant with anything left expires earlier (Unix time)."""

    uid: str
    amounts: Amounts
    next_expiry_ms: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the ledger, never changed. `ref` says what it was for; `terms` come with a grant's entry only."""

    id: str
    kind: EntryKind
    amounts: Amounts
    at: datetime
    hold_id: str | None = None
    grant_id: str | None = None
    ref: Mapping[str, str] = field(default_factory=dict)
    terms: Terms | None = None


def grant_entry(grant: Grant) -> Entry:
    terms = Terms(**{each.name: getattr(grant, each.name) for each in fields(Terms)})
    return Entry(
        id=f"{grant.id}.grant",
        kind="grant",
        amounts=granting(grant.amount_micro),
        at=grant.granted_at,
        grant_id=grant.id,
        ref={"source": grant.source},
        terms=terms,
    )


def hold_entry(hold: Hold) -> Entry:
    return Entry(
        id=f"{hold.id}.hold",
        kind="hold",
        amounts=holding(hold.amount_micro),
        at=hold.created_at,
        hold_id=hold.id,
        ref={"purpose": hold.purpose, **hold.ref},
    )


def end_entry(hold: Hold, state: EndState, *, cost_micro: int | None, at: datetime, ref: Mapping[str, str]) -> Entry:
    """The end of a hold. Its id is the same whatever the kind, so a hold can have only one."""
    amounts = returning(hold.amount_micro) if cost_micro is None else settling(hold.amount_micro, cost_micro)
    return Entry(
        id=f"{hold.id}.end",
        kind=END_KINDS[state],
        amounts=amounts,
        at=at,
        hold_id=hold.id,
        ref={"purpose": hold.purpose, **hold.ref, **ref},
    )


def late_cost_entry(hold: Hold, cost_micro: int, *, at: datetime, ref: Mapping[str, str]) -> Entry:
    return Entry(
        id=f"{hold.id}.late",
        kind="adjust",
        amounts=charging(cost_micro),
        at=at,
        hold_id=hold.id,
        ref={"purpose": hold.purpose, **hold.ref, **ref},
    )


def lapse_entry(grant_id: str, amount_micro: int, *, remaining_micro: int, at: datetime) -> Entry:
    """A grant may lapse in parts, as holds on it end; what remained before each part keeps their ids apart."""
    return Entry(
        id=f"{grant_id}.lapse.{remaining_micro}",
        kind="expire_grant",
        amounts=lapsing(amount_micro),
        at=at,
        grant_id=grant_id,
    )


@dataclass
class OpenHold:
    """An open hold in a replay: what it has reserved of which grant. `covered`: it was, in full, when it was made."""

    amount_micro: int
    covered: bool = False
    reserved_micro: dict[str, int] = field(default_factory=dict)

    @property
    def uncovered_micro(self) -> int:
        return self.amount_micro - sum(self.reserved_micro.values())


@dataclass
class Ledger:
    """The state that the entries add up to. Grants with nothing left are dropped, so it stays small."""

    totals: Amounts = field(default_factory=Amounts)
    debt_micro: int = 0
    grants: dict[str, Terms] = field(default_factory=dict)
    free_micro: dict[str, int] = field(default_factory=dict)
    holds: dict[str, OpenHold] = field(default_factory=dict)

    def apply(self, entry: Entry) -> None:
        """Raises BrokenHistory when the entry cannot follow on those before it."""
        self.totals += entry.amounts
        match entry.kind:
            case "grant":
                self._add_grant(entry)
            case "hold":
                self._open_hold(entry)
            case "settle":
                self._settle(entry)
            case "release" | "expire_hold" | "refuse":
                self._give_back(self._close_hold(entry).reserved_micro)
            case "adjust":
                self._burn_free(-entry.amounts.adjusted_micro, alive_at=entry.at)
            case "expire_grant":
                self._lapse(entry)
        self._cover_shortfall(entry.at)
        self._drop_empty_grants()

    def remaining_micro(self, grant_id: str) -> int:
        """What is left of a grant: free, or backing an open hold."""
        reserved = sum(hold.reserved_micro.get(grant_id, 0) for hold in self.holds.values())
        return self.free_micro.get(grant_id, 0) + reserved

    def due_entries(self, now: datetime) -> list[Entry]:
        """What has to lapse: the free credits of the grants that have expired."""
        return [
            lapse_entry(grant_id, free, remaining_micro=self.remaining_micro(grant_id), at=now)
            for grant_id, free in self.free_micro.items()
            if free and not self.grants[grant_id].alive_at(now)
        ]

    def next_expiry_ms(self) -> int:
        """The soonest expiry among the grants with anything left. Past while a dead grant still backs a hold."""
        return min((unix_ms(terms.expires_at) for terms in self.grants.values() if terms.expires_at), default=NEVER_MS)

    @property
    def adds_up(self) -> bool:
        """The relations of the module's docstring."""
        remaining = sum(self.remaining_micro(grant_id) for grant_id in self.grants)
        uncovered = sum(hold.uncovered_micro for hold in self.holds.values())
        return (
            self.totals.in_balance
            and remaining - self.debt_micro == self.totals.available_micro + self.totals.held_micro
            and sum(self.free_micro.values()) - self.debt_micro - uncovered == self.totals.available_micro
            and sum(hold.amount_micro for hold in self.holds.values()) == self.totals.held_micro
        )

    def _add_grant(self, entry: Entry) -> None:
        if entry.terms is None or entry.grant_id in self.grants:
            raise BrokenHistory(f"The grant of {entry.id} has no terms, or is there already.")
        self.grants[entry.terms.id] = entry.terms
        self.free_micro[entry.terms.id] = entry.amounts.granted_micro

    def _open_hold(self, entry: Entry) -> None:
        if entry.hold_id is None or entry.hold_id in self.holds:
            raise BrokenHistory(f"The hold of {entry.id} has no id, or is there already.")
        hold = OpenHold(amount_micro=entry.amounts.held_micro)
        self._reserve(hold, alive_at=entry.at)
        hold.covered = hold.uncovered_micro == 0
        self.holds[entry.hold_id] = hold

    def _close_hold(self, entry: Entry) -> OpenHold:
        hold = self.holds.pop(entry.hold_id or "", None)
        if hold is None or hold.amount_micro != -entry.amounts.held_micro:
            raise BrokenHistory(f"{entry.id} ends a hold that is not open with this amount.")
        return hold

    def _settle(self, entry: Entry) -> None:
        hold = self._close_hold(entry)
        unpaid = entry.amounts.spent_micro
        for grant_id in self._in_burn_order(hold.reserved_micro):
            burned = min(hold.reserved_micro[grant_id], unpaid)
            hold.reserved_micro[grant_id] -= burned
            unpaid -= burned
        self._give_back(hold.reserved_micro)
        self._burn_free(unpaid, alive_at=entry.at)

    def _give_back(self, reserved_micro: Mapping[str, int]) -> None:
        for grant_id, amount in reserved_micro.items():
            self.free_micro[grant_id] += amount

    def _lapse(self, entry: Entry) -> None:
        lapsed = entry.amounts.expired_micro
        if self.free_micro.get(entry.grant_id or "", 0) < lapsed:
            raise BrokenHistory(f"{entry.id} lets more lapse than is free of the grant.")
        self.free_micro[entry.grant_id or ""] -= lapsed

    def _burn_free(self, amount_micro: int, *, alive_at: datetime) -> None:
        """Pay from free credits; what they cannot pay is debt."""
        self.debt_micro += amount_micro - sum(self._take_free(amount_micro, alive_at=alive_at).values())

    def _reserve(self, hold: OpenHold, *, alive_at: datetime) -> None:
        for grant_id, taken in self._take_free(hold.uncovered_micro, alive_at=alive_at).items():
            hold.reserved_micro[grant_id] = hold.reserved_micro.get(grant_id, 0) + taken

    def _cover_shortfall(self, at: datetime) -> None:
        """What has come free pays the debt, then the oldest holds that were not covered."""
        if not any(self.free_micro.values()):
            return
        self.debt_micro -= sum(self._take_free(self.debt_micro, alive_at=at).values())
        for hold in self.holds.values():
            self._reserve(hold, alive_at=at)

    def _take_free(self, wanted_micro: int, *, alive_at: datetime) -> dict[str, int]:
        taken: dict[str, int] = {}
        for grant_id in self._in_burn_order(self.grants) if wanted_micro else ():
            part = min(self.free_micro[grant_id], wanted_micro)
            if part and self.grants[grant_id].alive_at(alive_at):
                taken[grant_id] = part
                self.free_micro[grant_id] -= part
                wanted_micro -= part
        return taken

    def _in_burn_order(self, grant_ids: Iterable[str]) -> list[str]:
        return sorted(grant_ids, key=lambda grant_id: burn_order(self.grants[grant_id]))

    def _drop_empty_grants(self) -> None:
        for grant_id in [each for each, free in self.free_micro.items() if not free]:
            if not self.remaining_micro(grant_id):
                del self.grants[grant_id], self.free_micro[grant_id]

    def to_json(self) -> str:
        return json.dumps(
            {
                "totals": [getattr(self.totals, name) for name in AMOUNT_NAMES],
                "debt_micro": self.debt_micro,
                "grants": [_terms_to_json(terms, self.free_micro[terms.id]) for terms in self.grants.values()],
                "holds": {
                    hold_id: [hold.amount_micro, hold.covered, hold.reserved_micro]
                    for hold_id, hold in self.holds.items()
                },
            },
            separators=(",", ":"),
        )

    @classmethod
    def from_json(cls, text: str) -> Ledger:
        document = json.loads(text)
        ledger = cls(totals=Amounts(*document["totals"]), debt_micro=document["debt_micro"])
        for item in document["grants"]:
            terms = _terms_from_json(item)
            ledger.grants[terms.id] = terms
            ledger.free_micro[terms.id] = item["free_micro"]
        for hold_id, (amount, covered, reserved) in document["holds"].items():
            ledger.holds[hold_id] = OpenHold(amount, covered, reserved)
        return ledger


def replay(entries: Iterable[Entry], onto: Ledger | None = None) -> Ledger:
    """What the entries, in the order they were committed, add up to. Raises BrokenHistory."""
    ledger = onto if onto is not None else Ledger()
    for entry in entries:
        ledger.apply(entry)
    return ledger


def _terms_to_json(terms: Terms, free_micro: int) -> dict[str, Any]:
    return {
        "id": terms.id,
        "priority": terms.priority,
        "promotional": terms.promotional,
        "granted_at": terms.granted_at.isoformat(),
        "expires_at": terms.expires_at.isoformat() if terms.expires_at else None,
        "free_micro": free_micro,
    }


def _terms_from_json(item: Mapping[str, Any]) -> Terms:
    expires_at = item["expires_at"]
    return Terms(
        id=item["id"],
        priority=item["priority"],
        promotional=item["promotional"],
        granted_at=datetime.fromisoformat(item["granted_at"]),
        expires_at=datetime.fromisoformat(expires_at) if expires_at else None,
    )
