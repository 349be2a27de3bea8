"""What a credit account must do, in the plainest way: one thread, no storage, grants lapse the moment they expire."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass
class ModelGrant:
    order: tuple[Any, ...]
    expires_at: datetime | None
    free: int


@dataclass
class ModelHold:
    amount: int
    slices: list[tuple[str, int]]
    state: str = "open"
    cost: int | None = None


@dataclass
class Model:
    now: datetime
    grants: dict[str, ModelGrant] = field(default_factory=dict)
    holds: dict[str, ModelHold] = field(default_factory=dict)
    debt: int = 0
    granted: int = 0
    spent: int = 0
    expired: int = 0
    adjusted: int = 0

    @property
    def available(self):
        return sum(grant.free for grant in self.grants.values()) - self.debt

    @property
    def held(self):
        return sum(hold.amount for hold in self.holds.values() if hold.state == "open")

    def remaining(self):
        left = {key: grant.free for key, grant in self.grants.items()}
        for hold in self.holds.values():
            for key, part in hold.slices:
                left[key] += part
        return {key: amount for key, amount in left.items() if amount}

    def grant(self, key, amount, *, priority, promotional, expires_at):
        never = (1, 0.0) if expires_at is None else (0, expires_at.timestamp())
        order = (priority, never, not promotional, self.now, key)
        self.grants[key] = ModelGrant(order, expires_at, amount)
        self.granted += amount
        self.settle_up()

    def hold(self, key, amount):
        """Whether there was enough."""
        enough = self.available >= amount
        self.holds[key] = ModelHold(amount, self.take(amount) if enough else [], "open" if enough else "refused")
        return enough

    def end(self, key, state, cost=None):
        hold = self.holds[key]
        hold.state, hold.cost, slices, hold.slices = state, cost, hold.slices, []
        unpaid = cost or 0
        for grant, part in slices:
            burned = min(part, unpaid)
            unpaid -= burned
            self.grants[grant].free += part - burned
        self.spent += cost or 0
        self.debt += unpaid
        self.settle_up()

    def charge(self, cost):
        self.adjusted -= cost
        self.debt += cost
        self.settle_up()

    def advance(self, step):
        self.now += step
        self.settle_up()

    def settle_up(self):
        """Dead credits lapse, and what is free pays what is owed."""
        for grant in self.grants.values():
            if grant.expires_at is not None and grant.expires_at <= self.now:
                self.expired += grant.free
                grant.free = 0
        self.debt -= sum(part for _, part in self.take(self.debt))

    def take(self, wanted):
        taken = []
        for key, grant in sorted(self.grants.items(), key=lambda item: item[1].order):
            part = min(grant.free, wanted)
            grant.free -= part
            wanted -= part
            taken.append((key, part))
        return [(key, part) for key, part in taken if part]
