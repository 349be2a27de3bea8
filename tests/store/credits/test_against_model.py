"""The real service on the emulator, next to the reference model, through histories that Hypothesis makes up."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from functions.credits import repository, service
from shared.errors import Conflict, InsufficientCredits, KeyReused
from tests.store.credits.reference_model import Model
from tests.store.documents import there

HOUR = timedelta(hours=1)
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
AMOUNTS = st.integers(1, 60)


class LedgerMachine(RuleBasedStateMachine):
    """Each rule does the same to both and compares the outcomes; the invariant compares the states."""

    grant_keys = Bundle("grant_keys")
    hold_keys = Bundle("hold_keys")
    open_keys = Bundle("open_keys")

    def __init__(self):
        super().__init__()
        self.uid = f"user-{uuid.uuid4().hex}"
        self.model = Model(START)
        self.grant_terms = {}
        self.opened = {}
        self.late = {}

    def give(self, key):
        return service.grant(self.uid, key, now=self.model.now, source="test", **self.grant_terms[key])

    def ask(self, key, amount):
        ref = {"key": key}
        ttl = 2 * HOUR
        return service.hold(self.uid, key, amount, purpose="test", ref=ref, ttl=ttl, now=self.model.now)

    @rule(
        target=grant_keys,
        amount=AMOUNTS,
        priority=st.sampled_from([10, 50]),
        promotional=st.booleans(),
        hours=st.sampled_from([None, 1, 3, 30]),
    )
    def grant(self, amount, priority, promotional, hours):
        key = f"g{len(self.grant_terms)}"
        expires_at = None if hours is None else self.model.now + hours * HOUR
        terms = {"priority": priority, "promotional": promotional, "expires_at": expires_at}
        self.grant_terms[key] = {"amount_micro": amount} | terms
        given = self.give(key)
        self.model.grant(key, amount, **terms)
        assert given.amount_micro == amount
        return key

    @rule(key=grant_keys)
    def grant_again(self, key):
        assert self.give(key).id == key

    @rule(key=grant_keys)
    def grant_again_with_other_content(self, key):
        self.grant_terms[key]["amount_micro"] += 1
        with pytest.raises(KeyReused, match="amount_micro"):
            self.give(key)
        self.grant_terms[key]["amount_micro"] -= 1

    @rule(targets=(hold_keys, open_keys), amount=AMOUNTS)
    def hold(self, amount):
        key = f"h{len(self.model.holds)}"
        if not self.model.grants:
            with pytest.raises(InsufficientCredits):
                self.ask("none-yet", amount)
            return multiple()
        if self.model.hold(key, amount):
            self.opened[key] = self.ask(key, amount)
        else:
            with pytest.raises(InsufficientCredits):
                self.ask(key, amount)
            self.opened[key] = repository.find_hold(self.uid, key)
        return key

    @rule(key=hold_keys)
    def hold_again(self, key):
        hold = self.model.holds[key]
        expired = self.opened[key].expires_at <= self.model.now
        if hold.state == "refused":
            with pytest.raises(InsufficientCredits):
                self.ask(key, hold.amount)
        elif hold.state == "open" and not expired:
            assert self.ask(key, hold.amount) == self.opened[key]
        else:
            if hold.state == "open":
                self.model.end(key, "expired")
            with pytest.raises(service.HoldAlreadyEnded, match=hold.state):
                self.ask(key, hold.amount)

    @rule(key=hold_keys)
    def hold_again_with_other_content(self, key):
        with pytest.raises(KeyReused, match="amount_micro"):
            self.ask(key, self.model.holds[key].amount + 1)

    @rule(key=consumes(open_keys), percent=st.sampled_from([0, 30, 100, 250]))
    def settle(self, key, percent):
        cost = self.model.holds[key].amount * percent // 100
        self.end(key, "settled", cost, lambda: service.settle(self.opened[key], cost, now=self.model.now))

    @rule(key=consumes(open_keys))
    def release(self, key):
        self.end(key, "released", None, lambda: service.release(self.opened[key], now=self.model.now, reason="test"))

    @rule(key=hold_keys)
    def release_at_any_time(self, key):
        self.end(key, "released", None, lambda: service.release(self.opened[key], now=self.model.now, reason="test"))

    @rule(key=hold_keys, cost=AMOUNTS)
    def settle_at_any_time(self, key, cost):
        self.end(key, "settled", cost, lambda: service.settle(self.opened[key], cost, now=self.model.now))

    def end(self, key, state, cost, call):
        hold = self.model.holds[key]
        if hold.state == "open":
            self.model.end(key, state, cost)
        if (hold.state, hold.cost) == (state, cost):
            assert call().state == state
        else:
            with pytest.raises(service.HoldAlreadyEnded, match=hold.state):
                call()

    @rule(key=hold_keys, cost=AMOUNTS)
    def late_cost(self, key, cost):
        def record():
            return service.record_late_cost(self.uid, key, cost, now=self.model.now)

        if self.model.holds[key].state in {"open", "settled"}:
            with pytest.raises(Conflict):
                record()
        elif self.late.setdefault(key, cost) == cost:
            first_time = repository.find_entry(self.uid, f"{key}.late") is None
            assert record().amounts.adjusted_micro == -cost
            if first_time:
                self.model.charge(cost)
        else:
            with pytest.raises(KeyReused, match="cost_micro"):
                record()

    @rule(hours=st.sampled_from([1, 2, 10]))
    def time_passes(self, hours):
        self.model.advance(hours * HOUR)

    @rule()
    def sweep_holds(self):
        for hold in service.list_expired_holds(self.model.now, limit=1000):
            if hold.uid == self.uid:
                service.expire_hold(hold, now=self.model.now)
                self.model.end(hold.id, "expired")
        overdue = [key for key, hold in self.opened.items() if hold.expires_at <= self.model.now]
        assert not [key for key in overdue if self.model.holds[key].state == "open"]

    @rule()
    def sweep_grants(self):
        service.expire_grants(self.uid, self.model.now)
        if self.model.grants:
            assert service.get_account(self.uid).amounts.available_micro == self.model.available

    @rule()
    def drop_the_checkpoint(self):
        there(repository._checkpoint(self.uid)).delete()

    @rule()
    def read_the_balance(self):
        balance = service.get_balance(self.uid, self.model.now)
        assert (balance.available_micro, balance.held_micro) == (self.model.available, self.model.held)
        assert {left.grant.id: left.remaining_micro for left in balance.grants} == self.model.remaining()

    @invariant()
    def account_and_replay_equal_the_model(self):
        if not self.model.grants:
            return
        reading = repository.find_reading(self.uid)
        assert reading is not None
        account, due = reading.account.amounts, reading.ledger.due_entries(self.model.now)
        lapses = sum(entry.amounts.expired_micro for entry in due)
        assert account == reading.ledger.totals
        assert account.available_micro - lapses == self.model.available
        assert account.expired_micro + lapses == self.model.expired
        assert account.held_micro == self.model.held
        assert account.granted_micro == self.model.granted
        assert account.spent_micro == self.model.spent
        assert account.adjusted_micro == self.model.adjusted
        assert reading.ledger.debt_micro == self.model.debt
        remaining = {key: reading.ledger.remaining_micro(key) for key in reading.ledger.grants}
        for entry in due:
            remaining[str(entry.grant_id)] -= entry.amounts.expired_micro
        assert {key: amount for key, amount in remaining.items() if amount} == self.model.remaining()

    def teardown(self):
        if self.model.grants:
            assert service.verify_account(self.uid) == []


LedgerMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLedgerAgainstModel = LedgerMachine.TestCase
