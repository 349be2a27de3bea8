"""Many callers on one account at the same moment."""

import statistics
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from types import SimpleNamespace

import pytest

from functions.credits import repository, service
from shared.clients import firestore_client
from shared.errors import AppError, InsufficientCredits, Unavailable

DAY = timedelta(days=1)


def all_at_once(calls):
    """Run the calls together; give back their results, or the errors they raised by name, and print their median."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        started = time.perf_counter()
        try:
            return call(), time.perf_counter() - started
        except AppError as error:
            return error, time.perf_counter() - started

    with ThreadPoolExecutor(len(calls)) as pool:
        answers = list(pool.map(run, calls))
    outcomes = [outcome for outcome, _ in answers]
    failures = Counter(type(outcome).__name__ for outcome in outcomes if isinstance(outcome, AppError))
    median_ms = statistics.median(seconds for _, seconds in answers) * 1000
    print(f"{len(calls)} calls, failures {dict(failures)}, median {median_ms:.0f} ms")
    return outcomes, failures


def test_credits_for_37_holds_let_exactly_37_of_100_concurrent_holds_through(wallet):
    wallet.grant("g", 37 * 5)
    _, failures = all_at_once([lambda key=f"h{n}": wallet.hold(key, 5) for n in range(100)])
    assert failures == {"InsufficientCredits": 63}
    assert (wallet.available_micro, wallet.held_micro) == (0, 37 * 5)
    assert Counter(entry.kind for entry in wallet.entries.values()) == {"grant": 1, "hold": 100, "refuse": 63}
    assert wallet.drifts == []


def test_mixed_work_of_50_callers_loses_nothing(wallet):
    wallet.grant("g", 3_000)
    spent = []

    def work(number):
        chance = Random(number)
        for turn in range(4):
            hold = wallet.hold(f"h{number}-{turn}", chance.randint(1, 20))
            if chance.random() < 0.3:
                wallet.release(hold)
            elif chance.random() < 0.9:
                spent.append(wallet.settle(hold, chance.randint(0, 25)).cost_micro)

    _, failures = all_at_once([lambda number=n: work(number) for n in range(50)])
    assert not failures
    amounts = wallet.amounts
    assert amounts.spent_micro == sum(spent)
    assert amounts.available_micro == 3_000 - sum(spent) - amounts.held_micro
    assert wallet.drifts == []


def test_overdrawn_mixed_work_never_holds_more_than_there_is(wallet):
    wallet.grant("g", 200)
    sizes = {f"h{n}": Random(n).randint(1, 30) for n in range(50)}
    outcomes, failures = all_at_once([lambda key=key: wallet.hold(key, sizes[key]) for key in sizes])
    held = sum(outcome.amount_micro for outcome in outcomes if isinstance(outcome, service.Hold))
    assert set(failures) == {"InsufficientCredits"}
    assert 0 < held <= 200
    assert (wallet.held_micro, wallet.available_micro) == (held, 200 - held)
    assert wallet.drifts == []


def test_every_hold_sent_twice_concurrently_happens_once(wallet):
    wallet.grant("g", 1_000)
    outcomes, failures = all_at_once([lambda key=f"h{n % 25}": wallet.hold(key, 10) for n in range(50)])
    assert not failures
    assert Counter(outcome.id for outcome in outcomes) == {f"h{n}": 2 for n in range(25)}
    assert wallet.held_micro == 250
    assert wallet.drifts == []


def test_both_senders_of_an_overdrawn_key_get_the_same_answer(wallet):
    wallet.grant("g", 100)
    keys = [f"h{n % 25}" for n in range(50)]
    outcomes, _ = all_at_once([lambda key=key: wallet.hold(key, 10) for key in keys])
    by_key = Counter((key, type(outcome).__name__) for key, outcome in zip(keys, outcomes, strict=True))
    assert sorted(by_key.values()) == [2] * 25
    assert Counter(name for _, name in by_key) == {"Hold": 10, "InsufficientCredits": 15}
    assert (wallet.available_micro, wallet.held_micro) == (0, 100)
    assert wallet.drifts == []


def test_every_grant_sent_twice_concurrently_makes_one_account_with_the_right_sum(wallet):
    outcomes, failures = all_at_once(
        [
            lambda n=n: wallet.grant(f"g{n % 25}", n % 25 + 1, expires_at=wallet.now + (n % 25 + 1) * DAY)
            for n in range(50)
        ]
    )
    assert not failures
    assert {outcome.id for outcome in outcomes} == {f"g{n}" for n in range(25)}
    assert wallet.amounts.granted_micro == wallet.available_micro == sum(range(1, 26))
    assert service.get_balance(wallet.uid, wallet.now).next_expiry_at == wallet.now + DAY
    assert wallet.drifts == []


def test_50_concurrent_settlements_and_releases_of_one_hold_end_it_once(wallet):
    wallet.grant("g", 100)
    hold = wallet.hold("h", 60)
    calls = [(lambda: wallet.settle(hold, 45)) if n % 2 else (lambda: wallet.release(hold)) for n in range(50)]
    outcomes, failures = all_at_once(calls)
    winner = wallet.stored_hold("h")
    assert failures == {"HoldAlreadyEnded": 25}
    assert all(outcome == winner for outcome in outcomes if isinstance(outcome, service.Hold))
    assert {outcome.details["state"] for outcome in outcomes if isinstance(outcome, AppError)} == {winner.state}
    assert wallet.available_micro == (55 if winner.state == "settled" else 100)
    assert wallet.drifts == []


def test_concurrent_holds_at_the_moment_of_an_expiry_get_only_what_is_alive(wallet):
    wallet.grant("dying", 1_000, expires_at=wallet.now + DAY)
    wallet.grant("living", 100)
    later = replace(wallet, now=wallet.now + DAY)
    outcomes, failures = all_at_once([lambda key=f"h{n}": later.hold(key, 10) for n in range(30)])
    assert set(failures) == {"InsufficientCredits"}
    held = [outcome for outcome in outcomes if isinstance(outcome, service.Hold)]
    assert len(held) == 10
    service.expire_grants(wallet.uid, later.now)
    assert (later.held_micro, later.available_micro, later.amounts.expired_micro) == (100, 0, 1_000)
    assert later.drifts == []


def test_concurrent_sweeps_let_a_grant_lapse_once(wallet):
    wallet.grant("dying", 1_000, expires_at=wallet.now + DAY)
    _, failures = all_at_once([lambda: service.expire_grants(wallet.uid, wallet.now + DAY) for _ in range(20)])
    assert not failures
    assert wallet.amounts.expired_micro == 1_000
    assert wallet.drifts == []


def test_a_sweep_gets_through_while_holds_keep_coming(wallet):
    wallet.grant("dying", 50, expires_at=wallet.now + DAY)
    wallet.grant("living", 100_000)
    stop = threading.Event()

    def keep_holding():
        count = 0
        while not stop.wait(0.2):
            hold = wallet.hold(f"h{count}", 3)  # its clock is behind: it takes the fast path and never sweeps
            wallet.settle(hold, 2)
            count += 1
        return count

    with ThreadPoolExecutor(1) as pool:
        holder = pool.submit(keep_holding)
        time.sleep(0.5)
        try:
            service.expire_grants(wallet.uid, wallet.now + DAY)
        finally:
            stop.set()
        print(f"{holder.result()} holds around the sweep")
    service.expire_grants(wallet.uid, wallet.now + DAY)
    assert [left.grant.id for left in service.list_grants(wallet.uid)] == ["living"]
    assert wallet.drifts == []


def test_a_sweep_gives_up_by_name_when_the_account_never_rests(wallet, never_at_rest):
    wallet.grant("dying", 50, expires_at=wallet.now + DAY)
    with pytest.raises(Unavailable, match="too busy"):
        service.expire_grants(wallet.uid, wallet.now + DAY)
    assert never_at_rest.count == service.LAPSE_ATTEMPTS


def test_a_hold_is_decided_exactly_even_when_no_sweep_gets_through(wallet, never_at_rest):
    wallet.grant("dying", 50, expires_at=wallet.now + DAY)
    wallet.grant("living", 20)
    later = replace(wallet, now=wallet.now + DAY)
    assert later.hold("h", 20).state == "open"
    with pytest.raises(InsufficientCredits):
        later.hold("h2", 1)
    assert never_at_rest.count
    assert later.amounts.expired_micro == 0
    assert service.get_balance(wallet.uid, later.now).available_micro == 0


@pytest.fixture
def never_at_rest(monkeypatch):
    """Somebody else always changes the account between the sweep's reading and its write."""
    find_reading, counter = repository.find_reading, SimpleNamespace(count=0)

    def read_too_early(uid):
        reading = find_reading(uid)
        firestore_client().document("credit_accounts", uid).update({"updated_at": datetime.now(UTC)})
        counter.count += 1
        return reading

    monkeypatch.setattr(repository, "find_reading", read_too_early)
    return counter


def test_a_refused_burst_leaves_the_account_usable(wallet):
    wallet.grant("g", 10)
    _, failures = all_at_once([lambda key=f"big{n}": wallet.hold(key, 1_000) for n in range(20)])
    assert failures == {"InsufficientCredits": 20}
    assert wallet.hold("small", 10).state == "open"
    with pytest.raises(InsufficientCredits):
        wallet.hold("one-more", 1)
