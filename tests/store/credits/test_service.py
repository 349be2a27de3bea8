"""The ledger's use cases, one at a time, on the emulator."""

import time
from dataclasses import replace
from datetime import timedelta

import pytest
from google.cloud.firestore_v1.base_query import FieldFilter

from functions.credits import repository, service
from functions.credits.domain import Hold, Ledger, replay
from shared import holdings, store
from shared import pages as pages_module
from shared.clients import firestore_client
from shared.errors import Conflict, InsufficientCredits, InvalidRequest, KeyReused, NotFound, Unavailable
from tests.store.documents import there

DAY = timedelta(days=1)


def events_of(uid):
    query = firestore_client().collection("events").where(filter=FieldFilter("uid", "==", uid))
    return sorted((event.get("type"), event.get("data")["amount_micro"]) for event in query.stream())


def note(wallet, name="note"):
    return firestore_client().collection("test_notes").document(f"{wallet.uid}-{name}")


class TestGrant:
    def test_first_grant_makes_the_account_and_says_so_in_an_event(self, wallet):
        wallet.grant("g", 500)
        assert (wallet.available_micro, wallet.held_micro, wallet.amounts.granted_micro) == (500, 0, 500)
        assert events_of(wallet.uid) == [("credits.granted", 500)]
        assert wallet.drifts == []

    def test_same_grant_again_returns_the_first_and_gives_nothing(self, wallet):
        first = wallet.grant("g", 500, note="welcome")
        again = replace(wallet, now=wallet.now + DAY).grant("g", 500, note="welcome")
        assert again == first
        assert wallet.available_micro == 500
        assert events_of(wallet.uid) == [("credits.granted", 500)]

    @pytest.mark.parametrize(
        ("name", "value"),
        [("priority", 1), ("promotional", True), ("note", "other"), ("source", "pack"), ("expires_at", None)],
    )
    def test_grant_with_other_content_is_refused_naming_the_field(self, wallet, name, value):
        wallet.grant("g", 500, expires_at=wallet.now + DAY)
        with pytest.raises(KeyReused, match=name) as refusal:
            wallet.grant("g", 500, **({"expires_at": wallet.now + DAY} | {name: value}))
        assert [problem.field for problem in refusal.value.fields] == [name]
        assert wallet.available_micro == 500

    def test_grant_does_not_bring_back_an_account_that_was_erased(self, wallet):
        batch = store.new_batch()
        holdings.bury(batch, wallet.uid, wallet.now)
        store.commit(batch)
        with pytest.raises(Conflict) as refusal:
            wallet.grant("g", 500)
        assert refusal.value.details == {"reason": "account_deleted"}
        assert repository.find_account(wallet.uid) is None
        assert events_of(wallet.uid) == []

    def test_grant_that_has_expired_already_is_refused(self, wallet):
        with pytest.raises(InvalidRequest, match="expired"):
            wallet.grant("g", 500, expires_at=wallet.now)
        assert repository.find_account(wallet.uid) is None

    def test_same_grant_again_after_its_expiry_still_returns_the_first(self, wallet):
        first = wallet.grant("g", 500, expires_at=wallet.now + DAY)
        later = replace(wallet, now=wallet.now + 2 * DAY)
        assert later.grant("g", 500, expires_at=wallet.now + DAY) == first

    def test_callers_writes_stand_with_the_grant_and_fall_with_a_duplicate(self, wallet):
        wallet.grant("g", 500, also=lambda batch: batch.create(note(wallet), {"paid": True}))
        assert note(wallet).get().exists
        wallet.grant("g", 500, also=lambda batch: batch.create(note(wallet, "second"), {}))
        assert not note(wallet, "second").get().exists

    def test_collision_of_the_callers_own_document_is_the_callers_to_handle(self, wallet):
        note(wallet).set({})
        with pytest.raises(store.AlreadyExists):
            wallet.grant("g", 500, also=lambda batch: batch.create(note(wallet), {}))
        assert repository.find_account(wallet.uid) is None

    def test_key_that_cannot_name_a_document_works_all_the_same(self, wallet):
        key = "invoice/2026/03/März"
        first = wallet.grant(key, 500)
        assert wallet.grant(key, 500) == first
        assert wallet.hold(key, 10).state == "open"
        assert wallet.drifts == []

    def test_next_grant_pays_the_debt_first(self, wallet):
        wallet.grant("g", 10)
        wallet.settle(wallet.hold("h", 10), 35)
        assert wallet.available_micro == -25
        wallet.grant("g2", 40)
        balance = service.get_balance(wallet.uid, wallet.now)
        assert (balance.available_micro, balance.debt_micro) == (15, 0)
        assert [(left.grant.id, left.remaining_micro) for left in balance.grants] == [("g2", 15)]
        assert wallet.drifts == []


class TestHold:
    def test_hold_moves_credits_from_available_to_held(self, wallet):
        wallet.grant("g", 100)
        hold = wallet.hold("h", 60, ref={"generation_id": "gen_1"})
        assert (hold.state, hold.expires_at) == ("open", wallet.now + timedelta(minutes=10))
        assert (wallet.available_micro, wallet.held_micro) == (40, 60)
        assert wallet.stored_hold("h") == hold
        assert wallet.entries["h.hold"].ref == {"purpose": "test", "generation_id": "gen_1"}

    def test_hold_without_an_account_is_refused(self, wallet):
        with pytest.raises(InsufficientCredits) as refusal:
            wallet.hold("h", 60)
        assert refusal.value.details == {"needed_micro": 60, "available_micro": 0}

    def test_hold_above_the_balance_is_refused_with_both_amounts_and_leaves_no_trace_in_the_sums(self, wallet):
        wallet.grant("g", 100)
        with pytest.raises(InsufficientCredits) as refusal:
            wallet.hold("h", 101)
        assert refusal.value.details == {"needed_micro": 101, "available_micro": 100}
        assert (wallet.available_micro, wallet.held_micro) == (100, 0)
        assert wallet.stored_hold("h").state == "refused"
        assert wallet.drifts == []

    def test_refused_key_stays_refused_when_credits_have_come(self, wallet):
        wallet.grant("g", 100)
        with pytest.raises(InsufficientCredits):
            wallet.hold("h", 101)
        wallet.grant("g2", 100)
        with pytest.raises(InsufficientCredits):
            wallet.hold("h", 101)
        assert wallet.hold("h2", 101).state == "open"

    def test_account_in_debt_gets_no_hold(self, wallet):
        wallet.grant("g", 10)
        wallet.settle(wallet.hold("h", 10), 11)
        with pytest.raises(InsufficientCredits):
            wallet.hold("h2", 1)

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("amount_micro", {"amount_micro": 61}),
            ("purpose", {"purpose": "image"}),
            ("ref", {"ref": {"generation_id": "gen_2"}}),
        ],
    )
    def test_hold_with_other_content_is_refused_naming_the_field(self, wallet, name, content):
        wallet.grant("g", 100)
        wallet.hold("h", 60, ref={"generation_id": "gen_1"})
        with pytest.raises(KeyReused, match=name):
            wallet.hold("h", **({"amount_micro": 60, "ref": {"generation_id": "gen_1"}} | content))
        assert wallet.held_micro == 60

    def test_same_hold_again_after_its_settlement_is_refused_by_name(self, wallet):
        wallet.grant("g", 100)
        wallet.settle(wallet.hold("h", 60), 20)
        with pytest.raises(service.HoldAlreadyEnded) as refusal:
            wallet.hold("h", 60)
        assert refusal.value.details == {"state": "settled", "cost_micro": 20}

    def test_same_hold_again_after_its_time_finds_it_expired(self, wallet):
        wallet.grant("g", 100)
        wallet.hold("h", 60)
        later = replace(wallet, now=wallet.now + DAY)
        with pytest.raises(service.HoldAlreadyEnded, match="expired"):
            later.hold("h", 60)
        assert wallet.available_micro == 100

    def test_callers_writes_stand_with_the_hold(self, wallet):
        wallet.grant("g", 100)
        wallet.hold("h", 60, also=lambda batch: batch.create(note(wallet), {}))
        assert note(wallet).get().exists

    def test_callers_writes_are_undone_with_a_refused_hold(self, wallet):
        wallet.grant("g", 100)
        with pytest.raises(InsufficientCredits):
            wallet.hold(
                "h",
                101,
                also=lambda batch: batch.create(note(wallet), {}),
                undo=lambda batch: batch.delete(note(wallet)),
            )
        assert not note(wallet).get().exists

    def test_callers_writes_are_undone_even_when_the_sweeper_ended_the_refused_hold_first(self, wallet, monkeypatch):
        wallet.grant("g", 100)
        commit = store.commit

        def sweeper_comes_between(batch):
            monkeypatch.setattr(store, "commit", commit)
            results = commit(batch)
            hold = wallet.stored_hold("h")
            service.expire_hold(hold, now=hold.expires_at)
            return results

        monkeypatch.setattr(store, "commit", sweeper_comes_between)
        with pytest.raises(InsufficientCredits):
            wallet.hold(
                "h",
                101,
                also=lambda batch: batch.create(note(wallet), {}),
                undo=lambda batch: batch.delete(note(wallet)),
            )
        assert not note(wallet).get().exists
        assert wallet.stored_hold("h").state == "expired"
        assert wallet.drifts == []

    def test_precondition_of_the_caller_that_fails_is_the_callers_to_handle(self, wallet):
        wallet.grant("g", 100)
        with pytest.raises(store.StaleWrite):
            wallet.hold("h", 60, also=lambda batch: batch.update(note(wallet), {"there": False}))
        assert (wallet.available_micro, wallet.held_micro) == (100, 0)

    def test_collision_of_the_callers_own_document_holds_nothing(self, wallet):
        wallet.grant("g", 100)
        note(wallet).set({})
        with pytest.raises(store.AlreadyExists):
            wallet.hold("h", 60, also=lambda batch: batch.create(note(wallet), {}))
        assert wallet.held_micro == 0

    def test_nothing_and_less_cannot_be_held_or_granted(self, wallet):
        for amount in (0, -1):
            with pytest.raises(ValueError, match="something"):
                wallet.hold("h", amount)
            with pytest.raises(ValueError, match="something"):
                wallet.grant("g", amount)

    def test_covered_hold_takes_one_round_trip(self, wallet, monkeypatch):
        wallet.grant("g", 100, expires_at=wallet.now + DAY)
        commit, commits = store.commit, []

        def counted(batch):
            commits.append(batch)
            return commit(batch)

        monkeypatch.setattr(store, "commit", counted)
        for name in ("find_account", "find_hold", "find_reading", "find_grants"):
            monkeypatch.setattr(repository, name, None)
        assert wallet.hold("h", 60).state == "open"
        assert len(commits) == 1


class TestEnds:
    def test_settlement_spends_the_cost_and_returns_the_rest(self, wallet):
        wallet.grant("g", 100)
        settled = wallet.settle(wallet.hold("h", 60), 45)
        assert (settled.state, settled.cost_micro, settled.ended_at) == ("settled", 45, wallet.now)
        assert wallet.stored_hold("h") == settled
        amounts = wallet.amounts
        assert (amounts.available_micro, amounts.held_micro, amounts.spent_micro) == (55, 0, 45)

    def test_settlement_above_the_hold_takes_the_rest_from_what_is_available_and_then_makes_debt(self, wallet):
        wallet.grant("g", 100)
        first, second = wallet.hold("h", 60), wallet.hold("h2", 10)
        wallet.settle(first, 80)
        assert (wallet.available_micro, wallet.held_micro) == (10, 10)
        wallet.settle(second, 35)
        balance = service.get_balance(wallet.uid, wallet.now)
        assert (balance.available_micro, balance.debt_micro, balance.grants) == (-15, 15, ())
        assert wallet.drifts == []

    def test_settlement_at_nothing_returns_everything(self, wallet):
        wallet.grant("g", 100)
        assert wallet.settle(wallet.hold("h", 60), 0).cost_micro == 0
        assert wallet.available_micro == 100
        assert wallet.drifts == []

    def test_settlement_again_with_another_cost_is_refused_by_name(self, wallet):
        wallet.grant("g", 100)
        hold = wallet.hold("h", 60)
        first = wallet.settle(hold, 45)
        assert replace(wallet, now=wallet.now + DAY).settle(hold, 45) == first
        with pytest.raises(service.HoldAlreadyEnded) as refusal:
            wallet.settle(hold, 46)
        assert refusal.value.details == {"state": "settled", "cost_micro": 45}

    def test_settle_after_release_is_refused_by_name(self, wallet):
        wallet.grant("g", 100)
        hold = wallet.hold("h", 60)
        wallet.release(hold)
        with pytest.raises(service.HoldAlreadyEnded, match="released"):
            wallet.settle(hold, 45)
        assert wallet.available_micro == 100

    def test_expiry_of_a_settled_hold_is_refused_by_name(self, wallet):
        wallet.grant("g", 100)
        hold = wallet.hold("h", 60)
        wallet.settle(hold, 45)
        with pytest.raises(service.HoldAlreadyEnded, match="settled"):
            service.expire_hold(hold, now=hold.expires_at)

    def test_hold_does_not_expire_before_its_time(self, wallet):
        wallet.grant("g", 100)
        hold = wallet.hold("h", 60)
        with pytest.raises(ValueError, match="not expired"):
            service.expire_hold(hold, now=hold.expires_at - timedelta(microseconds=1))

    def test_settlement_in_the_callers_batch_stands_or_falls_with_it(self, wallet):
        wallet.grant("g", 100)
        hold = wallet.hold("h", 60)
        note(wallet, "taken").set({})
        batch = store.new_batch()
        service.settle_into(batch, hold, 45, now=wallet.now)
        batch.create(note(wallet, "taken"), {})
        with pytest.raises(store.AlreadyExists):
            store.commit(batch)
        assert wallet.held_micro == 60
        batch = store.new_batch()
        service.settle_into(batch, hold, 45, now=wallet.now, ref={"message_id": "msg_1"})
        batch.create(note(wallet), {})
        store.commit(batch)
        assert note(wallet).get().exists
        assert wallet.entries["h.end"].ref == {"purpose": "test", "message_id": "msg_1"}

    def test_release_says_why(self, wallet):
        wallet.grant("g", 100)
        service.release(wallet.hold("h", 60), now=wallet.now, reason="upstream_failed")
        assert wallet.entries["h.end"].ref["reason"] == "upstream_failed"

    def test_negative_cost_is_a_mistake(self, wallet):
        wallet.grant("g", 100)
        with pytest.raises(ValueError, match="negative"):
            wallet.settle(wallet.hold("h", 60), -1)


class TestLateCost:
    def test_late_cost_is_charged_once_and_below_zero_if_it_must_be(self, wallet):
        wallet.grant("g", 100)
        wallet.release(wallet.hold("h", 60))
        first = service.record_late_cost(wallet.uid, "h", 130, now=wallet.now, ref={"reason": "learned_later"})
        again = service.record_late_cost(wallet.uid, "h", 130, now=wallet.now + DAY)
        assert again == first
        amounts = wallet.amounts
        assert (amounts.available_micro, amounts.adjusted_micro, amounts.spent_micro) == (-30, -130, 0)
        assert wallet.entries["h.late"].ref["reason"] == "learned_later"
        assert wallet.drifts == []

    def test_other_late_cost_for_the_same_hold_is_refused_by_name(self, wallet):
        wallet.grant("g", 100)
        wallet.release(wallet.hold("h", 60))
        service.record_late_cost(wallet.uid, "h", 10, now=wallet.now)
        with pytest.raises(KeyReused, match="cost_micro"):
            service.record_late_cost(wallet.uid, "h", 11, now=wallet.now)

    def test_late_cost_of_an_open_hold_is_refused(self, wallet):
        wallet.grant("g", 100)
        wallet.hold("h", 60)
        with pytest.raises(Conflict, match="settle it"):
            service.record_late_cost(wallet.uid, "h", 10, now=wallet.now)

    def test_late_cost_of_a_settled_hold_is_refused_by_name(self, wallet):
        wallet.grant("g", 100)
        wallet.settle(wallet.hold("h", 60), 5)
        with pytest.raises(service.HoldAlreadyEnded, match="settled"):
            service.record_late_cost(wallet.uid, "h", 10, now=wallet.now)

    def test_late_cost_without_a_hold_is_not_found(self, wallet):
        with pytest.raises(NotFound):
            service.record_late_cost(wallet.uid, "nothing", 10, now=wallet.now)


class TestExpiry:
    def test_expired_credits_cannot_be_held_though_no_sweep_has_run(self, wallet):
        wallet.grant("dying", 100, expires_at=wallet.now + DAY)
        later = replace(wallet, now=wallet.now + DAY)
        with pytest.raises(InsufficientCredits) as refusal:
            later.hold("h", 1)
        assert refusal.value.details == {"needed_micro": 1, "available_micro": 0}
        assert wallet.amounts.expired_micro == 100
        assert events_of(wallet.uid) == [("credits.expired", 100), ("credits.granted", 100)]
        assert wallet.drifts == []

    def test_credits_live_until_the_last_moment_before_their_expiry(self, wallet):
        wallet.grant("dying", 100, expires_at=wallet.now + DAY)
        moment = timedelta(microseconds=1)
        assert replace(wallet, now=wallet.now + DAY - moment).hold("h", 100).state == "open"

    def test_credits_behind_an_open_hold_outlive_their_expiry_but_not_the_hold(self, wallet):
        wallet.grant("dying", 100, expires_at=wallet.now + DAY)
        before = replace(wallet, now=wallet.now + DAY - timedelta(minutes=1))
        hold = before.hold("h", 70)
        after = replace(wallet, now=wallet.now + DAY)
        service.expire_grants(wallet.uid, after.now)
        assert (after.available_micro, after.held_micro, after.amounts.expired_micro) == (0, 70, 30)
        after.settle(hold, 50)
        with pytest.raises(InsufficientCredits):
            after.hold("h2", 1)
        assert (after.available_micro, after.amounts.spent_micro, after.amounts.expired_micro) == (0, 50, 50)
        assert wallet.stored_grant("dying").expired_micro == 50
        assert wallet.drifts == []

    def test_sweeping_twice_changes_nothing_more(self, wallet):
        wallet.grant("dying", 100, expires_at=wallet.now + DAY)
        first = service.expire_grants(wallet.uid, wallet.now + DAY)
        assert service.expire_grants(wallet.uid, wallet.now + DAY) == first
        assert wallet.amounts.expired_micro == 100

    def test_sweep_leaves_a_checkpoint_so_that_the_next_reading_replays_its_own_entries_only(self, wallet):
        wallet.grant("dying", 100, expires_at=wallet.now + DAY)
        wallet.settle(wallet.hold("h", 10), 10)
        service.expire_grants(wallet.uid, wallet.now + DAY)
        assert wallet.reading.replayed == 1

    def test_sweeping_a_user_without_an_account_does_nothing(self, wallet):
        assert service.expire_grants(wallet.uid, wallet.now) == Ledger()

    def test_credits_that_never_expire_stay(self, wallet):
        wallet.grant("paid", 100)
        wallet.grant("dying", 10, expires_at=wallet.now + DAY)
        service.expire_grants(wallet.uid, wallet.now + 1000 * DAY)
        assert wallet.available_micro == 100
        assert service.get_balance(wallet.uid, wallet.now).next_expiry_at is None

    def test_sweeper_ends_overdue_holds_and_lapses_due_grants(self, wallet, swept_alone):
        wallet.grant("dying", 100, expires_at=wallet.now + DAY)
        wallet.hold("overdue", 60)
        assert swept_alone(wallet.now + 2 * DAY) == {"holds_expired": 1, "accounts_swept": 1, "sweeps_failed": 0}
        assert wallet.stored_hold("overdue").state == "expired"
        assert (wallet.available_micro, wallet.held_micro, wallet.amounts.expired_micro) == (0, 0, 100)
        assert wallet.drifts == []
        assert swept_alone(wallet.now + 2 * DAY) == {"holds_expired": 0, "accounts_swept": 0, "sweeps_failed": 0}

    def test_sweeper_reads_ahead_what_expires_soon_and_lapses_nothing_of_it(self, wallet, swept_alone, monkeypatch):
        monkeypatch.setattr(service, "CHECKPOINT_AFTER", 0)
        wallet.grant("dying", 100, expires_at=wallet.now + service.READ_AHEAD)
        assert swept_alone(wallet.now) == {"holds_expired": 0, "accounts_swept": 0, "sweeps_failed": 0}
        assert there(repository._checkpoint(wallet.uid)).get().exists
        assert wallet.available_micro == 100

    def test_sweeper_passes_over_a_hold_whose_worker_came_first(self, wallet, monkeypatch):
        wallet.grant("g", 100)
        hold = wallet.hold("overdue", 60)
        wallet.settle(hold, 10)
        monkeypatch.setattr(repository, "list_expired_holds", lambda *_: [hold])  # as read a moment before
        monkeypatch.setattr(repository, "list_expiring_accounts", lambda *_, **__: [])
        assert service.sweep(now=wallet.now + DAY) == {"holds_expired": 0, "accounts_swept": 0, "sweeps_failed": 0}
        assert wallet.amounts.spent_micro == 10

    def test_sweeper_passes_over_an_account_it_cannot_sweep_and_says_so(self, wallet, swept_alone, capfd):
        for each in (wallet, replace(wallet, uid=f"{wallet.uid}-healthy")):
            each.grant("dying", 100, expires_at=wallet.now + DAY)
            each.hold("overdue", 60)
        repository._entries(wallet.uid).document("overdue.hold").delete()
        done = swept_alone(wallet.now + 2 * DAY)
        assert done == {"holds_expired": 2, "accounts_swept": 1, "sweeps_failed": 1}
        assert "credits could not be expired" in capfd.readouterr().out

    def test_sweeper_passes_over_a_hold_whose_account_was_deleted(self, wallet, swept_alone, capfd):
        wallet.grant("g", 100)
        wallet.hold("overdue", 60)
        firestore_client().document("credit_accounts", wallet.uid).delete()
        assert swept_alone(wallet.now + DAY)["sweeps_failed"] == 1
        assert "hold could not be expired" in capfd.readouterr().out

    @pytest.fixture
    def swept_alone(self, wallet, monkeypatch):
        """A run of the sweeper that sees this test's accounts only."""
        list_holds, list_accounts = repository.list_expired_holds, repository.list_expiring_accounts

        def sweep(now):
            soon = now + service.READ_AHEAD
            holds = [hold for hold in list_holds(now, 10_000) if hold.uid.startswith(wallet.uid)]
            accounts = [each for each in list_accounts(soon, 10_000) if each.uid.startswith(wallet.uid)]
            with monkeypatch.context() as patched:
                patched.setattr(repository, "list_expired_holds", lambda *_: holds)
                patched.setattr(repository, "list_expiring_accounts", lambda *_, **__: accounts)
                return service.sweep(now=now)

        return sweep

    def test_sweeper_reads_the_due_accounts_of_one_run_page_by_page(self, wallet, monkeypatch):
        monkeypatch.setattr(service, "ACCOUNTS_PER_PAGE", 2)
        monkeypatch.setattr(service, "SWEPT_ACCOUNTS", 6)
        for number in range(7):
            replace(wallet, uid=f"{wallet.uid}-{number}").grant("dying", 1, expires_at=wallet.now + DAY)
        uids = [account.uid for account in service._expiring_accounts(wallet.now + 9_999 * DAY)]
        assert len(uids) == len(set(uids)) == 6

    def test_accounts_whose_credits_will_expire_are_listed_page_by_page(self, wallet):
        moment = wallet.now + 10_000 * DAY
        wallets = [replace(wallet, uid=f"{wallet.uid}-{n}") for n in range(3)]
        for each in wallets:
            each.grant("dying", 100, expires_at=moment)
        page, uids = service.list_expiring_accounts(moment, 2), []
        while page:
            uids += [account.uid for account in page]
            page = service.list_expiring_accounts(moment, 2, after=page[-1])
        assert len(uids) == len(set(uids))
        assert {each.uid for each in wallets} <= set(uids)


class TestReading:
    def test_user_without_an_account_has_nothing_and_no_error(self, wallet):
        balance = service.get_balance(wallet.uid, wallet.now)
        assert (balance.available_micro, balance.held_micro, balance.grants) == (0, 0, ())
        assert service.list_grants(wallet.uid) == ()
        with pytest.raises(NotFound):
            service.get_account(wallet.uid)

    def test_grants_are_listed_in_the_order_they_burn_with_what_is_left(self, wallet):
        wallet.grant("late", 10, expires_at=wallet.now + 9 * DAY)
        wallet.grant("forever", 10)
        wallet.grant("soon", 10, expires_at=wallet.now + DAY)
        wallet.grant("first", 10, priority=1)
        wallet.settle(wallet.hold("h", 25), 13)
        left = [(left.grant.id, left.remaining_micro) for left in service.list_grants(wallet.uid)]
        assert left == [("soon", 7), ("late", 10), ("forever", 10)]

    def test_entries_come_newest_first_in_pages_without_gaps_or_repeats(self, wallet):
        wallet.grant("g", 100)
        for number in range(4):
            wallet.release(wallet.hold(f"h{number}", 10))
        seen, cursor = [], None
        while True:
            entries, cursor = service.list_entries(wallet.uid, 4, cursor)
            seen += [entry.id for entry in entries]
            if cursor is None:
                break
        assert seen[-1] == "g.grant"
        assert seen.index("h3.end") < seen.index("h0.hold")
        assert sorted(seen) == sorted(wallet.entries)

    def test_cursor_from_elsewhere_is_refused(self, wallet):
        with pytest.raises(InvalidRequest):
            service.list_entries(wallet.uid, 4, "nonsense")

    def test_long_history_leaves_a_checkpoint_that_later_readings_start_from(self, wallet, monkeypatch):
        monkeypatch.setattr(service, "CHECKPOINT_AFTER", 3)
        wallet.grant("g", 100)
        for number in range(3):
            wallet.settle(wallet.hold(f"h{number}", 10), 7)
        assert wallet.reading.replayed == 7
        before = service.get_balance(wallet.uid, wallet.now)
        assert wallet.reading.replayed == 0
        assert service.get_balance(wallet.uid, wallet.now) == before
        wallet.hold("h-new", 10)
        assert wallet.reading.replayed == 1
        assert wallet.drifts == []

    @pytest.fixture
    def small_pages(self, monkeypatch):
        """Pages of two entries, and entries that are recorded at once."""
        monkeypatch.setattr(repository, "ENTRIES_PER_PAGE", 2)
        monkeypatch.setattr(repository, "RECORDING_SKEW", timedelta(milliseconds=50))

    def work(self, wallet):
        wallet.grant("g", 100)
        for number in range(4):
            time.sleep(0.1)
            wallet.settle(wallet.hold(f"h{number}", 10), 7)

    @pytest.mark.usefixtures("small_pages")
    def test_reading_in_pages_gives_the_same_as_reading_at_once(self, wallet):
        self.work(wallet)
        assert there(repository._checkpoint(wallet.uid)).get().to_dict() is None
        reading = wallet.reading
        assert reading.replayed == 9
        assert reading.ledger == replay(wallet.history.entries)
        assert there(repository._checkpoint(wallet.uid)).get().exists

    @pytest.mark.usefixtures("small_pages")
    def test_reading_that_is_cut_short_leaves_its_progress_to_the_next(self, wallet, monkeypatch):
        self.work(wallet)
        whole = wallet.reading.ledger
        there(repository._checkpoint(wallet.uid)).delete()
        pages = []

        def cut_short(*args, **kwargs):
            pages.append(args)
            if len(pages) > 3:
                raise Unavailable
            return pages_module.page(*args, **kwargs)

        with monkeypatch.context() as patched:
            patched.setattr(repository, "page", cut_short)
            with pytest.raises(Unavailable):
                repository.find_reading(wallet.uid)
        progress = Ledger.from_json(there(repository._checkpoint(wallet.uid)).get().get("ledger"))
        assert progress.totals.granted_micro == 100
        assert wallet.reading.ledger == whole

    @pytest.mark.parametrize("missed", [{"g2.grant"}, {"h.hold", "h.end"}, {"h.end"}])
    def test_checkpoint_that_missed_an_entry_is_not_believed(self, wallet, missed):
        wallet.grant("g", 100)
        wallet.grant("g2", 50)
        wallet.settle(wallet.hold("h", 10), 7)
        reading = wallet.reading
        entries = wallet.history.entries
        incomplete = replay(entry for entry in entries if entry.id not in missed)
        batch = store.new_batch()
        repository.add_checkpoint(batch, replace(reading, ledger=incomplete))
        store.commit(batch)
        assert wallet.reading.ledger == reading.ledger

    def test_checkpoint_of_another_version_is_not_believed(self, wallet):
        wallet.grant("g", 100)
        there(repository._checkpoint(wallet.uid)).set({"version": 0, "text": "written by an older release"})
        assert wallet.reading.replayed == 1


class TestVerification:
    @pytest.fixture
    def worked(self, wallet):
        wallet.grant("g", 100, expires_at=wallet.now + 9_000 * DAY)  # never due, lest it meet a sweep
        wallet.settle(wallet.hold("ended", 60), 45)
        wallet.hold("open", 5)
        assert wallet.drifts == []
        return wallet

    def names(self, wallet):
        return {drift.name for drift in wallet.drifts}

    def test_changed_sum_is_named(self, worked):
        firestore_client().document("credit_accounts", worked.uid).update({"available_micro": 51})
        assert self.names(worked) == {"account.available_micro"}

    def test_lost_entry_is_named(self, worked):
        repository._entries(worked.uid).document("ended.hold").delete()
        assert self.names(worked) == {"history"}

    def test_hold_whose_state_was_changed_by_hand_is_named(self, worked):
        repository._holds(worked.uid).document("open").update({"state": "released"})
        assert self.names(worked) == {"open_holds", "ended_holds"}

    def test_settlement_whose_cost_was_changed_by_hand_is_named(self, worked):
        repository._holds(worked.uid).document("ended").update({"cost_micro": 44})
        assert self.names(worked) == {"ended_holds"}

    def test_grant_whose_amount_was_changed_by_hand_is_named(self, worked):
        repository._grants(worked.uid).document("g").update({"amount_micro": 101})
        assert self.names(worked) == {"grants.amount_micro"}

    def test_expiry_that_would_be_missed_is_named(self, worked):
        firestore_client().document("credit_accounts", worked.uid).update({"next_expiry_ms": 9_000_000_000_000})
        assert self.names(worked) == {"account.next_expiry_ms"}

    def test_account_that_is_not_there_is_not_found(self, wallet):
        with pytest.raises(NotFound):
            service.verify_account(wallet.uid)


def test_found_hold_has_the_shape_of_the_made_one(wallet):
    wallet.grant("g", 100)
    made = wallet.hold("h", 60, ref={"a": "b"})
    found = wallet.stored_hold("h")
    assert isinstance(found, Hold)
    assert found == made
