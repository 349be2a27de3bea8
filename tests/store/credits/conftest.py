"""A user with credits, a clock that stands still, and short ways to say what most tests say."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from functions.credits import repository, service

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
TTL = timedelta(minutes=10)


@dataclass
class Wallet:
    """One user's account with the arguments filled in that a test does not care about."""

    uid: str
    now: datetime = NOW

    def grant(self, key, amount_micro, **content):
        return service.grant(self.uid, key, amount_micro, now=self.now, **({"source": "test"} | content))

    def hold(self, key, amount_micro, *, purpose="test", ref=None, also=None, undo=None):
        return service.hold(
            self.uid,
            key,
            amount_micro,
            purpose=purpose,
            ref=ref or {},
            ttl=TTL,
            now=self.now,
            also=also,
            undo=undo,
        )

    def settle(self, hold, cost_micro):
        return service.settle(hold, cost_micro, now=self.now)

    def release(self, hold):
        return service.release(hold, now=self.now, reason="test")

    def stored_hold(self, hold_id):
        found = service.find_hold(self.uid, hold_id)
        assert found is not None
        return found

    def stored_grant(self, grant_id):
        found = repository.find_grant(self.uid, grant_id)
        assert found is not None
        return found

    @property
    def reading(self):
        found = repository.find_reading(self.uid)
        assert found is not None
        return found

    @property
    def history(self):
        found = repository.find_history(self.uid)
        assert found is not None
        return found

    @property
    def amounts(self):
        return service.get_account(self.uid).amounts

    @property
    def available_micro(self):
        return self.amounts.available_micro

    @property
    def held_micro(self):
        return self.amounts.held_micro

    @property
    def entries(self):
        """All entries by id."""
        return {entry.id: entry for entry in service.list_entries(self.uid, 1000, None)[0]}

    @property
    def drifts(self):
        return service.verify_account(self.uid)


@pytest.fixture
def wallet(uid):
    return Wallet(uid)
