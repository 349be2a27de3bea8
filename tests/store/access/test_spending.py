"""What a key may ask for and spend, as chat asks it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from functions.access import repository, service
from shared import store
from shared.errors import InsufficientCredits, PermissionDenied
from shared.identity.caller import Caller, KeyGrant
from shared.identity.permissions import Permission
from tests.store.access.support import KEYS

NOW = datetime(2026, 3, 31, 23, 59, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _nothing_known():
    service._spent_micro.clear()


def caller(uid, *, limit=None, models=None):
    grant = KeyGrant(
        id="key_2",
        scopes=frozenset({Permission.CHAT_WRITE}),
        allowed_models=models,
        monthly_limit_micro=limit,
        budget_id=f"budget-{uid}",
    )
    return Caller(uid=uid, key=grant)


def spend(uid, micro, now=NOW):
    batch = store.new_batch()
    service.add_key_spending(batch, uid=uid, budget_id=f"budget-{uid}", micro=micro, now=now)
    store.commit(batch)


def test_who_comes_without_a_key_is_not_limited_by_one(uid):
    service.check_key(Caller(uid=uid), "any/model", needed_micro=1, now=NOW)


def test_a_key_without_limits_may_everything(uid):
    spend(uid, 10**15)
    service.check_key(caller(uid), "any/model", needed_micro=1, now=NOW)


def test_a_key_is_for_its_models_only(uid):
    someone = caller(uid, models=frozenset({"a/b"}))
    service.check_key(someone, "a/b", needed_micro=1, now=NOW)
    for model in ("a/B", "a/b:free", "a/bc", ""):
        with pytest.raises(PermissionDenied) as refusal:
            service.check_key(someone, model, needed_micro=1, now=NOW)
        assert refusal.value.details["reason"] == "model_not_allowed"


def test_a_key_spends_up_to_its_limit(uid):
    someone = caller(uid, limit=1000)
    spend(uid, 999)
    service.check_key(someone, "a/b", needed_micro=1, now=NOW)
    spend(uid, 1)
    with pytest.raises(InsufficientCredits) as refusal:
        service.check_key(someone, "a/b", needed_micro=1, now=NOW)
    assert refusal.value.details["reason"] == "key_limit"


def test_a_new_month_begins_at_nothing(uid):
    spend(uid, 1000)
    with pytest.raises(InsufficientCredits):
        service.check_key(caller(uid, limit=1000), "a/b", needed_micro=1, now=NOW)
    service.check_key(caller(uid, limit=1000), "a/b", needed_micro=1, now=NOW + 60 * SECOND)


def test_what_another_process_spent_is_known_in_five_seconds(uid):
    someone = caller(uid, limit=1000)
    service.check_key(someone, "a/b", needed_micro=1, now=NOW)
    known = service._spent_micro.get(f"budget-{uid}:2026-03", NOW)
    spend(uid, 1000)
    service._spent_micro.put(f"budget-{uid}:2026-03", known or 0, NOW)  # what the other process still believes
    service.check_key(someone, "a/b", needed_micro=1, now=NOW + 4 * SECOND)
    with pytest.raises(InsufficientCredits):
        service.check_key(someone, "a/b", needed_micro=1, now=NOW + 5 * SECOND)


def test_nothing_is_lost_when_many_spend_at_once(uid):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: spend(uid, number), range(1, 41)))
    assert repository.read_spent_micro(f"budget-{uid}", "2026-03") == sum(range(1, 41))


def test_what_is_not_committed_is_not_spent(uid):
    service.add_key_spending(store.new_batch(), uid=uid, budget_id=f"budget-{uid}", micro=1000, now=NOW)
    service.check_key(caller(uid, limit=1000), "a/b", needed_micro=1, now=NOW)


def test_owners_see_what_a_key_and_its_predecessors_spent(ada, clock):
    old = ada.make_key(monthly_limit_credits=5)
    batch = store.new_batch()
    service.add_key_spending(batch, uid=ada.uid, budget_id=old["id"], micro=1234, now=clock.now)
    store.commit(batch)
    new = ada.ask("POST", f"{KEYS}/{old['id']}/rotate", {}).json
    assert new["spent_this_month_micro"] == 1234
    assert [item["spent_this_month_micro"] for item in ada.ask("GET", KEYS).json["items"]] == [1234]
    [usage] = ada.documents("key_usage").values()
    assert (usage["budget_id"], usage["month"]) == (old["id"], f"{clock.now:%Y-%m}")
    assert usage["expires_at"] > clock.now + timedelta(days=365)
