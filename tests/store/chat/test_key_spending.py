"""What a turn costs that was asked with an API key counts for that key: once, whoever ends the turn."""

import time
import uuid
from datetime import timedelta

import pytest

from functions.access import repository as spending
from functions.access.domain import month_of
from functions.chat import beginning, domain, ending, service, watch
from functions.credits import service as credits
from functions.models import service as models
from functions.models.domain import FOR_ANYONE
from shared.clients import redis_client
from shared.clock import utc_now
from shared.errors import PermissionDenied, UpstreamRejected
from shared.identity.caller import Caller, KeyGrant, Proof
from shared.identity.permissions import Permission
from tests.store.chat.support import question, usage_record

MONTHS_CREDITS = 1000 * 10**6


def caller(user, *, allowed_models=None):
    grant = KeyGrant(
        id="key_1",
        scopes=frozenset({Permission.CHAT_WRITE}),
        allowed_models=allowed_models,
        monthly_limit_micro=None,
        budget_id=f"budget-{uuid.uuid4().hex}",
    )
    return Caller(uid=user.uid, proof=Proof.API_KEY, key=grant)


def ask(user, by, content, conversation=None):
    conversation = conversation or user.conversation()
    return service.ask(user.uid, conversation, question(content), clock=utc_now, keep_partial=True, caller=by)


def spent(by):
    return spending.read_spent_micro(by.key.budget_id, month_of(utc_now()))


def paid(user):
    return MONTHS_CREDITS - user.balance().available_micro


def sweep_until_settled(generation):
    for minutes in range(20):
        service.sweep(now=utc_now() + timedelta(minutes=minutes))
        if not usage_record(generation)["settlement_pending"]:
            return
        time.sleep(0.2)
    pytest.fail("the cost was never learned")


def test_what_was_paid_is_what_the_key_spent(user):
    by = caller(user)
    list(ask(user, by, "/repeat 5 word"))
    list(ask(user, by, "/repeat 5 word"))
    assert spent(by) == paid(user) > 0
    user.assert_money_is_in_order()


def test_a_cost_that_is_learned_late_counts_once_however_many_sweeps_found_it_open(user, standin):
    by = caller(user)
    standin.fault(stream_error_d=2, generation_404_ms=2500)
    running = ask(user, by, "/repeat 30 word")
    list(running)
    unsettled = service.get_generation(user.uid, running.generation.id)
    assert usage_record(unsettled.id)["settlement_pending"] is True
    assert spent(by) == 0
    sweep_until_settled(unsettled.id)
    assert spent(by) == paid(user) > 0
    hold = credits.find_hold(user.uid, unsettled.id)
    assert hold is not None
    usage = domain.TokenUsage(1, 1, 0, 0, cost_pico_usd=10**9)
    ending.settle_late(unsettled, hold, usage, now=utc_now())
    assert spent(by) == paid(user) == usage_record(unsettled.id)["charged_micro"]
    user.assert_money_is_in_order()


def test_a_turn_that_outlived_its_hold_counts_once(user, standin, monkeypatch):
    monkeypatch.setattr(beginning, "HOLD_TTL", timedelta(milliseconds=1))
    by = caller(user)
    standin.fault(chunk_delay_ms=10)
    running = ask(user, by, "/repeat 5 word")
    next(running)
    assert credits.sweep(now=utc_now())["holds_expired"] >= 1
    list(running)
    service.sweep(now=utc_now())
    assert spent(by) == paid(user) > 0
    user.assert_money_is_in_order()


@pytest.mark.usefixtures("past_lease")
def test_a_turn_that_the_sweep_took_over_while_its_process_lived_counts_once(user, standin):
    by = caller(user)
    standin.fault(chunk_delay_ms=20)
    running = ask(user, by, "/repeat 30 word")
    next(running)
    next(running)
    redis_client().delete(f"gen:{{{running.generation.id}}}:alive")
    watch.unwatch(running.generation.id)
    service.sweep(now=utc_now())
    list(running)
    sweep_until_settled(running.generation.id)
    service.sweep(now=utc_now())
    assert spent(by) == paid(user) > 0
    user.assert_money_is_in_order()


def test_a_turn_that_cost_nothing_counts_for_nothing(user, standin):
    by = caller(user)
    standin.fault(status=400)
    with pytest.raises(UpstreamRejected):
        ask(user, by, "hello")
    assert spent(by) == paid(user) == 0
    user.assert_money_is_in_order()


def test_the_model_that_was_checked_is_the_model_that_is_asked(user, standin, monkeypatch):
    """Between two looks the circuit of the first model may open: the second is not for this key."""
    first, second = (models.find(slug) for slug in FOR_ANYONE)
    assert first
    assert second
    chosen = iter([(first, second), (second,), (second,)])
    monkeypatch.setattr(models, "choose", lambda *_, **__: next(chosen))
    by = caller(user, allowed_models=frozenset({first.slug}))
    list(ask(user, by, "/say hello"))
    assert [asked["body"]["model"] for asked in standin.asked()] == [first.slug]
    with pytest.raises(PermissionDenied):
        ask(user, by, "/say hello")
