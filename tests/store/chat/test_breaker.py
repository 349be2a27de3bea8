"""What a turn does while the model provider fails: it asks again when that may help, and not at all when it may not."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from functions.chat import service, turn, watch
from functions.chat.domain import Status
from functions.credits import service as credits
from functions.models import service as models
from functions.models.domain import DEFAULT_MODEL, FOR_ANYONE
from shared import breaker
from shared.breaker import Breakers, Permit, Policy
from shared.clients import firestore_client, openrouter
from shared.clock import utc_now
from shared.errors import UpstreamBusy, UpstreamError
from shared.openrouter import asking
from shared.redis_link import Link
from shared.settings import settings
from tests.store.chat.support import User, events_of, question, usage_record

FLAT_RATE = "craftpilot/flat-rate"
FLAT_PRICE_MICRO = 1_200_000
NOWHERE = "redis://127.0.0.1:9/0"
POLICY = Policy(cool_down_ms=1_500, longest_cool_down_ms=1_500)


@pytest.fixture
def links():
    made: list[Link] = []
    yield made
    for link in made:
        link.close()


@pytest.fixture
def use_breakers(monkeypatch, links) -> Callable[..., Breakers]:
    """Give this process breakers of another policy, or behind another Redis."""

    def use(policy: Policy = POLICY, url: str | None = None) -> Breakers:
        # A busy machine must not make a test of shared circuits one of local ones.
        link = Link(url or settings().redis_url, timeout_s=5)
        links.append(link)
        own = Breakers(lambda: link, policy)
        for module in (asking, models, breaker):
            monkeypatch.setattr(module, "breakers", lambda: own)
        return own

    return use


def ask(user: User, model: str | None = FLAT_RATE, text: str = "/say here", **options) -> turn.Turn:
    """A turn as the service makes it: rate limits are not what is tested here."""
    return service.ask(
        user.uid, user.conversation(), question(text, model, **options), clock=utc_now, keep_partial=True
    )


def fail(user: User, times: int, model: str | None = FLAT_RATE) -> None:
    for _ in range(times):
        with pytest.raises(UpstreamError):
            ask(user, model)


def open_circuit(user: User, standin, model: str = FLAT_RATE) -> None:
    """Four requests with three attempts each: more than the ten that the rule wants."""
    standin.fault(times=1000, match={"path": "/chat/completions", "model": model}, status="502")
    fail(user, 4, model)


def generations_of(user: User) -> int:
    return len(list(firestore_client().collection(f"users/{user.uid}/generations").list_documents()))


# Asking again.


@pytest.mark.parametrize("fault", [{"status": "503", "retry_after": 1}, {"status": "502"}, {"reset": True}])
def test_what_fails_once_is_asked_again_and_paid_once(user, standin, fault):
    standin.fault(**fault)
    conversation = user.conversation()
    response = user.ask(conversation, "/say here", model=FLAT_RATE)
    assert response.status_code == 200
    assert len(standin.asked()) == 2
    assert len(user.messages(conversation)) == 2
    assert credits.get_account(user.uid).amounts.spent_micro == FLAT_PRICE_MICRO
    user.assert_money_is_in_order()


def test_the_time_that_the_provider_asks_for_is_waited(user, standin):
    standin.fault(status="503", retry_after=2)
    started = time.monotonic()
    ask(user).close()
    assert time.monotonic() - started >= 2
    assert len(standin.asked()) == 2


def test_a_longer_wait_than_a_request_has_is_handed_on_at_once(user, standin):
    standin.fault(times=10, status="503", retry_after=60)
    started = time.monotonic()
    response = user.ask(user.conversation(), "Hello", model=FLAT_RATE)
    assert time.monotonic() - started < 10
    assert (response.status_code, response.headers["Retry-After"]) == (503, "60")
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


@pytest.mark.parametrize("fault", [{"stream_error_a": 2}, {"stream_error_d": 2}, {"reset_after": 2}])
def test_after_the_first_token_nothing_is_asked_again(user, standin, fault):
    standin.fault(**fault, chunk_delay_ms=5)
    running = ask(user, text="/repeat 30 word")
    delivered = [event for batch in running for event in batch]
    assert delivered[-1]["status"] == Status.FAILED
    assert len(standin.asked()) == 1


@pytest.mark.parametrize("fault", [{"error_200": "body"}, {"stream_error_c": 0}])
def test_an_answer_that_has_an_id_is_never_asked_for_again_because_it_may_have_a_price(user, standin, fault):
    standin.fault(**fault)
    user.ask(user.conversation(), "/say here", model=FLAT_RATE)
    assert len(standin.asked()) == 1
    service.sweep(now=utc_now())
    user.assert_money_is_in_order()


def test_of_an_attempt_that_failed_unpaid_and_one_that_broke_off_the_second_is_settled(user, standin):
    standin.fault(status="502")
    standin.fault(stream_error_d=3, chunk_delay_ms=5)
    running = ask(user, text="/repeat 30 word")
    running.close()
    for _ in range(20):
        service.sweep(now=utc_now())
        if user.balance().held_micro == 0:
            break
        time.sleep(0.2)
    asked = standin.asked()
    assert len(asked) == 2
    record = usage_record(running.generation.id)
    assert record["settlement_pending"] is False
    assert record["cost_pico_usd"] == round(asked[-1]["cost"] * 10**12)
    assert credits.get_account(user.uid).amounts.spent_micro == record["charged_micro"]
    user.assert_money_is_in_order()


def test_a_stop_ends_the_wait_for_the_next_attempt(user, standin, monkeypatch):
    monkeypatch.setattr(watch, "INTERVAL_S", 0.1)
    standin.fault(times=10, status="503", retry_after=15)
    conversation = user.conversation()
    started = time.monotonic()
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(user.ask, conversation, "/say too late", stream=True, model=FLAT_RATE)
        while not standin.asked():
            time.sleep(0.05)
        [generation] = firestore_client().collection(f"users/{user.uid}/generations").list_documents()
        service.stop(user.uid, generation.id)
        kinds = [frame["type"] for frame in events_of(asked.result())[:-1]]
    assert kinds[-1] == "abort"
    assert time.monotonic() - started < 10
    assert len(standin.asked()) == 1
    assert user.messages(conversation) == []
    user.assert_money_is_in_order()


# Not asking at all.


def test_an_open_circuit_answers_at_once_without_asking_or_holding_anything(user, standin, use_breakers):
    use_breakers(replace(POLICY, cool_down_ms=30_000, longest_cool_down_ms=30_000))
    open_circuit(user, standin)
    asked, begun = len(standin.asked()), generations_of(user)
    conversation = user.conversation()
    user.ask(conversation, "warm", model=FLAT_RATE)
    started = time.perf_counter()
    response = user.ask(conversation, "Hello", model=FLAT_RATE)
    print(f"refused by an open circuit in {(time.perf_counter() - started) * 1000:.1f} ms, the whole pipeline included")
    assert (response.status_code, response.json["code"]) == (503, "upstream_busy")
    assert 25 <= int(response.headers["Retry-After"]) <= 30
    assert len(standin.asked()) == asked
    assert generations_of(user) == begun
    user.assert_money_is_in_order()


def test_the_retries_of_a_request_end_when_the_circuit_opens(user, standin, use_breakers):
    use_breakers(replace(POLICY, min_requests=2))
    standin.fault(times=10, status="502")
    with pytest.raises(UpstreamBusy):
        ask(user)
    assert len(standin.asked()) == 2
    user.assert_money_is_in_order()


def test_a_model_s_failures_leave_the_other_models_alone(user, standin, use_breakers):
    use_breakers()
    open_circuit(user, standin)
    ask(user, DEFAULT_MODEL).close()
    user.assert_money_is_in_order()


def test_a_provider_that_is_not_reached_is_left_alone_whatever_the_model(user, standin, use_breakers):
    own = use_breakers()
    openrouter().close()  # a connection that another test has left, and that breaks now, is nobody's fault
    standin.fault(times=1000, reset=True)
    fail(user, 2, FLAT_RATE)
    fail(user, 2, DEFAULT_MODEL)
    asked = len(standin.asked())
    fail(user, 1, "openai/gpt-4.1-mini")
    fail(user, 1, None)
    assert len(standin.asked()) == asked
    assert own.get(asking.SERVICE).blocked_for_s() is not None
    assert own.get(asking.circuit_of(FLAT_RATE)).blocked_for_s() is None
    user.assert_money_is_in_order()


def test_requests_that_are_refused_for_their_own_fault_never_open_a_circuit(user, standin, use_breakers):
    use_breakers()
    for status in ("400", "402", "403", "404", "413", "422", "401"):
        standin.fault(times=3, status=status)
        fail(user, 3)
    ask(user).close()
    assert len(standin.asked()) == 22


def test_stopped_answers_and_readers_that_leave_never_open_a_circuit(user, standin, use_breakers):
    use_breakers(replace(POLICY, min_requests=2))
    standin.fault(times=3, chunk_delay_ms=20)
    for _ in range(3):
        running = ask(user, text="/repeat 20 word")
        next(running)
        next(running)
        running._cancellation.cancel()
        running.close()
        assert running.ended is not None
        assert running.ended.status is Status.STOPPED
    ask(user).close()


def test_answers_that_break_off_open_the_circuit(user, standin, use_breakers):
    own = use_breakers(replace(POLICY, min_requests=3))
    standin.fault(times=3, stream_error_a=2)
    for _ in range(3):
        ask(user, text="/repeat 20 word").close()
    assert own.get(asking.circuit_of(FLAT_RATE)).blocked_for_s() is not None


# Coming back.


def test_a_model_that_works_again_is_asked_again(user, standin, use_breakers):
    use_breakers()
    open_circuit(user, standin)
    standin.reset()
    fail(user, 1)
    assert standin.asked() == []
    time.sleep(POLICY.cool_down_ms / 1000)
    for _ in range(3):
        ask(user).close()
    assert len(standin.asked()) == 3
    user.assert_money_is_in_order()


def test_of_twenty_turns_at_half_open_one_asks_and_the_others_are_told_to_wait(user, standin, use_breakers):
    use_breakers()
    open_circuit(user, standin)
    standin.reset()
    standin.fault(slow_headers_ms=2_000)
    conversations = [user.conversation() for _ in range(20)]
    time.sleep(POLICY.cool_down_ms / 1000)
    together = threading.Barrier(20)

    def turn_in(conversation: str) -> str:
        together.wait(10)
        asked = question("/say here", FLAT_RATE)
        try:
            service.ask(user.uid, conversation, asked, clock=utc_now, keep_partial=True).close()
        except UpstreamBusy as busy:
            return f"come back after {busy.retry_after_s} s"
        return "answered"

    with ThreadPoolExecutor(max_workers=20) as pool:
        results = list(pool.map(turn_in, conversations))
    assert (results.count("answered"), results.count("come back after 1 s")) == (1, 19)
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


def test_a_probe_closes_the_circuit_with_its_first_words(user, standin, use_breakers):
    own = use_breakers()
    open_circuit(user, standin)
    standin.reset()
    standin.fault(chunk_delay_ms=30)
    time.sleep(POLICY.cool_down_ms / 1000)
    running = ask(user, text="/repeat 50 word")
    while not running._answer.says_something:
        next(running)
    assert own.get(asking.circuit_of(FLAT_RATE)).blocked_for_s() is None
    running.close()


def test_a_stopped_probe_makes_room_for_the_next(user, standin, use_breakers):
    use_breakers()
    open_circuit(user, standin)
    standin.reset()
    time.sleep(POLICY.cool_down_ms / 1000)
    probe = ask(user)
    probe._cancellation.cancel()
    probe.close()
    ask(user).close()
    assert len(standin.asked()) == 2


# Alternatives.


def test_who_names_no_model_gets_another_one_while_the_default_fails(user, standin, use_breakers):
    use_breakers()
    open_circuit(user, standin, DEFAULT_MODEL)
    response = user.ask(user.conversation(), "/say here")
    assert response.status_code == 200
    assert response.json["message"]["model"] == FOR_ANYONE[1]
    user.assert_money_is_in_order()


def test_who_names_the_failing_model_gets_the_time_to_come_back_and_no_other_model(user, standin, use_breakers):
    use_breakers()
    open_circuit(user, standin, DEFAULT_MODEL)
    response = user.ask(user.conversation(), "/say here", model=DEFAULT_MODEL)
    assert (response.status_code, response.json["code"]) == (503, "upstream_busy")
    assert int(response.headers["Retry-After"]) in {1, 2}


def test_a_request_that_has_an_alternative_does_not_go_on_against_an_open_circuit(user, standin, use_breakers):
    use_breakers(replace(POLICY, min_requests=2))
    standin.fault(times=10, status="502")
    with pytest.raises(UpstreamBusy):
        ask(user, None)
    assert len(standin.asked()) == 4  # twice the one, twice the other
    user.assert_money_is_in_order()


def test_when_every_alternative_is_open_one_is_tried_all_the_same(user, standin, use_breakers):
    own = use_breakers(replace(POLICY, cool_down_ms=30_000, longest_cool_down_ms=30_000))
    for model in FOR_ANYONE:
        for _ in range(10):
            own.get(asking.circuit_of(model)).admit(insist=True).failed()
        assert own.get(asking.circuit_of(model)).blocked_for_s() is not None
    response = user.ask(user.conversation(), "/say here")
    assert response.status_code == 200
    assert response.json["message"]["model"] == DEFAULT_MODEL
    standin.fault(times=10, status="502")
    fail(user, 1, None)
    assert len(standin.asked()) == 3  # against an open circuit nothing is asked twice, only the other model
    user.assert_money_is_in_order()


# Without Redis.


def test_without_redis_turns_are_answered_and_a_failing_model_is_left_alone(user, standin, use_breakers):
    own = use_breakers(url=NOWHERE)
    ask(user).close()
    open_circuit(user, standin)
    asked = len(standin.asked())
    fail(user, 1)
    assert len(standin.asked()) == asked
    standin.reset()
    time.sleep(POLICY.cool_down_ms / 1000)
    ask(user).close()
    permit = own.get(asking.circuit_of(FLAT_RATE)).admit()
    assert isinstance(permit, Permit)
    assert not permit.bypass
    user.assert_money_is_in_order()
