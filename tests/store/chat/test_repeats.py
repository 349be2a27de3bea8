"""A chat request that comes again under its `Idempotency-Key`: asked once, paid once, answered every time."""

import json
import time
import uuid
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from threading import Barrier
from typing import Any, cast

import pytest
from google.cloud.firestore_v1.base_query import FieldFilter

from functions.chat import beginning, repository, service, turn
from functions.chat import callable as chat_callable
from functions.chat.schemas import Message, Text
from shared import idempotency
from shared.clients import firestore_client, redis_client
from shared.clock import utc_now
from shared.errors import Conflict, Unavailable, UpstreamError, UpstreamRejected
from shared.http.dialects import Callable
from shared.identity import accounts
from shared.ids import new_id
from tests.processes import FunctionProcess
from tests.store.chat.support import User, events_of, give, id_token, question, wsgi_client

FLAT_RATE = "craftpilot/flat-rate"
FLAT_PRICE_MICRO = 1_200_000


@pytest.fixture
def key():
    return f"key-{uuid.uuid4().hex}"


@pytest.fixture(scope="session")
def callable_client(catalogue):
    return wsgi_client(chat_callable.routes, Callable())


@pytest.fixture
def crash(monkeypatch):
    """Lets the next request die between its effect and its answer: its claim is never ended, and its lease runs out."""

    def crash() -> None:
        monkeypatch.setattr(idempotency, "LEASE", timedelta(0))
        for ending in ("finish", "abandon"):
            monkeypatch.setattr(idempotency.Claim, ending, lambda *_, **__: monkeypatch.undo())

    return crash


@pytest.fixture
def conversation(user):
    return user.conversation()


def post(user: User, path: str, body: Any, key: str, **options: Any) -> Any:
    """As a server does it: the answer is read to its end, and then closed."""
    return user.request("POST", path, body, headers={"Idempotency-Key": key}, **{"buffered": True, **options})


def ask(user: User, conversation: str, content: str, key: str, **body: Any) -> Any:
    path = f"/api/v1/conversations/{conversation}/messages"
    return post(user, path, {"content": content, "stream": False, **body}, key)


def send(client: Any, user: User, data: dict[str, Any], **headers: str) -> Any:
    """One call of the callable `chat_send`."""
    caller = User(user.uid, client)
    return caller.request("POST", "/", {"data": data}, headers=headers, buffered=True)


def let_sixteen_run_at_once(user: User) -> None:
    firestore_client().collection("users").document(user.uid).update({"plan": "enterprise"})
    accounts.forget(user.uid)


def streamed_text(response: Any) -> str:
    return "".join(frame["delta"] for frame in events_of(response)[:-1] if frame["type"] == "text-delta")


def told_once(user: User, event_type: str) -> bool:
    events = firestore_client().collection("events").where(filter=FieldFilter("uid", "==", user.uid)).stream()
    return [event.get("type") for event in events].count(event_type) == 1


def die(running: turn.Turn) -> None:
    """What a killed process leaves behind: nobody reads on, nobody says that it lives."""
    cast("Generator[Any]", running._batches).close()
    redis_client().delete(f"gen:{{{running.generation.id}}}:alive")


def text_of(message: Message) -> str:
    return "".join(part.text for part in message.parts if isinstance(part, Text))


def began(user: User, conversation: str, content: str, generation_id: str) -> turn.Turn:
    asked = question(content)
    return service.ask(user.uid, conversation, asked, clock=utc_now, keep_partial=True, generation_id=generation_id)


# --- through the front ---------------------------------------------------------------------------------------------


def test_a_conversation_is_begun_once(user, key):
    first = post(user, "/api/v1/conversations", {"title": "Birds"}, key)
    again = post(user, "/api/v1/conversations", {"title": "Birds"}, key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.data == first.data
    assert "Idempotency-Replayed" not in first.headers
    assert again.headers["Idempotency-Replayed"] == "true"
    assert len(user.request("GET", "/api/v1/conversations").json["items"]) == 1


def test_a_question_is_asked_and_paid_once(user, standin, conversation, key):
    first = ask(user, conversation, "/say Merhaba", key, model=FLAT_RATE)
    again = ask(user, conversation, "/say Merhaba", key, model=FLAT_RATE)
    assert (first.status_code, again.status_code, again.data) == (200, 200, first.data)
    assert len(standin.asked()) == 1
    assert len(user.messages(conversation)) == 2
    assert user.balance().available_micro == 1000 * 10**6 - FLAT_PRICE_MICRO
    user.assert_money_is_in_order()


def test_a_repeated_stream_has_the_same_bytes(user, standin, conversation, key):
    first = ask(user, conversation, "What is a quokka?", key, stream=True)
    said = first.data
    again = ask(user, conversation, "What is a quokka?", key, stream=True)
    assert again.data == said
    assert said.endswith(b"data: [DONE]\n\n")
    for header in ("Content-Type", "x-vercel-ai-ui-message-stream"):
        assert again.headers[header] == first.headers[header]
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


def test_another_question_under_the_same_key_is_refused_and_not_asked(user, standin, conversation, key):
    ask(user, conversation, "/say one", key)
    refused = ask(user, conversation, "/say two", key)
    assert (refused.status_code, refused.json["code"]) == (422, "idempotency_key_reused")
    elsewhere = ask(user, user.conversation(), "/say one", key)
    assert elsewhere.status_code == 422
    another_route = post(user, "/api/v1/conversations", {}, key)
    assert another_route.status_code == 422
    assert len(standin.asked()) == 1


def test_the_same_key_of_another_user_is_another_key(user, uid, standin, conversation, key):
    stranger = User(f"stranger-{uid}", user.client)
    give(stranger.uid, 1000)
    mine = ask(user, conversation, "/say mine", key)
    theirs = ask(stranger, stranger.conversation(), "/say theirs", key)
    assert (theirs.status_code, theirs.headers.get("Idempotency-Replayed")) == (200, None)
    assert theirs.json["generation_id"] != mine.json["generation_id"]
    assert len(standin.asked()) == 2


def test_of_sixteen_at_once_one_is_asked_and_the_others_wait_or_get_its_answer(user, standin, conversation, key):
    let_sixteen_run_at_once(user)
    standin.fault(first_token_delay_ms=300)
    barrier = Barrier(16)

    def one_of_many(_: int) -> Any:
        barrier.wait()
        return ask(user, conversation, "/say once", key)

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(one_of_many, range(16)))
    answered = [each for each in answers if each.status_code == 200]
    waiting = [each for each in answers if each.status_code == 409]
    assert len(answered) + len(waiting) == 16
    assert [each for each in answered if "Idempotency-Replayed" not in each.headers] != []
    assert len({each.data for each in answered}) == 1
    assert all(each.json["reason"] == "idempotency_key_in_use" for each in waiting)
    assert all(int(each.headers["Retry-After"]) >= 1 for each in waiting)
    assert ask(user, conversation, "/say once", key).data == answered[0].data
    assert len(standin.asked()) == 1
    assert len(user.messages(conversation)) == 2
    user.assert_money_is_in_order()


def test_a_request_without_a_key_pays_nothing_for_keys(user, conversation, monkeypatch):
    monkeypatch.delattr(idempotency, "begin")
    assert user.ask(conversation, "/say plain").status_code == 200


@pytest.mark.parametrize("bad", ["k" * 256, "schlüssel"])
def test_what_is_no_key_is_named_and_nothing_is_asked(user, standin, conversation, bad):
    response = ask(user, conversation, "/say no", bad)
    assert (response.status_code, response.json["errors"][0]["field"]) == (400, "Idempotency-Key")
    assert standin.asked() == []


def test_the_answer_to_a_client_that_left_is_there_when_it_comes_back(user, standin, conversation, key):
    standin.fault(chunk_delay_ms=5)
    path = f"/api/v1/conversations/{conversation}/messages"
    left = post(user, path, {"content": "/repeat 20 word"}, key, buffered=False)
    next(iter(left.response))
    left.close()
    again = post(user, path, {"content": "/repeat 20 word"}, key)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert streamed_text(again).split() == ["word"] * 20
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


# --- what went wrong the first time ----------------------------------------------------------------------------------


def test_without_credits_the_same_request_passes_once_there_are_some(poor_user, standin, key):
    conversation = poor_user.conversation()
    assert ask(poor_user, conversation, "/say paid", key).status_code == 402
    give(poor_user.uid, 1000)
    again = ask(poor_user, conversation, "/say paid", key)
    assert (again.status_code, len(standin.asked())) == (200, 1)
    poor_user.assert_money_is_in_order()


def test_an_account_that_could_not_cover_the_turn_can_after_a_top_up(poor_user, standin, key):
    """The refused hold stays in the ledger; the next attempt must not run into it."""
    give(poor_user.uid, 0.5)
    conversation = poor_user.conversation()
    for _ in range(2):
        assert ask(poor_user, conversation, "/say paid", key, model=FLAT_RATE).status_code == 402
    give(poor_user.uid, 1)
    assert ask(poor_user, conversation, "/say paid", key, model=FLAT_RATE).status_code == 200
    assert len(standin.asked()) == 1
    poor_user.assert_money_is_in_order()


def test_a_question_that_the_model_did_not_answer_may_be_asked_again(user, standin, conversation, key):
    standin.fault(status="401")  # the one failure of the provider that nobody tries again
    assert ask(user, conversation, "/say at last", key).status_code == 502
    again = ask(user, conversation, "/say at last", key)
    assert (again.status_code, len(standin.asked())) == (200, 2)
    assert len(user.messages(conversation)) == 2
    user.assert_money_is_in_order()


def test_a_question_that_the_model_refuses_is_not_asked_again(user, standin, conversation, key):
    standin.fault(status="400", times=2)
    first = ask(user, conversation, "/say never", key)
    again = ask(user, conversation, "/say never", key)
    assert (first.status_code, first.json["code"]) == (400, UpstreamRejected.code)
    assert (again.status_code, again.data) == (400, first.data)
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


def test_a_stream_that_broke_off_is_told_again_as_it_was(user, standin, conversation, key):
    standin.fault(stream_error_a=2, chunk_delay_ms=10)
    first = ask(user, conversation, "/repeat 30 word", key, stream=True).data
    again = ask(user, conversation, "/repeat 30 word", key, stream=True).data
    assert b'"type":"error"' in first
    assert again == first
    assert len(standin.asked()) == 1
    assert len(user.messages(conversation)) == 2


# --- a process that died between effect and answer -------------------------------------------------------------------


def test_a_conversation_whose_answer_was_lost_is_found_again(user, key, crash):
    crash()
    lost = post(user, "/api/v1/conversations", {"title": "Birds"}, key)
    again = post(user, "/api/v1/conversations", {"title": "Birds"}, key)
    assert (again.status_code, again.headers.get("Idempotency-Replayed")) == (201, None)
    assert again.json == lost.json
    assert len(user.request("GET", "/api/v1/conversations").json["items"]) == 1
    assert told_once(user, "chat.conversation.created")


def test_an_answer_that_was_lost_is_told_again(user, standin, conversation, key, crash):
    crash()
    lost = ask(user, conversation, "/say kept", key)
    again = ask(user, conversation, "/say kept", key)
    assert (again.status_code, again.json) == (200, lost.json)
    assert ask(user, conversation, "/say kept", key).headers["Idempotency-Replayed"] == "true"
    assert len(standin.asked()) == 1
    assert told_once(user, "chat.message.completed")
    user.assert_money_is_in_order()


def test_a_stream_that_was_lost_is_told_again(user, standin, conversation, key, crash):
    standin.fault(reasoning=True)
    crash()
    lost = ask(user, conversation, "What is a quokka?", key, stream=True)
    again = ask(user, conversation, "What is a quokka?", key, stream=True)
    assert streamed_text(again) == streamed_text(lost) != ""
    before, after = events_of(lost), events_of(again)
    assert (after[0], after[-2], after[-1]) == (before[0], before[-2], "[DONE]")
    assert {frame["type"] for frame in after[:-1]} == {frame["type"] for frame in before[:-1]}
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


def test_a_lost_answer_is_told_again_although_its_price_has_changed(user, conversation, key, crash, monkeypatch):
    crash()
    lost = ask(user, conversation, "/say kept", key)
    monkeypatch.setattr("functions.chat.beginning.highest_cost_pico_usd", lambda *_, **__: 10**12)
    again = ask(user, conversation, "/say kept", key)
    assert (again.status_code, again.json) == (200, lost.json)
    user.assert_money_is_in_order()


def test_a_lost_stream_that_broke_off_is_told_again_as_broken(user, standin, conversation, key, crash):
    standin.fault(stream_error_a=2, chunk_delay_ms=10)
    crash()
    lost = ask(user, conversation, "/repeat 30 word", key, stream=True)
    again = ask(user, conversation, "/repeat 30 word", key, stream=True)
    assert streamed_text(again) == streamed_text(lost) != ""
    assert [frame["type"] for frame in events_of(again)[-3:-1]] == ["message-metadata", "error"]
    assert len(standin.asked()) == 1
    assert len(user.messages(conversation)) == 2


def test_a_lost_failure_that_left_nothing_is_asked_anew(user, standin, conversation, key, crash):
    standin.fault(status="401")
    crash()
    assert ask(user, conversation, "/say at last", key).status_code == 502
    again = ask(user, conversation, "/say at last", key)
    assert (again.status_code, len(standin.asked())) == (200, 2)
    assert ask(user, conversation, "/say at last", key).json == again.json
    user.assert_money_is_in_order()


def test_a_lost_refusal_does_not_stand_in_the_way_after_a_top_up(poor_user, standin, key, crash):
    give(poor_user.uid, 0.5)
    conversation = poor_user.conversation()
    crash()
    for _ in range(2):
        assert ask(poor_user, conversation, "/say paid", key, model=FLAT_RATE).status_code == 402
    give(poor_user.uid, 1)
    assert ask(poor_user, conversation, "/say paid", key, model=FLAT_RATE).status_code == 200
    assert len(standin.asked()) == 1
    poor_user.assert_money_is_in_order()


def test_a_request_that_breaks_off_every_time_is_given_up(user, standin, conversation):
    generation_id = new_id("gen")
    for _ in range(service.ASKED_AT_MOST):
        standin.fault(status="401")
        with pytest.raises(UpstreamError):
            began(user, conversation, "/say never", generation_id)
    with pytest.raises(UpstreamError, match="ask again"):
        began(user, conversation, "/say never", generation_id)
    assert len(standin.asked()) == service.ASKED_AT_MOST
    user.assert_money_is_in_order()


# --- a process that died, or works on, in the middle of an answer ----------------------------------------------------


def test_an_answer_in_the_making_is_not_asked_for_again(user, standin, conversation):
    standin.fault(chunk_delay_ms=10)
    generation_id = new_id("gen")
    running = began(user, conversation, "/repeat 30 word", generation_id)
    next(running)
    with pytest.raises(Conflict, match="still being made") as refusal:
        began(user, conversation, "/repeat 30 word", generation_id)
    assert refusal.value.details["generation_id"] == generation_id
    assert refusal.value.retry_after_s == service.BUSY_RETRY_AFTER_S
    running.close()
    retold = began(user, conversation, "/repeat 30 word", generation_id)
    assert retold.answer() == running.answer()
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


@pytest.mark.usefixtures("past_lease")
def test_an_interrupted_answer_is_recovered_and_then_told(user, standin, conversation):
    standin.fault(chunk_delay_ms=10)
    generation_id = new_id("gen")
    running = began(user, conversation, "/repeat 100 word", generation_id)
    for _ in range(6):
        next(running)
    die(running)
    with pytest.raises(Conflict, match="being recovered") as refusal:
        began(user, conversation, "/repeat 100 word", generation_id)
    assert refusal.value.retry_after_s == service.LOST_RETRY_AFTER_S
    sweep_until_nothing_is_held(user)
    retold = began(user, conversation, "/repeat 100 word", generation_id)
    answer = retold.answer()
    assert answer.message.status == "interrupted"
    assert text_of(answer.message).startswith("word")
    assert repository.find_message(user.uid, conversation, answer.message.id) == answer.message
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


@pytest.mark.usefixtures("past_lease")
def test_an_answer_that_died_before_its_first_word_is_asked_anew(user, standin, conversation):
    generation_id = new_id("gen")
    key = beginning.Key(user.uid, generation_id)
    lost = beginning.begin(key, conversation, question("/say late"), clock=utc_now, keep_partial=True)
    with pytest.raises(Conflict, match="being recovered"):
        began(user, conversation, "/say late", generation_id)
    sweep_until_nothing_is_held(user)
    anew = began(user, conversation, "/say late", generation_id)
    assert text_of(anew.answer().message) == "late"
    assert anew.generation.id != lost.generation.id
    assert began(user, conversation, "/say late", generation_id).answer() == anew.answer()
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


def test_two_that_hold_the_same_generation_at_once_ask_the_model_once(user, standin, conversation):
    """A slow request and its repetition, both past the claim: the ledger lets one of them through."""
    generation_id = new_id("gen")
    barrier = Barrier(8)

    def one_of_many(_: int) -> str:
        barrier.wait()
        try:
            return str(began(user, conversation, "/say once", generation_id).answer().message.id)
        except Conflict:
            return "told to wait"

    with ThreadPoolExecutor(8) as pool:
        got = set(pool.map(one_of_many, range(8)))
    assert len(got - {"told to wait"}) == 1
    assert len(standin.asked()) == 1
    assert len(user.messages(conversation)) == 2
    user.assert_money_is_in_order()


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("past_lease")
def test_a_killed_process_and_the_repetition_of_its_request(user, standin, conversation, key, tmp_path):
    standin.fault(chunk_delay_ms=50)
    process = FunctionProcess("chat", tmp_path / "chat.log")
    path = f"/api/v1/conversations/{conversation}/messages"
    body = {"content": "/repeat 100 word", "stream": True}
    headers = {"Authorization": f"Bearer {id_token(user.uid)}", "Idempotency-Key": key}
    try:
        with closing(process.connect()) as connection:
            connection.request("POST", path, json.dumps(body), headers)
            stream = connection.getresponse()
            while b"text-delta" not in stream.readline():
                pass
            assert post(user, path, body, key).json["reason"] == "idempotency_key_in_use"
    finally:
        process.kill()

    give_up_at = time.monotonic() + 90
    while (again := post(user, path, body, key)).status_code == 409 and time.monotonic() < give_up_at:
        service.sweep(now=utc_now())
        time.sleep(int(again.headers["Retry-After"]))
    assert again.status_code == 200
    assert streamed_text(again).startswith("word")
    assert user.messages(conversation)[-1]["status"] == "interrupted"
    assert post(user, path, body, key).data == again.data
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


# --- callables -------------------------------------------------------------------------------------------------------


def test_a_repeated_callable_begins_one_conversation_and_asks_once(user, standin, callable_client, key):
    data = {"content": "/say hello", "idempotency_key": key}
    first = send(callable_client, user, data)
    again = send(callable_client, user, data)
    assert first.json["result"]["message"]["parts"] == [{"type": "text", "text": "hello"}]
    assert again.data == first.data
    assert len(standin.asked()) == 1
    assert len(user.request("GET", "/api/v1/conversations").json["items"]) == 1


def test_a_lost_callable_finds_its_conversation_and_its_answer_again(user, standin, callable_client, key, crash):
    crash()
    data = {"content": "/say hello", "idempotency_key": key}
    lost = send(callable_client, user, data)
    again = send(callable_client, user, data)
    assert again.json == lost.json
    assert len(standin.asked()) == 1
    assert len(user.request("GET", "/api/v1/conversations").json["items"]) == 1
    user.assert_money_is_in_order()


def test_a_lost_streaming_callable_is_told_again(user, standin, callable_client, key, crash):
    crash()
    data = {"content": "/say hello", "idempotency_key": key}
    stream = {"Accept": "text/event-stream"}
    lost = events_of(send(callable_client, user, data, **stream))
    again = events_of(send(callable_client, user, data, **stream))
    assert again[-1] == lost[-1]
    assert again[-1]["result"]["message"]["parts"] == [{"type": "text", "text": "hello"}]
    assert again[0] == lost[0]
    assert len(standin.asked()) == 1


def test_a_lost_streaming_callable_that_broke_off_is_told_as_broken(user, standin, callable_client, key, crash):
    standin.fault(stream_error_a=2, chunk_delay_ms=10)
    crash()
    data = {"content": "/repeat 30 word", "idempotency_key": key}
    stream = {"Accept": "text/event-stream"}
    lost = events_of(send(callable_client, user, data, **stream))
    again = events_of(send(callable_client, user, data, **stream))
    assert again[-1]["error"]["details"]["code"] == lost[-1]["error"]["details"]["code"]
    assert again[1]["message"]["text"].startswith("word")
    assert len(standin.asked()) == 1


def test_a_streaming_callable_without_credits_may_come_again(poor_user, standin, callable_client, key):
    """Its refusal is a frame after HTTP 200, and yet no answer."""
    data = {"content": "/say paid", "idempotency_key": key}
    stream = {"Accept": "text/event-stream"}
    [refused] = events_of(send(callable_client, poor_user, data, **stream))
    assert refused["error"]["details"]["code"] == "insufficient_credits"
    give(poor_user.uid, 1000)
    frames = events_of(send(callable_client, poor_user, data, **stream))
    assert frames[-1]["result"]["message"]["status"] == "completed"
    assert len(standin.asked()) == 1


def sweep_until_nothing_is_held(user: User) -> None:
    for minutes in range(20):
        service.sweep(now=utc_now() + timedelta(minutes=minutes))
        if user.balance().held_micro == 0:
            return
        time.sleep(0.2)
    pytest.fail("the sweep did not end the hold")


@pytest.mark.usefixtures("past_lease")
def test_a_stream_that_could_not_be_stored_is_recovered_and_then_told(user, standin, conversation, key, monkeypatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise Unavailable("The database did not answer in time; try again.")

    with monkeypatch.context() as database_away:
        database_away.setattr("functions.chat.ending.end", refuse)
        cut = ask(user, conversation, "/say kept", key, stream=True)
        assert b"interrupted" in cut.data
    redis_client().delete(*redis_client().keys("gen:*:alive"))
    waiting = ask(user, conversation, "/say kept", key, stream=True)
    assert (waiting.status_code, waiting.headers["Retry-After"]) == (409, str(service.LOST_RETRY_AFTER_S))
    sweep_until_nothing_is_held(user)
    assert streamed_text(ask(user, conversation, "/say kept", key, stream=True)) == "kept"
    assert len(standin.asked()) == 1
    user.assert_money_is_in_order()


def test_an_empty_key_is_no_key(user, conversation):
    assert ask(user, conversation, "/say no", "").status_code == 400
