"""Histories of one account as they may come about under concurrency: overshooting holds, late ends, sweeps or none."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from functions.credits.domain import Grant, Hold, Ledger, end_entry, grant_entry, hold_entry, late_cost_entry

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
AMOUNTS = st.integers(1, 40)

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("grant"),
            AMOUNTS,
            st.sampled_from([10, 50]),
            st.booleans(),
            st.sampled_from([None, 1, 2, 5, 20]),
        ),
        st.tuples(st.just("hold"), AMOUNTS),
        st.tuples(st.just("settle"), st.integers(0, 5), st.integers(0, 60)),
        st.tuples(st.just("give_back"), st.integers(0, 5), st.sampled_from(["released", "expired", "refused"])),
        st.tuples(st.just("late_cost"), st.integers(0, 5), AMOUNTS),
        st.tuples(st.just("wait"), st.integers(1, 6)),
        st.tuples(st.just("sweep")),
    ),
    max_size=40,
)


class History:
    """Carries out operations on a ledger; `entries` are what it wrote."""

    def __init__(self, *, sweeps=True):
        self.ledger, self.entries, self.now, self.sweeps = Ledger(), [], START, sweeps
        self.holds, self.ended, self.covered = {}, {}, {}

    def write(self, entry):
        self.entries.append(entry)
        self.ledger.apply(entry)

    def run(self, operations):
        for name, *arguments in operations:
            getattr(self, name)(*arguments)
        return self

    def grant(self, amount, priority, promotional, hours):
        grant = Grant(
            id=f"g-{self.serial('grant')}",
            priority=priority,
            promotional=promotional,
            granted_at=self.now,
            expires_at=None if hours is None else self.now + hours * HOUR,
            amount_micro=amount,
            source="test",
            note="",
        )
        self.write(grant_entry(grant))

    def serial(self, kind):
        return sum(entry.kind == kind for entry in self.entries)

    def hold(self, amount):
        hold = Hold(
            id=f"h-{self.serial('hold')}",
            uid="u",
            amount_micro=amount,
            purpose="test",
            ref={},
            state="open",
            created_at=self.now,
            expires_at=self.now + HOUR,
        )
        self.write(hold_entry(hold))
        self.holds[hold.id] = hold
        self.covered[hold.id] = self.ledger.holds[hold.id].covered

    def settle(self, which, cost):
        self.end(which, "settled", cost)

    def give_back(self, which, state):
        self.end(which, state, None)

    def end(self, which, state, cost):
        if which < len(self.holds):
            hold = self.holds.pop(list(self.holds)[which])
            self.ended[hold.id] = hold
            self.write(end_entry(hold, state, cost_micro=cost, at=self.now, ref={}))

    def late_cost(self, which, cost):
        if which < len(self.ended):
            hold = self.ended.pop(list(self.ended)[which])
            self.write(late_cost_entry(hold, cost, at=self.now, ref={}))

    def wait(self, hours):
        self.now += hours * HOUR

    def sweep(self):
        if self.sweeps:
            for entry in self.ledger.due_entries(self.now):
                self.write(entry)
