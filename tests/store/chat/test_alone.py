"""Turns outside any conversation: held for, paid, swept and told again without any message."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from functions.chat import beginning, generation_log, service, turn
from functions.chat.domain import Prompt, Status
from functions.credits import service as credits
from shared.clock import utc_now
from shared.errors import AppError, Conflict, InsufficientCredits, UpstreamError
from shared.identity.caller import Caller
from shared.ids import new_id
from tests.store.chat.support import User, give, usage_record
from tests.store.chat.test_generations import abandon, sweep_until_nothing_is_held

FLAT_RATE = "craftpilot/flat-rate"
FLAT_RATE_MICRO = 1_200_000


def prompt(text: str, **options: Any) -> Prompt:
    return Prompt(messages=({"role": "user", "content": text},), **options)


def complete(user: User, text: str, generation_id: str | None = None, **options: Any) -> turn.Turn:
    asked = prompt(text, **options)
    return service.complete(asked, caller=Caller(uid=user.uid), clock=utc_now, generation_id=generation_id)


def test_credits_for_37_answers_pay_for_exactly_37_of_100_at_once(poor_user):
    poor_user.conversation()
    give(poor_user.uid, 37 * FLAT_RATE_MICRO / 10**6)

    def ask(_: int) -> str:
        try:
            return complete(poor_user, "/say ok", model=FLAT_RATE).result().text
        except InsufficientCredits:
            return "no credits"

    with ThreadPoolExecutor(25) as pool:
        answers = list(pool.map(ask, range(100)))
    assert (answers.count("ok"), answers.count("no credits")) == (37, 63)
    assert poor_user.balance().available_micro == 0
    assert credits.get_account(poor_user.uid).amounts.spent_micro == 37 * FLAT_RATE_MICRO
    poor_user.assert_money_is_in_order()


def test_an_answer_is_told_once_and_a_repetition_says_that_it_is_not_kept(user, standin):
    generation_id = new_id("gen")
    assert complete(user, "/say once", generation_id).result().text == "once"
    with pytest.raises(Conflict) as refusal:
        complete(user, "/say once", generation_id)
    assert refusal.value.details["reason"] == "already_answered"
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


@pytest.mark.usefixtures("past_lease")
def test_what_died_before_it_asked_is_asked_anew(user, standin):
    generation_id = new_id("gen")
    key = beginning.Key(user.uid, generation_id, Caller(uid=user.uid))
    beginning.begin_alone(key, prompt("/say late"), clock=utc_now, keep_partial=False)
    with pytest.raises(Conflict, match="being recovered"):
        complete(user, "/say late", generation_id)
    sweep_until_nothing_is_held(user)
    assert complete(user, "/say late", generation_id).result().text == "late"
    with pytest.raises(Conflict) as refusal:
        complete(user, "/say late", generation_id)
    assert refusal.value.details["reason"] == "already_answered"
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


@pytest.mark.parametrize("fault", [{"status": "401"}, {"stream_error_a": 3}])
def test_what_failed_is_asked_anew(user, standin, fault):
    generation_id = new_id("gen")
    standin.fault(**fault)
    with pytest.raises(UpstreamError):
        complete(user, "/repeat 5 word", generation_id).result()
    assert complete(user, "/repeat 5 word", generation_id).result().text.split() == ["word"] * 5
    sweep_until_nothing_is_held(user)
    user.assert_money_is_in_order()


@pytest.mark.usefixtures("past_lease")
def test_what_died_in_the_middle_is_paid_once_and_its_events_are_left(user, standin):
    standin.fault(chunk_delay_ms=10)
    generation_id = new_id("gen")
    running = complete(user, "/repeat 50 word", generation_id)
    for _ in range(4):
        next(running)
    abandon(running)
    sweep_until_nothing_is_held(user)
    with pytest.raises(Conflict) as refusal:
        complete(user, "/repeat 50 word", generation_id)
    assert refusal.value.details == {"reason": "already_answered", "generation_id": generation_id}
    log = generation_log.read(generation_id)
    assert log is not None
    assert (log.closed, log.events[-1]["status"]) == (True, Status.INTERRUPTED)
    record = usage_record(generation_id)
    assert (record["capability"], record["status"]) == ("openai_api", "interrupted")
    assert 1000 * 10**6 - user.balance().available_micro == record["charged_micro"] > 0
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


def test_a_burst_never_spends_more_than_there_was(poor_user):
    """Prices by the token, another length each time: what is held bounds what is charged."""
    poor_user.conversation()
    give(poor_user.uid, 0.5)

    def ask(place: int) -> int:
        try:
            running = complete(poor_user, f"/repeat {place % 40} wörter 🦘", max_tokens=60)
            running.result()
        except AppError:
            return 0
        return running.ended.credits.charged_micro if running.ended else 0

    with ThreadPoolExecutor(25) as pool:
        charged = list(pool.map(ask, range(100)))
    assert any(charged)
    balance = poor_user.balance()
    assert balance.debt_micro == 0
    assert sum(charged) + balance.available_micro == 500_000
    poor_user.assert_money_is_in_order()
