"""An answer survives whoever goes away, at whichever event: its client, or the process that makes it."""

import threading
import time
from collections.abc import Generator
from datetime import timedelta
from typing import Any, cast

import pytest

from functions.chat import service
from functions.chat.renderers import UiMessageStream
from shared.clients import redis_client
from shared.clock import utc_now
from shared.openrouter import ChatStream
from tests.store.chat.support import question, usage_record

WORDS = 8
ASKED = f"/repeat {WORDS} word"
EVENTS = WORDS + 2
"""At least: the start, a word each, the end. Words that arrive together are one event."""


def begin(user, conversation):
    return service.ask(user.uid, conversation, question(ASKED), clock=utc_now, keep_partial=True)


def events_path(generation_id, after):
    return f"/api/v1/generations/{generation_id}/events?after={after}"


def resumed(user, generation_id, after):
    headers = {"Accept": "text/event-stream"}
    return user.request("GET", events_path(generation_id, after), headers=headers).get_data()


def polled(user, generation_id, after):
    """All events after that one, as a client behind Hosting gets them."""
    items: list[dict[str, Any]] = []
    done = False
    while not done:
        page = user.request("GET", f"{events_path(generation_id, after)}&wait_s=5").json
        items, after, done = items + page["items"], page["next"], page["done"]
    return items


@pytest.mark.parametrize("left_after", range(EVENTS + 1))
def test_a_client_that_leaves_at_any_event_gets_the_rest_to_the_byte(user, standin, left_after):
    """The one who comes back reads while the answer is still being made, by stream and by polling."""
    standin.fault(chunk_delay_ms=10)
    running = begin(user, user.conversation())
    live, events = UiMessageStream(), []
    seen: list[bytes] = []

    def produce():
        for batch in running:
            events.extend(batch)
            seen.extend(live.render([event]) for event in batch)

    producer = threading.Thread(target=produce)
    producer.start()
    while len(events) < min(left_after, 2):
        time.sleep(0.005)
    rest = resumed(user, running.generation.id, left_after)
    told = polled(user, running.generation.id, left_after)
    producer.join(20)
    assert b"".join(seen[:left_after]) + rest == b"".join(seen)
    assert [{name: value for name, value in event.items() if name != "seq"} for event in told] == events[left_after:]
    user.assert_money_is_in_order()


@pytest.mark.parametrize("dies_after", range(1, WORDS + 1))
def test_a_process_that_dies_at_any_event_leaves_an_interrupted_answer_paid_once(user, standin, dies_after):
    """Whoever reads its log ends the turn: nobody waits for the sweep. What there is can be gone on with."""
    standin.fault(chunk_delay_ms=10)
    conversation = user.conversation()
    running = begin(user, conversation)
    written = [event for _ in range(dies_after) for event in next(running)]
    cast("Generator[Any]", running._batches).close()
    cast("ChatStream", running._upstream).close()  # a dead process closes its sockets
    redis_client().delete(f"gen:{{{running.generation.id}}}:alive")
    told = polled(user, running.generation.id, 0)
    assert [event["type"] for event in told[: len(written)]] == [event["type"] for event in written]
    assert (told[-1]["type"], told[-1]["status"]) == ("end", "interrupted")
    for minutes in range(20):
        service.sweep(now=utc_now() + timedelta(minutes=minutes))
        if user.balance().held_micro == 0:
            break
        time.sleep(0.2)
    text = "".join(event["text"] for event in written if event["type"] == "text")
    messages = user.messages(conversation)
    assert [message["parts"][-1]["text"] for message in messages[1:]] == ([text] if text else [])
    cost = standin.asked()[-1]["cost"]
    assert usage_record(running.generation.id)["cost_pico_usd"] == round(cost * 10**12)
    user.assert_money_is_in_order()
    if text:
        path = f"/api/v1/conversations/{conversation}/messages/{messages[-1]['id']}/continue"
        more = user.request("POST", path, {"stream": False})
        assert more.json["message"]["continues"] == messages[-1]["id"]
        assert more.json["message"]["status"] == "completed"
        user.assert_money_is_in_order()


def test_a_conversation_gives_back_the_stream_of_the_answer_that_is_being_made(user, standin):
    conversation = user.conversation()
    path = f"/api/v1/conversations/{conversation}/stream"
    assert user.request("GET", path).status_code == 204
    standin.fault(chunk_delay_ms=20)
    running = begin(user, conversation)
    next(running)
    producer = threading.Thread(target=running.close)
    producer.start()
    frames = user.request("GET", path).get_data()
    producer.join(20)
    assert frames.endswith(b"data: [DONE]\n\n")
    assert frames.count(b"text-delta") >= 1
    assert user.request("GET", path).status_code == 204
