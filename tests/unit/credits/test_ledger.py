"""Which grant pays for what: single cases by hand, and properties over histories that Hypothesis makes up."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from functions.credits.domain import (
    NEVER_MS,
    Amounts,
    BrokenHistory,
    EndState,
    Grant,
    Hold,
    Ledger,
    Terms,
    burn_order,
    end_entry,
    grant_entry,
    hold_entry,
    lapse_entry,
    late_cost_entry,
    replay,
    unix_ms,
)
from tests.unit.credits.histories import HOUR, OPERATIONS, START, History


def a_grant(grant_id, amount_micro=10, *, hours=None, **terms):
    defaults: dict[str, Any] = {"priority": 50, "promotional": False, "granted_at": START, "source": "test", "note": ""}
    expires_at = None if hours is None else START + hours * HOUR
    return Grant(id=grant_id, amount_micro=amount_micro, expires_at=expires_at, **(defaults | terms))


def a_hold(hold_id, amount_micro, *, at=START):
    return Hold(
        id=hold_id,
        uid="u",
        amount_micro=amount_micro,
        purpose="test",
        ref={"generation_id": "gen_1"},
        state="open",
        created_at=at,
        expires_at=at + HOUR,
    )


def settled(hold, cost_micro, *, at=START):
    return end_entry(hold, "settled", cost_micro=cost_micro, at=at, ref={})


def released(hold, *, at=START):
    return end_entry(hold, "released", cost_micro=None, at=at, ref={})


def left_of(ledger):
    return {grant_id: ledger.remaining_micro(grant_id) for grant_id in ledger.grants}


class TestBurnOrder:
    @pytest.mark.parametrize(
        ("first", "second"),
        [
            (a_grant("b", priority=1), a_grant("a", priority=2, hours=1)),
            (a_grant("b", hours=1), a_grant("a", hours=2, promotional=True)),
            (a_grant("b", hours=1), a_grant("a")),
            (a_grant("b", promotional=True), a_grant("a", granted_at=START - HOUR)),
            (a_grant("b", granted_at=START - HOUR), a_grant("a")),
            (a_grant("a"), a_grant("b")),
        ],
        ids=["priority", "soonest expiry", "expiring before lasting", "promotional", "oldest", "id"],
    )
    def test_first_grant_pays_before_the_second_whichever_came_first(self, first, second):
        assert burn_order(first) < burn_order(second)
        hold = a_hold("h", 15)
        for grants in ([first, second], [second, first]):
            ledger = replay([*map(grant_entry, grants), hold_entry(hold), settled(hold, 12)])
            assert left_of(ledger) == {second.id: 8}

    def test_partial_settlement_burns_what_was_reserved_in_order_and_returns_the_rest(self):
        hold = a_hold("h", 25)
        grants = [a_grant("lasting"), a_grant("soon", hours=1), a_grant("later", hours=2)]
        ledger = replay([*map(grant_entry, grants), hold_entry(hold), settled(hold, 13)])
        assert left_of(ledger) == {"later": 7, "lasting": 10}

    def test_hold_keeps_what_it_reserved_when_a_grant_comes_that_would_pay_first(self):
        hold = a_hold("h", 10)
        entries = [grant_entry(a_grant("old")), hold_entry(hold), grant_entry(a_grant("new", priority=1))]
        assert left_of(replay([*entries, settled(hold, 10)])) == {"new": 10}


class TestDebt:
    def test_cost_that_no_grant_covers_is_debt(self):
        hold = a_hold("h", 10)
        ledger = replay([grant_entry(a_grant("g")), hold_entry(hold), settled(hold, 13)])
        assert (ledger.debt_micro, ledger.totals.available_micro) == (3, -3)

    def test_next_grant_pays_the_debt_first(self):
        hold = a_hold("h", 10)
        entries = [grant_entry(a_grant("g")), hold_entry(hold), settled(hold, 13), grant_entry(a_grant("next"))]
        ledger = replay(entries)
        assert (ledger.debt_micro, left_of(ledger)) == (0, {"next": 7})

    def test_released_credits_pay_the_debt_too(self):
        first, second = a_hold("h1", 5), a_hold("h2", 5)
        entries = [grant_entry(a_grant("g")), hold_entry(first), hold_entry(second), settled(first, 8)]
        assert replay(entries).debt_micro == 3
        ledger = replay([*entries, released(second)])
        assert (ledger.debt_micro, left_of(ledger)) == (0, {"g": 2})

    def test_late_cost_burns_what_is_alive(self):
        hold = a_hold("h", 10)
        entries = [grant_entry(a_grant("g", hours=1)), grant_entry(a_grant("g2")), hold_entry(hold), released(hold)]
        late = late_cost_entry(hold, 4, at=START + HOUR, ref={})
        assert left_of(replay([*entries, late])) == {"g": 10, "g2": 6}


class TestExpiry:
    def test_expired_grant_covers_no_hold(self):
        late = a_hold("h", 5, at=START + HOUR)
        ledger = replay([grant_entry(a_grant("g", hours=1)), hold_entry(late)])
        assert not ledger.holds["h"].covered
        assert ledger.totals.available_micro == 5

    def test_only_what_is_free_of_an_expired_grant_lapses(self):
        hold, late = a_hold("h", 7), START + HOUR
        ledger = replay([grant_entry(a_grant("g", hours=1)), hold_entry(hold)])
        assert ledger.due_entries(late - timedelta(microseconds=1)) == []
        (lapse,) = ledger.due_entries(late)
        assert lapse.amounts == Amounts(available_micro=-3, expired_micro=3)
        replay([lapse], onto=ledger)
        assert ledger.next_expiry_ms() == unix_ms(late)
        replay([settled(hold, 5, at=late)], onto=ledger)
        (rest,) = ledger.due_entries(late)
        assert rest.amounts.expired_micro == 2
        assert rest.id != lapse.id
        replay([rest], onto=ledger)
        assert (ledger.grants, ledger.next_expiry_ms()) == ({}, NEVER_MS)

    def test_settlement_above_its_hold_takes_nothing_from_a_grant_that_died_meanwhile(self):
        hold = a_hold("h", 5)
        ledger = replay([grant_entry(a_grant("g", hours=1)), hold_entry(hold), settled(hold, 8, at=START + HOUR)])
        assert (ledger.debt_micro, left_of(ledger)) == (3, {"g": 5})

    def test_expiry_in_unix_time_is_rounded_down(self):
        assert unix_ms(START + timedelta(microseconds=1_999)) == unix_ms(START) + 1


class TestEntries:
    def test_entry_says_what_it_was_for(self):
        hold = a_hold("h", 5)
        assert hold_entry(hold).ref == {"purpose": "test", "generation_id": "gen_1"}
        end = end_entry(hold, "released", cost_micro=None, at=START, ref={"reason": "stopped"})
        assert end.ref == {"purpose": "test", "generation_id": "gen_1", "reason": "stopped"}

    def test_every_end_of_a_hold_has_the_same_id_so_only_one_can_be_stored(self):
        hold = a_hold("h", 5)
        states: tuple[EndState, ...] = get_args(EndState)
        ends = [end_entry(hold, state, cost_micro=None, at=START, ref={}) for state in states]
        assert {end.id for end in ends} == {"h.end"}
        assert {end.kind for end in ends} == {"settle", "release", "expire_hold", "refuse"}

    def test_grant_entry_carries_its_terms_and_nothing_that_changes(self):
        entry = grant_entry(a_grant("g", hours=1, priority=7, promotional=True))
        assert entry.terms == Terms(id="g", priority=7, promotional=True, granted_at=START, expires_at=START + HOUR)


class TestBrokenHistory:
    @pytest.mark.parametrize(
        "entries",
        [
            [settled(a_hold("h", 5), 5)],
            [hold_entry(a_hold("h", 5)), settled(a_hold("h", 6), 5)],
            [hold_entry(a_hold("h", 5)), released(a_hold("h", 5)), released(a_hold("h", 5))],
            [hold_entry(a_hold("h", 5)), hold_entry(a_hold("h", 5))],
            [grant_entry(a_grant("g")), grant_entry(a_grant("g"))],
            [replace(grant_entry(a_grant("g")), terms=None)],
            [grant_entry(a_grant("g")), lapse_entry("g", 11, remaining_micro=10, at=START)],
            [lapse_entry("g", 1, remaining_micro=1, at=START)],
        ],
        ids=[
            "end without hold",
            "end of another amount",
            "two ends",
            "two holds of one id",
            "two grants of one id",
            "grant without terms",
            "more lapsed than there was",
            "nothing to lapse",
        ],
    )
    def test_entries_that_contradict_each_other_are_refused(self, entries):
        with pytest.raises(BrokenHistory):
            replay(entries)


class TestProperties:
    @given(OPERATIONS)
    def test_the_relations_hold_after_every_entry(self, operations):
        ledger = Ledger()
        for entry in History().run(operations).entries:
            assert entry.amounts.in_balance
            ledger.apply(entry)
            assert ledger.adds_up
            assert ledger.debt_micro >= 0
            assert min(ledger.free_micro.values(), default=0) >= 0
            assert all(ledger.remaining_micro(grant_id) > 0 for grant_id in ledger.grants)

    @given(OPERATIONS)
    def test_free_credits_of_living_grants_are_what_is_available(self, operations):
        history = History().run([*operations, ("sweep",)])
        free = sum(history.ledger.free_micro.values())
        assert free == max(history.ledger.totals.available_micro, 0)

    @given(OPERATIONS, st.randoms(use_true_random=False))
    def test_sums_do_not_depend_on_the_order_of_the_entries(self, operations, chance):
        history = History().run(operations)
        shuffled = list(history.entries)
        chance.shuffle(shuffled)
        assert sum((entry.amounts for entry in shuffled), Amounts()) == history.ledger.totals

    @given(OPERATIONS, st.data())
    def test_going_on_from_a_checkpoint_gives_the_same_as_starting_anew(self, operations, data):
        entries = History().run(operations).entries
        cut = data.draw(st.integers(0, len(entries)))
        checkpoint = Ledger.from_json(replay(entries[:cut]).to_json())
        assert replay(entries[cut:], onto=checkpoint) == replay(entries)

    @given(OPERATIONS)
    def test_when_sweeps_run_makes_no_difference(self, operations):
        swept = History().run(operations)
        unswept = History(sweeps=False).run(operations)
        assert swept.covered == unswept.covered
        unswept.sweeps = True
        for history in (swept, unswept):
            history.sweep()
        assert swept.ledger == unswept.ledger

    @given(OPERATIONS, st.integers(1, 60))
    def test_available_after_a_hold_tells_whether_it_is_covered_while_no_grant_is_due(self, operations, amount):
        history = History().run(operations)
        assume(history.ledger.next_expiry_ms() > unix_ms(history.now))
        history.hold(amount)
        (*_, newest) = history.ledger.holds.values()
        assert newest.covered == (history.ledger.totals.available_micro >= 0)

    @given(OPERATIONS, st.integers(1, 60))
    def test_hold_takes_from_a_grant_only_when_those_before_it_are_used_up(self, operations, amount):
        history = History().run(operations)
        history.hold(amount)
        (*_, newest) = history.ledger.holds.values()
        grants = sorted(history.ledger.grants.values(), key=burn_order)
        taken = [grant for grant in grants if grant.id in newest.reserved_micro]
        for grant in grants:
            passed_over = taken and burn_order(grant) < burn_order(taken[-1]) and grant.alive_at(history.now)
            assert not (passed_over and history.ledger.free_micro[grant.id])

    @settings(max_examples=50)
    @given(OPERATIONS)
    def test_refused_hold_leaves_every_sum_and_grant_as_it_was(self, operations):
        history = History().run(operations)
        before = replay(history.entries)
        history.hold(10_000)
        history.end(len(history.holds) - 1, "refused", None)
        assert history.ledger == before
