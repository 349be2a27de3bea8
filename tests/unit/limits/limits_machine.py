"""One made-up history for any implementation of the limits, next to the reference model."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Protocol

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from shared.limits.gcra import Bucket, Slot, bucket_standing, slot_standing
from shared.limits.policies import Concurrency, Policy
from tests.unit.limits.reference_model import Model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.limits.gcra import Verdict

HOUR_S = 3600
# One unit takes an hour or more to come back: the milliseconds that a real store needs for a call decide nothing.
POLICIES = (
    Policy("three", 3, window_s=3 * HOUR_S),
    Policy("seven", 7, window_s=14 * HOUR_S),
    Policy("one", 1, window_s=HOUR_S),
)
GENERATIONS = Concurrency("generations", 2)
HALF_AN_HOUR_US = HOUR_S * 1_000_000 // 2


class Limits(Protocol):
    """What is held against the model."""

    lease_us: int | None

    def admit(self, buckets: Sequence[Bucket], slot: Slot | None) -> Verdict: ...
    def charge(self, bucket: Bucket) -> None: ...
    def release(self, slot: Slot) -> None: ...
    def advance(self, us: int) -> None: ...
    def close(self) -> None: ...


class LimitsMachine(RuleBasedStateMachine):
    """Each rule does the same to both and compares what they say."""

    def make(self) -> Limits:
        raise NotImplementedError

    def __init__(self):
        super().__init__()
        self.prefix = f"machine:{{{uuid.uuid4().hex}}}"
        self.limits = self.make()
        self.model = Model(lease_us=self.limits.lease_us)
        self.taken: list[Slot] = []

    def bucket(self, index: int, cost: int) -> Bucket:
        policy = POLICIES[index]
        return Bucket(f"{self.prefix}:{policy.name}", policy, min(cost, policy.quota))

    @rule(
        costs=st.dictionaries(st.integers(0, len(POLICIES) - 1), st.integers(0, 4), min_size=1),
        takes_slot=st.booleans(),
    )
    def admit(self, costs, takes_slot):
        buckets = [self.bucket(index, cost) for index, cost in costs.items()]
        slot = Slot(f"{self.prefix}:slots", uuid.uuid4().hex, GENERATIONS) if takes_slot else None
        in_use = self.model.in_use(slot) if slot else 0
        verdict = self.limits.admit(buckets, slot)
        assert verdict.admitted is self.model.admit(buckets, slot)
        assert verdict.slots_in_use == in_use
        for bucket, used_us in zip(buckets, verdict.used_us, strict=True):
            standing = bucket_standing(bucket, used_us, admitted=verdict.admitted)
            assert standing.remaining == self.model.remaining(bucket)
        if slot:
            standing = slot_standing(slot, verdict.slots_in_use, admitted=verdict.admitted)
            assert standing.remaining == max(GENERATIONS.slots - self.model.in_use(slot), 0)
        if slot and verdict.admitted:
            self.taken.append(slot)

    @rule(index=st.integers(0, len(POLICIES) - 1), cost=st.integers(1, 60))
    def charge(self, index, cost):
        policy = POLICIES[index]
        bucket = Bucket(f"{self.prefix}:{policy.name}", policy, cost)
        self.limits.charge(bucket)
        self.model.charge(bucket)

    @precondition(lambda self: self.taken)
    @rule(data=st.data())
    def release(self, data):
        """Also one that was released before, or whose lease has ended."""
        slot = data.draw(st.sampled_from(self.taken))
        self.limits.release(slot)
        self.model.release(slot)

    @rule(halves=st.integers(1, 20))
    def time_passes(self, halves):
        self.limits.advance(halves * HALF_AN_HOUR_US)
        self.model.now_us += halves * HALF_AN_HOUR_US

    def teardown(self):
        for slot in self.taken:
            self.limits.release(slot)
        self.limits.close()
