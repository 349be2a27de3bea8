"""A producer that was taken for dead while it lives: one of the two ends the turn, and everybody is told the same."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from google.cloud.firestore_v1.base_query import FieldFilter

from functions.chat import beginning, ending, generation_log, service, turn, watch
from functions.chat.domain import Status
from shared.clients import firestore_client, redis_client
from shared.clock import utc_now
from shared.ids import new_id
from tests.store.chat.support import User, question, usage_record
from tests.store.chat.test_generations import sweep_until_nothing_is_held

READERS = 20

pytestmark = pytest.mark.usefixtures("past_lease")


def begun(user: User, conversation: str, content: str) -> turn.Turn:
    """A turn whose credits are held and whose model was not asked yet."""
    key = beginning.Key(user.uid, new_id("gen"))
    return beginning.begin(key, conversation, question(content), clock=utc_now, keep_partial=True)


def seem_dead(running: turn.Turn) -> None:
    """As after seconds in which the machine gave this process no time."""
    watch.unwatch(running.generation.id)
    redis_client().delete(f"gen:{{{running.generation.id}}}:alive")


def events_told(user: User, generation_id: str) -> int:
    """How many events of the outbox tell the end of this generation."""
    outbox = firestore_client().collection("events").where(filter=FieldFilter("uid", "==", user.uid)).get()
    ends = ("chat.message.completed", "chat.generation.failed", "chat.generation.completed")
    told = [event.to_dict() or {} for event in outbox]
    return sum(each["type"] in ends and generation_id in str(each) for each in told)


def test_a_turn_that_was_ended_before_it_asked_asks_nothing(user, standin):
    """Nobody would store what the model says, and its price would be paid for nothing."""
    conversation = user.conversation()
    late = begun(user, conversation, "/say too late")
    service.sweep(now=utc_now())
    with pytest.raises(turn.TakenOver):
        late.connect()
    assert standin.asked() == []
    assert user.messages(conversation) == []
    assert service.get_generation(user.uid, late.generation.id).status is Status.INTERRUPTED
    log = generation_log.read(late.generation.id)
    assert log is not None
    assert (log.closed, [event["type"] for event in log.events]) == (True, ["end"])
    assert user.balance().available_micro == 1000 * 10**6
    user.assert_money_is_in_order()


def test_a_turn_that_was_slow_to_begin_begins_again(user, standin, monkeypatch):
    slow: list[str] = []

    def begin(*args, **options):
        running = beginning.begin(*args, **options)
        if not slow:
            slow.append(running.generation.id)
            service.sweep(now=utc_now())
        return running

    monkeypatch.setattr("functions.chat.service.begin", begin)
    conversation = user.conversation()
    answer = user.ask(conversation, "/say in time after all").json
    assert answer["message"]["parts"][0]["text"] == "in time after all"
    assert answer["generation_id"] not in slow
    assert len(user.messages(conversation)) == 2
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


def test_a_stop_that_comes_before_the_log_was_opened_keeps_no_turn_from_its_answer(user):
    running = begun(user, user.conversation(), "/say soon")
    generation_log.request_stop(running.generation.id)
    running.connect()
    running.close()
    assert running.ended is not None
    assert running.ended.status in (Status.STOPPED, Status.COMPLETED)
    user.assert_money_is_in_order()


def test_a_producer_that_was_taken_over_in_its_last_step_tells_what_is_stored(user, standin, monkeypatch):
    """Its answer was whole, but the shorter one is stored: nobody may be told another end than is there."""
    standin.fault(chunk_delay_ms=5)
    conversation = user.conversation()
    running = service.ask(user.uid, conversation, question("/repeat 12 word"), clock=utc_now, keep_partial=True)
    original = ending.end

    def end(generation, *args, **options):
        if options["keep_partial"] and not taken_over:
            taken_over.append(generation.id)
            seem_dead(running)
            assert service.sweep(now=utc_now())["interrupted"] >= 1
        return original(generation, *args, **options)

    taken_over: list[str] = []
    monkeypatch.setattr(ending, "end", end)
    told = [event for batch in running for event in batch][-1]
    stored = user.messages(conversation)[-1]
    assert (told["type"], told["status"]) == ("end", stored["status"]) == ("end", "interrupted")
    assert told["credits"]["charged_micro"] == stored["credits"]["charged_micro"]
    log = generation_log.read(running.generation.id)
    assert log is not None
    assert [event["status"] for event in log.events if event["type"] == "end"] == ["interrupted"]
    assert len(user.messages(conversation)) == 2
    assert events_told(user, running.generation.id) == 1
    sweep_until_nothing_is_held(user)
    assert usage_record(running.generation.id)["settlement_pending"] is False
    user.assert_money_is_in_order()


def test_of_twenty_readers_of_a_dead_turn_one_ends_it(user, standin):
    standin.fault(chunk_delay_ms=5)
    conversation = user.conversation()
    running = service.ask(user.uid, conversation, question("/repeat 50 word"), clock=utc_now, keep_partial=True)
    for _ in range(5):
        next(running)
    seem_dead(running)
    path = f"/api/v1/generations/{running.generation.id}/events"
    with ThreadPoolExecutor(READERS) as pool:
        pages = list(pool.map(lambda _: user.request("GET", path), range(READERS)))
    assert {page.status_code for page in pages} == {200}
    time.sleep(0.1)
    log = generation_log.read(running.generation.id)
    assert log is not None
    assert [event["type"] for event in log.events].count("end") == 1
    running.close()
    assert len(user.messages(conversation)) == 2
    assert events_told(user, running.generation.id) == 1
    sweep_until_nothing_is_held(user)
    record = usage_record(running.generation.id)
    assert 1000 * 10**6 - user.balance().available_micro == record["charged_micro"]
    user.assert_money_is_in_order()
