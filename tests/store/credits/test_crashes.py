"""A process dies, or an answer is lost, between any two steps: a retry or the sweepers must heal it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from functions.credits import repository, service
from shared import store
from shared.errors import InsufficientCredits, Unavailable

DAY = timedelta(days=1)


class Crashed(Exception):
    """The process is gone."""


class Commits:
    """Stands in for `store.commit`: crashes before or after its n-th commit, and counts."""

    def __init__(self, crash_at=None, *, after=False):
        self.count, self.crash_at, self.after = 0, crash_at, after
        self.commit = store.commit

    def __call__(self, batch):
        self.count += 1
        if self.count != self.crash_at:
            return self.commit(batch)
        if self.after:
            self.commit(batch)
        raise Crashed


def covered_hold(wallet):
    wallet.grant("g", 100)
    return lambda: wallet.hold("h", 60)


def refused_hold(wallet):
    wallet.grant("g", 100)
    return lambda: wallet.hold("h", 101)


def hold_on_living_credits_after_an_expiry(wallet):
    wallet.grant("dying", 100, expires_at=wallet.now + DAY)
    wallet.grant("living", 40)
    later = replace(wallet, now=wallet.now + DAY)
    return lambda: later.hold("h", 40)


def hold_on_dead_credits(wallet):
    wallet.grant("dying", 100, expires_at=wallet.now + DAY)
    wallet.grant("living", 40)
    later = replace(wallet, now=wallet.now + DAY)
    return lambda: later.hold("h", 41)


def settlement(wallet):
    wallet.grant("g", 100)
    hold = wallet.hold("h", 60)
    return lambda: wallet.settle(hold, 70)


def release(wallet):
    wallet.grant("g", 100)
    hold = wallet.hold("h", 60)
    return lambda: wallet.release(hold)


def first_grant(wallet):
    return lambda: wallet.grant("g", 100)


def sweep(wallet):
    wallet.grant("one", 100, expires_at=wallet.now + DAY)
    wallet.grant("two", 30, expires_at=wallet.now + DAY)
    wallet.hold("h", 110)
    return lambda: service.expire_grants(wallet.uid, wallet.now + DAY).totals


def late_cost(wallet):
    wallet.grant("g", 100)
    wallet.release(wallet.hold("h", 60))
    return lambda: service.record_late_cost(wallet.uid, "h", 70, now=wallet.now)


def outcome_of(operation):
    try:
        return operation()
    except InsufficientCredits as error:
        return error.details["needed_micro"]


STEPS = [
    *[(scenario, 1) for scenario in (covered_hold, settlement, release, first_grant, sweep, late_cost)],
    *[(refused_hold, step) for step in (1, 2)],
    *[(hold_on_living_credits_after_an_expiry, step) for step in (1, 2)],
    *[(hold_on_dead_credits, step) for step in (1, 2, 3)],
]
SCENARIOS = sorted({scenario for scenario, _ in STEPS}, key=lambda scenario: scenario.__name__)
crash_anywhere = pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
at_every_step = pytest.mark.parametrize(("scenario", "step"), STEPS, ids=lambda value: getattr(value, "__name__", None))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_crashes_below_come_at_every_commit_there_is(scenario, wallet, monkeypatch):
    operation = scenario(wallet)
    commits = Commits()
    monkeypatch.setattr(store, "commit", commits)
    outcome_of(operation)
    assert commits.count == max(step for each, step in STEPS if each is scenario)


@crash_anywhere
@at_every_step
def test_a_retry_after_a_crash_gives_the_outcome_of_an_undisturbed_run(scenario, step, after, wallet, monkeypatch):
    undisturbed = replace(wallet, uid=f"{wallet.uid}-twin")
    expected = outcome_of(scenario(undisturbed))
    operation = scenario(wallet)
    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", Commits(step, after=after))
        with pytest.raises(Crashed):
            operation()
    outcome = outcome_of(operation)
    assert (replace(outcome, uid=undisturbed.uid) if isinstance(outcome, service.Hold) else outcome) == expected
    for each in (wallet, undisturbed):
        service.expire_grants(each.uid, wallet.now + DAY)
    assert wallet.amounts == undisturbed.amounts
    assert set(wallet.entries) == set(undisturbed.entries)
    assert wallet.drifts == []


@crash_anywhere
@at_every_step
def test_the_sweepers_heal_a_crash_that_nobody_retries(scenario, step, after, wallet, monkeypatch):
    operation = scenario(wallet)
    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", Commits(step, after=after))
        with pytest.raises(Crashed):
            operation()
    later = wallet.now + 2 * DAY
    for hold in service.list_expired_holds(later, limit=1000):
        if hold.uid == wallet.uid:
            service.expire_hold(hold, now=later)
    service.expire_grants(wallet.uid, later)
    if repository.find_account(wallet.uid) is None:
        assert (scenario, after) == (first_grant, False)
        return
    amounts = wallet.amounts
    assert amounts.held_micro == 0
    assert amounts.available_micro == amounts.granted_micro - amounts.spent_micro - amounts.expired_micro + (
        amounts.adjusted_micro
    )
    ends = [entry for entry in wallet.entries.values() if entry.id == "h.end"]
    assert len(ends) == (1 if repository.find_hold(wallet.uid, "h") else 0)
    assert wallet.drifts == []


def test_an_overshooting_hold_whose_process_died_blocks_the_account_until_the_sweep_and_no_longer(wallet, monkeypatch):
    wallet.grant("g", 100)
    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", Commits(1, after=True))
        with pytest.raises(Crashed):
            wallet.hold("h", 1_000)
    assert wallet.available_micro == -900
    with pytest.raises(InsufficientCredits):
        wallet.hold("small", 1)
    (orphan,) = [hold for hold in repository.list_holds(wallet.uid) if hold.state == "open"]
    service.expire_hold(orphan, now=orphan.expires_at)
    assert wallet.hold("small-2", 1).state == "open"
    assert wallet.drifts == []


def test_a_retry_stays_refused_when_a_grant_came_between(wallet, monkeypatch):
    wallet.grant("g", 100)
    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", Commits(1, after=True))
        with pytest.raises(Crashed):
            wallet.hold("h", 150)
    wallet.grant("g2", 1_000)
    with pytest.raises(InsufficientCredits):
        wallet.hold("h", 150)
    assert (wallet.available_micro, wallet.held_micro) == (1_100, 0)
    assert wallet.drifts == []


def test_a_retry_of_a_covered_hold_is_not_refused_because_another_hold_overshoots(wallet, monkeypatch):
    wallet.grant("g", 100)
    first = wallet.hold("good", 60)
    with monkeypatch.context() as patched:
        patched.setattr(store, "commit", Commits(1, after=True))
        with pytest.raises(Crashed):
            wallet.hold("greedy", 1_000)
    assert wallet.hold("good", 60) == first
    assert wallet.drifts == []


@pytest.mark.parametrize("outages", [1, service.REFUSE_ATTEMPTS])
def test_refusal_is_tried_again_while_the_database_is_out_of_reach(wallet, monkeypatch, outages):
    wallet.grant("g", 100)
    commit, left = store.commit, [None, *[Unavailable] * outages]

    def sometimes_out_of_reach(batch):
        problem = left.pop(0) if left else None
        if problem is not None:
            raise problem
        return commit(batch)

    monkeypatch.setattr(store, "commit", sometimes_out_of_reach)
    with pytest.raises(InsufficientCredits if outages < service.REFUSE_ATTEMPTS else Unavailable):
        wallet.hold("h", 150)
    with pytest.raises(InsufficientCredits):
        wallet.hold("h", 150)
    assert (wallet.available_micro, wallet.held_micro) == (100, 0)
    assert wallet.drifts == []
