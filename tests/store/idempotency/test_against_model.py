"""Any order of attempts, answers, refusals, crashes and waiting, held against a model of what a key promises."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, rule

from shared import idempotency
from shared.errors import Conflict, InsufficientCredits, KeyReused
from shared.idempotency import KEPT, LEASE, Claim, Recorded

pytestmark = pytest.mark.timeout(300)

BODIES = (b'{"a":1}', b'{"b":2}')


@dataclass
class Record:
    """What the model knows of the stored record."""

    body: bytes
    seed: str
    holder: Claim
    lease_until: datetime
    expires_at: datetime
    first: bool = True
    answer: Recorded | None = None


class OneKey(RuleBasedStateMachine):
    """All that may happen to one key of one user."""

    claims = Bundle("claims")

    @initialize()
    def begin_somewhere(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.uid, self.key = f"user-{secrets.token_hex(8)}", "the key"
        self.record: Record | None = None
        self.answers = 0

    @rule(
        waited=st.sampled_from(
            [timedelta(seconds=1), LEASE / 2, LEASE, timedelta(hours=1), KEPT - timedelta(minutes=1), KEPT]
        )
    )
    def wait(self, waited: timedelta) -> None:
        self.now += waited

    @rule(target=claims, body=st.sampled_from(BODIES))
    def attempt(self, body: bytes) -> Claim | None:
        known = self.record if self.record and self.record.expires_at > self.now else None
        try:
            begun = idempotency.begin(
                uid=self.uid, key=self.key, operation="POST /things", fingerprint=body, now=self.now
            )
        except KeyReused:
            assert known is not None
            assert known.body != body
            return None
        except Conflict:
            assert known is not None
            assert (known.body, known.answer) == (body, None)
            assert known.lease_until > self.now
            return None
        assert known is None or known.body == body
        if isinstance(begun, Recorded):
            assert known is not None
            assert known.answer == begun
            return None
        if known is None:
            assert self.record is None or begun.seed != self.record.seed
            self.record = Record(body, begun.seed, begun, self.now + LEASE, self.now + KEPT)
            return begun
        assert (known.answer, known.seed) == (None, begun.seed)
        assert known.lease_until <= self.now
        known.holder, known.lease_until, known.first = begun, self.now + LEASE, False
        return begun

    @rule(claim=consumes(claims))
    def answer(self, claim: Claim | None) -> None:
        if claim is None:
            return
        self.answers += 1
        answer = Recorded(200, "text/plain", {}, f"answer {self.answers}".encode())
        claim.finish(answer, now=self.now)
        if self.record is not None and self.record.seed == claim.seed and self.record.answer is None:
            self.record.answer = answer

    @rule(claim=consumes(claims))
    def give_back(self, claim: Claim | None) -> None:
        if claim is None:
            return
        claim.abandon()
        if self.record is not None and self._holds(claim):
            self.record.lease_until = self.now

    @rule(claim=consumes(claims))
    def refuse(self, claim: Claim | None) -> None:
        if claim is None:
            return
        claim.abandon(InsufficientCredits())
        if self.record is None or not self._holds(claim):
            return
        if self.record.first:
            self.record = None
        else:
            self.record.lease_until = self.now

    def _holds(self, claim: Claim) -> bool:
        return self.record is not None and self.record.holder is claim and self.record.answer is None


TestOneKey = OneKey.TestCase
# How long an example takes says what else the machine is doing, and nothing about the code.
TestOneKey.settings = settings(
    max_examples=30, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
