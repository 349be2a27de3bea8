"""Generations: their log, stopping, resuming, and what becomes of one whose process dies."""

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, cast

import pytest

from functions.chat import answer, beginning, generation_log, repository, service, turn, watch
from functions.chat.domain import Generation, Status
from functions.chat.removal import repository as removal_repository
from functions.credits import service as credits
from shared import store
from shared.clients import redis_client
from shared.clock import utc_now
from shared.errors import Unavailable
from shared.ids import new_id
from shared.openrouter import Cancellation
from shared.redis_link import Link, LinkFailed
from tests.store.chat.support import User, events_of, give, question, usage_record


def begin(user: User, content: str, **options) -> tuple[str, turn.Turn]:
    conversation = user.conversation()
    asked = question(content, **options)
    return conversation, service.ask(user.uid, conversation, asked, clock=utc_now, keep_partial=True)


def events_after(user: User, generation_id: str, after: int = 0) -> dict:
    return user.request("GET", f"/api/v1/generations/{generation_id}/events?after={after}").json


def wait_for(look: Callable[[], Any]) -> Any:
    for _ in range(200):
        if found := look():
            return found
        time.sleep(0.05)
    pytest.fail("waited in vain")


def abandon(running: turn.Turn) -> None:
    """What a killed process leaves behind: nobody reads on, nobody says that it lives."""
    cast("Generator[Any]", running._batches).close()
    redis_client().delete(f"gen:{{{running.generation.id}}}:alive")


def sweep_until_nothing_is_held(user: User) -> None:
    for minutes in range(20):
        service.sweep(now=utc_now() + timedelta(minutes=minutes))
        if user.balance().held_micro == 0:
            return
        time.sleep(0.2)
    pytest.fail("the sweep did not end the hold")


def test_the_log_can_be_read_from_any_point(user):
    _, running = begin(user, "What is a quokka?")
    delivered = [event for batch in running for event in batch]
    whole = events_after(user, running.generation.id)
    assert whole["done"]
    assert [event["seq"] for event in whole["items"]] == list(range(1, len(delivered) + 1))
    for after in range(len(delivered) + 1):
        rest = events_after(user, running.generation.id, after)
        assert rest["items"] == whole["items"][after:]
        assert rest["next"] == len(delivered)


def test_a_resumed_stream_gives_the_bytes_that_were_missed(user):
    conversation = user.conversation()
    response = user.ask(conversation, "What is a quokka?", stream=True)
    original = response.get_data()
    start = events_of(response)[0]
    generation = start["messageMetadata"]["generation_id"]
    path = f"/api/v1/generations/{generation}/events"
    stream = {"headers": {"Accept": "text/event-stream"}}
    assert user.request("GET", path, **stream).get_data() == original
    for after in range(1, events_after(user, generation)["next"]):
        rest = user.request("GET", f"{path}?after={after}", **stream).get_data()
        assert original.endswith(rest)
        assert rest.endswith(b"data: [DONE]\n\n")


def test_a_reader_can_wait_for_what_comes_next(user, standin):
    standin.fault(first_token_delay_ms=300)
    _, running = begin(user, "/say late")
    reader = ThreadPoolExecutor().submit(
        user.request, "GET", f"/api/v1/generations/{running.generation.id}/events?after=1&wait_s=5"
    )
    for _ in running:
        pass
    assert reader.result().json["items"][0]["type"] == "text"


def test_an_expired_log_says_where_the_answer_is(user):
    answer = user.ask(user.conversation(), "/say kept").json
    for key in redis_client().keys(f"gen:{{{answer['generation_id']}}}:*"):
        redis_client().delete(key)
    response = user.request("GET", f"/api/v1/generations/{answer['generation_id']}/events")
    assert (response.status_code, response.json["message_id"]) == (410, answer["message"]["id"])


def test_a_stop_keeps_and_charges_what_was_written(user, standin):
    standin.fault(chunk_delay_ms=30)
    conversation, running = begin(user, "/repeat 200 word")
    delivered = []
    for batch in running:
        delivered += batch
        if len(delivered) == 5:
            path = f"/api/v1/generations/{running.generation.id}/stop"
            assert user.request("POST", path).json == {"id": running.generation.id, "stopping": True}
    assert delivered[-1]["status"] == "stopped"
    message = user.messages(conversation)[-1]
    words = message["parts"][0]["text"].split()
    assert message["status"] == "stopped"
    assert 0 < len(words) < 150
    sweep_until_nothing_is_held(user)
    record = usage_record(running.generation.id)
    assert 0 < record["completion_tokens"] < 200
    assert record["cost_pico_usd"] == round(standin.asked()[-1]["cost"] * 10**12)
    user.assert_money_is_in_order()
    assert user.request("POST", f"/api/v1/generations/{running.generation.id}/stop").json["stopping"] is False


def test_in_a_crowd_words_come_in_larger_pieces_and_none_is_lost(user, standin, monkeypatch):
    monkeypatch.setattr(watch, "count", lambda: 400)
    standin.fault(chunk_delay_ms=5)
    said = " ".join(f"word{number}" for number in range(100))
    _, running = begin(user, f"/say {said}")
    texts = [event["text"] for batch in running for event in batch if event["type"] == "text"]
    assert "".join(texts) == said
    assert len(texts) <= 10, "a hundred words within a second, and two pieces a second"
    assert running.ended is not None
    assert running.ended.status is Status.COMPLETED


def test_in_a_crowd_nobody_waits_behind_the_last_words(user, standin, monkeypatch):
    waits: list[float] = []

    def wait(_: Cancellation, seconds: float) -> None:
        waits.append(seconds)
        time.sleep(1)  # by then the rest is there, with its end

    monkeypatch.setattr(watch, "count", lambda: 400)
    monkeypatch.setattr(Cancellation, "wait", wait)
    standin.fault(chunk_delay_ms=50)
    _, running = begin(user, "/say one two three")
    texts = [event["text"] for batch in running for event in batch if event["type"] == "text"]
    assert texts == ["one", " two three"]
    assert len(waits) == 1


def test_a_stop_ends_the_wait_for_a_larger_piece(user, standin, monkeypatch):
    monkeypatch.setattr(watch, "count", lambda: 10**6)
    monkeypatch.setattr(turn, "LONGEST_PAUSE_S", 3600.0)
    standin.fault(chunk_delay_ms=5)
    _, running = begin(user, "/say one two three four five six seven eight nine ten")
    pieces = iter(running)
    while not any(event["type"] == "text" for event in next(pieces)):
        pass
    user.request("POST", f"/api/v1/generations/{running.generation.id}/stop")
    last = [event for batch in pieces for event in batch][-1]
    assert (last["type"], last["status"]) == ("end", "stopped")


def test_a_stop_is_heard_while_the_model_is_silent(user, standin):
    standin.fault(stall_after=2)
    _, running = begin(user, "/repeat 200 word")
    stopper = threading.Timer(0.3, service.stop, (user.uid, running.generation.id))
    stopper.start()
    started = time.monotonic()
    delivered = [event for batch in running for event in batch]
    assert delivered[-1]["status"] == "stopped"
    assert time.monotonic() - started < 10
    sweep_until_nothing_is_held(user)
    user.assert_money_is_in_order()


@pytest.mark.usefixtures("past_lease")
def test_a_dead_producers_answer_is_kept_as_interrupted_and_paid_once(user, standin):
    standin.fault(chunk_delay_ms=20)
    conversation, running = begin(user, "/repeat 50 word")
    for _ in range(4):
        next(running)
    abandon(running)
    sweep_until_nothing_is_held(user)
    question, answer = user.messages(conversation)
    assert (question["status"], answer["status"]) == ("completed", "interrupted")
    assert answer["parts"][0]["text"].startswith("word")
    charged = 1000 * 10**6 - user.balance().available_micro
    record = usage_record(running.generation.id)
    assert charged == record["charged_micro"] > 0
    user.assert_money_is_in_order()
    whole = events_after(user, running.generation.id)
    assert whole["done"]
    assert whole["items"][-1]["status"] == "interrupted"

    service.sweep(now=utc_now())
    assert 1000 * 10**6 - user.balance().available_micro == charged
    assert user.ask(conversation, "/say goes on").status_code == 200


@pytest.mark.usefixtures("past_lease")
def test_a_producer_that_was_taken_for_dead_changes_nothing_any_more(user, standin):
    standin.fault(chunk_delay_ms=20)
    conversation, running = begin(user, "/repeat 30 word")
    next(running)
    next(running)
    redis_client().delete(f"gen:{{{running.generation.id}}}:alive")
    watch.unwatch(running.generation.id)
    service.sweep(now=utc_now())
    before = user.messages(conversation)
    rest = [event for batch in running for event in batch]
    assert rest[-1]["status"] == "interrupted"
    assert len(user.messages(conversation)) == len(before)
    sweep_until_nothing_is_held(user)
    record = usage_record(running.generation.id)
    assert 1000 * 10**6 - user.balance().available_micro == record["charged_micro"] > 0
    user.assert_money_is_in_order()


@pytest.mark.usefixtures("past_lease")
def test_a_living_producer_is_left_alone(user, standin):
    standin.fault(chunk_delay_ms=20)
    _, running = begin(user, "/repeat 10 word")
    next(running)
    service.sweep(now=utc_now())
    assert [event for batch in running for event in batch][-1]["status"] == "completed"
    user.assert_money_is_in_order()


@pytest.mark.usefixtures("past_lease")
def test_a_process_that_dies_before_it_asked_leaves_nothing_held(user):
    conversation = user.conversation()
    beginning.begin(
        beginning.Key(user.uid, new_id("gen")), conversation, question("Hello"), clock=utc_now, keep_partial=True
    )
    assert user.balance().held_micro > 0
    sweep_until_nothing_is_held(user)
    assert user.messages(conversation) == []
    assert user.balance().available_micro == 1000 * 10**6
    user.assert_money_is_in_order()


def test_a_cost_that_is_never_learned_is_given_back_after_a_while(user, standin):
    standin.fault(stream_error_d=2, generation_404_ms=10_000_000)
    conversation = user.conversation()
    user.ask(conversation, "/repeat 30 word", stream=True).get_data()
    service.sweep(now=utc_now())
    assert user.balance().held_micro > 0
    generation = user.messages(conversation)[-1]["generation_id"]
    service.sweep(now=utc_now() + service.COST_PATIENCE)
    assert user.balance().available_micro == 1000 * 10**6
    assert usage_record(generation)["settlement_pending"] is False
    assert user.messages(conversation)[-1]["credits"]["pending"] is False
    user.assert_money_is_in_order()


def test_the_answer_flows_without_redis_and_is_stored(user, monkeypatch):
    nobody = Link("redis://127.0.0.1:9/0")
    monkeypatch.setattr(generation_log, "redis_link", lambda: nobody)
    conversation, running = begin(user, "/say still here")
    assert "".join(event.get("text", "") for batch in running for event in batch) == "still here"
    assert user.messages(conversation)[-1]["parts"][0]["text"] == "still here"
    user.assert_money_is_in_order()
    response = user.request("GET", f"/api/v1/generations/{running.generation.id}/events")
    assert (response.status_code, response.json["code"]) == (503, "unavailable")


def test_credits_for_37_turns_pay_for_exactly_37_of_100_at_once(poor_user):
    give(poor_user.uid, 37 * 1.2)
    conversations = [poor_user.conversation() for _ in range(100)]
    # The flat rate of this model, mark-up included, is 1.2 credits: a turn holds exactly what it costs.
    with ThreadPoolExecutor(max_workers=25) as pool:
        statuses = list(
            pool.map(
                lambda conversation: poor_user.ask(conversation, "/say ok", model="craftpilot/flat-rate").status_code,
                conversations,
            )
        )
    print(f"37 of 100: {statuses.count(200)} answered, {statuses.count(402)} without credits")
    assert (statuses.count(200), statuses.count(402)) == (37, 63)
    assert poor_user.balance().available_micro == 0
    poor_user.assert_money_is_in_order()
    stored = [len(poor_user.messages(conversation)) for conversation in conversations]
    assert (stored.count(2), stored.count(0)) == (37, 63)
    assert credits.get_account(poor_user.uid).amounts.spent_micro == 37 * 1_200_000


def test_twenty_turns_at_once_in_one_conversation_are_all_stored(user):
    conversation = user.conversation()
    with ThreadPoolExecutor(max_workers=20) as pool:
        answers = list(pool.map(lambda n: user.ask(conversation, f"/say {n}"), range(20)))
    assert [answer.status_code for answer in answers] == [200] * 20
    view = user.request("GET", f"/api/v1/conversations/{conversation}").json
    assert view["message_count"] == len(user.messages(conversation)) == 40
    user.assert_money_is_in_order()


def test_a_turn_waits_for_one_round_trip_before_the_model_is_asked(user, monkeypatch):
    """The conversation is on its way while the hold is made, and nothing else is read."""
    user.ask(user.conversation(), "/say warm")
    conversation = user.conversation()
    steps = []
    start, hold, ask = repository.start_opening, credits.hold, turn.Turn.connect

    class Opening:
        def __init__(self, *place):
            steps.append("reading")
            self._opening = start(*place)

        def result(self):
            steps.append("read")
            return self._opening.result()

    def held(*args, **options):
        made = hold(*args, **options)
        steps.append("held")
        return made

    def connect(running):
        steps.append("asked")
        reading.undo()
        return ask(running)

    monkeypatch.setattr(repository, "start_opening", Opening)
    monkeypatch.setattr(credits, "hold", held)
    monkeypatch.setattr(turn.Turn, "connect", connect)
    with pytest.MonkeyPatch.context() as reading:
        reading.setattr(repository, "_get", lambda _: pytest.fail("something else was read"))
        assert user.ask(conversation, "/say together").status_code == 200
    assert steps == ["reading", "held", "read", "asked"]


def test_a_generation_tells_where_it_stands(user, standin):
    standin.fault(chunk_delay_ms=10)
    _, running = begin(user, "/repeat 5 word")
    path = f"/api/v1/generations/{running.generation.id}"
    assert user.request("GET", path).json["status"] == Status.RUNNING
    running.close()
    ended = user.request("GET", path).json
    assert ended["status"] == Status.COMPLETED
    assert ended["ended_at"] > ended["started_at"]


def test_a_turn_that_outlives_its_hold_is_stored_and_paid_afterwards(user, standin, monkeypatch):
    monkeypatch.setattr(beginning, "HOLD_TTL", timedelta(milliseconds=1))
    standin.fault(chunk_delay_ms=10)
    conversation, running = begin(user, "/repeat 5 word")
    next(running)
    assert credits.sweep(now=utc_now())["holds_expired"] >= 1
    assert user.balance().held_micro == 0
    assert [event for batch in running for event in batch][-1]["status"] == "completed"
    message = user.messages(conversation)[-1]
    assert message["parts"][0]["text"].split() == ["word"] * 5
    assert 1000 * 10**6 - user.balance().available_micro == message["credits"]["charged_micro"] > 0
    user.assert_money_is_in_order()


@pytest.mark.usefixtures("past_lease")
def test_a_dead_turn_whose_hold_has_expired_is_ended_all_the_same(user, standin, monkeypatch):
    monkeypatch.setattr(beginning, "HOLD_TTL", timedelta(milliseconds=1))
    standin.fault(chunk_delay_ms=20)
    conversation, running = begin(user, "/repeat 50 word")
    for _ in range(4):
        next(running)
    abandon(running)
    credits.sweep(now=utc_now())
    for minutes in range(10):
        service.sweep(now=utc_now() + timedelta(minutes=minutes))
        time.sleep(0.1)
    message = user.messages(conversation)[-1]
    assert (message["status"], message["credits"]["pending"]) == ("interrupted", False)
    assert 1000 * 10**6 - user.balance().available_micro == message["credits"]["charged_micro"] > 0
    user.assert_money_is_in_order()


@pytest.mark.usefixtures("past_lease")
def test_one_generation_that_cannot_be_swept_does_not_stop_the_others(user, standin, monkeypatch):
    standin.fault(times=2, chunk_delay_ms=20)
    _, broken = begin(user, "/repeat 50 word")
    conversation, dead = begin(user, "/repeat 50 word")
    for running in (broken, dead):
        next(running)
        next(running)
        abandon(running)
    original = credits.find_hold

    def find_hold(uid, hold_id):
        if hold_id == broken.generation.id:
            raise RuntimeError("unreadable")
        return original(uid, hold_id)

    with monkeypatch.context() as patch:
        patch.setattr(credits, "find_hold", find_hold)
        done = service.sweep(now=utc_now())
    assert done["generations_failed"] == 1
    assert user.messages(conversation)[-1]["status"] == "interrupted"
    sweep_until_nothing_is_held(user)


@pytest.mark.usefixtures("past_lease")
def test_a_turn_that_waits_for_a_slow_model_is_alive(user, standin, monkeypatch):
    monkeypatch.setattr(generation_log, "ALIVE_S", 2)
    standin.fault(slow_headers_ms=4000)
    conversation = user.conversation()
    asked = ThreadPoolExecutor().submit(user.ask, conversation, "/say patience")
    time.sleep(3)
    service.sweep(now=utc_now())
    assert asked.result().json["message"]["status"] == "completed"
    assert len(user.messages(conversation)) == 2
    user.assert_money_is_in_order()


def test_a_stop_is_heard_before_the_model_has_answered(user, standin):
    standin.fault(slow_headers_ms=20_000)
    conversation = user.conversation()
    started = time.monotonic()
    asked = ThreadPoolExecutor().submit(user.ask, conversation, "/say too late", stream=True)
    mine: list[Generation] = []
    while not mine:
        time.sleep(0.05)
        mine = [running for running in repository.list_running(utc_now(), 100) if running.uid == user.uid]
    service.stop(user.uid, mine[0].id)
    kinds = [frame["type"] for frame in events_of(asked.result())[:-1]]
    assert kinds[-1] == "abort"
    assert time.monotonic() - started < 15
    assert user.messages(conversation) == []
    user.assert_money_is_in_order()


def test_an_answer_larger_than_a_document_is_cut_and_paid(user, standin, monkeypatch):
    monkeypatch.setattr(answer, "MAX_ANSWER_BYTES", 50)
    standin.fault(chunk_delay_ms=5)
    told = user.ask(user.conversation(), "/repeat 100 word").json
    assert told["message"]["finish_reason"] == "length"
    assert 0 < len(told["message"]["parts"][0]["text"]) <= 50
    sweep_until_nothing_is_held(user)
    assert usage_record(told["generation_id"])["cost_pico_usd"] == round(standin.asked()[-1]["cost"] * 10**12)
    user.assert_money_is_in_order()


def test_an_answer_that_firestore_refuses_is_paid_all_the_same(user):
    conversation, running = begin(user, "/say x")
    running._answer._text.append("x" * 1_200_000)
    assert [event for batch in running for event in batch][-1]["status"] == "completed"
    assert user.messages(conversation) == []
    assert usage_record(running.generation.id)["charged_micro"] > 0
    user.assert_money_is_in_order()


def test_events_that_are_sent_again_are_appended_once(user):
    log = generation_log.GenerationLog(f"gen-{user.uid}", user.uid)
    log.open()
    log.append([{"type": "text", "text": "once"}])
    log._length = 0  # what a producer knows whose first answer got lost
    assert log.append([{"type": "text", "text": "once"}]) is generation_log.Append.DONE
    assert log.append([{"type": "text", "text": "twice"}]) is generation_log.Append.DONE
    read = generation_log.read(f"gen-{user.uid}")
    assert read is not None
    assert [event["text"] for event in read.events] == ["once", "twice"]


def test_a_log_that_was_lost_on_its_way_ends_for_its_readers(user, standin):
    standin.fault(chunk_delay_ms=10)
    _, running = begin(user, "/repeat 10 word")
    for _ in range(3):
        next(running)
    running._log._lose(LinkFailed("gone"))
    running.close()
    redis_client().delete(f"gen:{{{running.generation.id}}}:alive")
    page = events_after(user, running.generation.id, after=3)
    assert (page["items"], page["done"]) == ([], True)
    path = f"/api/v1/generations/{running.generation.id}/events"
    rest = user.request("GET", path, headers={"Accept": "text/event-stream"}).get_data()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert b'"error"' in rest


def test_a_late_cost_and_its_record_are_written_together_or_not_at_all(user, standin, monkeypatch):
    monkeypatch.setattr(beginning, "HOLD_TTL", timedelta(milliseconds=1))
    standin.fault(stream_error_d=2, generation_404_ms=3000, chunk_delay_ms=5)
    conversation = user.conversation()
    user.ask(conversation, "/repeat 30 word", stream=True).get_data()
    credits.sweep(now=utc_now())
    generation = user.messages(conversation)[-1]["generation_id"]
    time.sleep(3)
    with monkeypatch.context() as patch:
        patch.setattr(store, "commit", lambda _: (_ for _ in ()).throw(Unavailable()))
        assert service.sweep(now=utc_now())["generations_failed"] >= 1
    assert usage_record(generation)["settlement_pending"] is True
    service.sweep(now=utc_now())
    record = usage_record(generation)
    assert record["settlement_pending"] is False
    assert 1000 * 10**6 - user.balance().available_micro == record["charged_micro"] > 0
    user.assert_money_is_in_order()


def test_deleting_a_conversation_stops_the_answer_and_says_so(user, standin):
    standin.fault(chunk_delay_ms=50)
    conversation = user.conversation()
    asking = ThreadPoolExecutor().submit(user.ask, conversation, "/repeat 200 word")
    (running,) = wait_for(lambda: removal_repository.find_running(user.uid, conversation))
    wait_for(lambda: events_after(user, running)["next"] > 2)
    assert user.request("DELETE", f"/api/v1/conversations/{conversation}").status_code == 204
    answer = asking.result(timeout=30)
    assert (answer.status_code, answer.json["code"]) == (404, "not_found")
    assert "was deleted" in answer.json["detail"]
    sweep_until_nothing_is_held(user)
    assert 0 < usage_record(running)["completion_tokens"] < 200
    user.assert_money_is_in_order()
