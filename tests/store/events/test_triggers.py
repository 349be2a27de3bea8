"""What follows an event: once each, in any order, however often it is delivered."""

import base64
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from functions.activity import service as activity
from functions.activity.domain import Entry, first_break
from functions.analytics import service as analytics
from functions.analytics.domain import day_of, total
from functions.chat.events import ConversationCreated, MessageCompleted
from shared import events, store
from shared.clients import firestore_client
from shared.clock import utc_now
from shared.events import Event
from triggers import firestore as trigger
from triggers import pubsub


@pytest.fixture
def published(monkeypatch):
    messages: list[Event] = []
    monkeypatch.setattr(trigger, "_publish", messages.append)
    return messages


def completed(uid: str, n: int = 1, **changes) -> Event:
    payload = MessageCompleted(
        conversation_id="conv_1",
        generation_id=f"gen_{n}",
        message_id=f"msg_{n}",
        user_message_id=f"msg_q{n}",
        first_in_conversation=n == 1,
        status="completed",
        model="openai/gpt-4.1-mini",
        prompt_tokens=10,
        completion_tokens=20,
        cost_pico_usd=30_000_000,
        charged_micro=36_000,
        duration_ms=500,
        **changes,
    )
    batch = store.new_batch()
    event = events.record(batch, payload, uid=uid, subject=f"conversations/conv_1/messages/msg_{n}", at=utc_now())
    store.commit(batch)
    return event


def deliver(event: Event) -> None:
    snapshot = firestore_client().collection("events").document(event.id).get()
    trigger._on_event_created(SimpleNamespace(params={"event_id": event.id}, data=snapshot))


def chain_of(uid: str) -> list[tuple[Entry, str]]:
    links = firestore_client().collection("activity").document(uid).collection("entries").order_by("n").stream()
    documents = [link.to_dict() for link in links]
    return [(Entry(**{k: v for k, v in document.items() if k != "hash"}), document["hash"]) for document in documents]


def counted(day: str) -> dict:
    shards = firestore_client().collection("analytics_daily").document(day).collection("shards").stream()
    return total(shard.to_dict() for shard in shards)


def difference(before: dict, after: dict, path: str) -> int:
    def at(counters: Any) -> int:
        for step in path.split("."):
            counters = counters.get(step, {})
        return counters or 0

    return at(after) - at(before)


def test_an_event_is_logged_counted_and_published(uid, published):
    event = completed(uid)
    before = counted(day_of(event.occurred_at))
    deliver(event)
    [(entry, _)] = chain_of(uid)
    assert (entry.n, entry.action, entry.event_id) == (1, "chat.message.completed", event.id)
    assert entry.trace_id == event.trace_id
    after = counted(day_of(event.occurred_at))
    assert difference(before, after, "turns") == 1
    assert difference(before, after, "completion_tokens") == 20
    assert difference(before, after, "models.openai~gpt-4_1-mini.charged_micro") == 36_000
    assert [message.id for message in published] == [event.id]


def test_an_event_that_is_delivered_again_changes_nothing(uid, published):
    event = completed(uid)
    deliver(event)
    counters = counted(day_of(event.occurred_at))
    for _ in range(3):
        deliver(event)
    assert len(chain_of(uid)) == 1
    assert difference(counters, counted(day_of(event.occurred_at)), "turns") == 0


def test_a_crash_between_the_steps_is_made_good_by_the_next_delivery(uid, published, monkeypatch):
    event = completed(uid)
    before = counted(day_of(event.occurred_at))
    with monkeypatch.context() as patch:
        patch.setattr(analytics, "count", lambda *_, **__: (_ for _ in ()).throw(RuntimeError("killed")))
        with pytest.raises(RuntimeError, match="killed"):
            deliver(event)
    assert published == []
    deliver(event)
    assert len(chain_of(uid)) == 1
    assert difference(before, counted(day_of(event.occurred_at)), "turns") == 1
    assert len(published) == 1


def test_twenty_events_of_one_user_at_once_make_one_unbroken_chain(uid, published):
    told = [completed(uid, n) for n in range(1, 21)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        list(pool.map(deliver, told))
    chain = chain_of(uid)
    assert [entry.n for entry, _ in chain] == list(range(1, 21))
    assert {entry.event_id for entry, _ in chain} == {event.id for event in told}
    assert first_break(chain) is None


def test_an_edit_in_the_stored_log_is_found(uid, published):
    for n in range(1, 6):
        deliver(completed(uid, n))
    entries = firestore_client().collection("activity").document(uid).collection("entries")
    entries.document(f"{3:012d}").update({"details.charged_micro": 1})
    assert first_break(chain_of(uid)) == 3


def test_the_log_comes_in_pages_newest_first(uid, published):
    for n in range(1, 6):
        deliver(completed(uid, n))
    first = activity.list_entries(uid, 2, None)
    rest = activity.list_entries(uid, 10, first.next_cursor)
    assert [entry.n for entry in [*first.items, *rest.items]] == [5, 4, 3, 2, 1]
    assert rest.next_cursor is None


def test_a_pubsub_message_carries_the_event_whole(uid):
    event = completed(uid)
    data, attributes = event.to_message()
    assert Event.from_message(event.topic, data, attributes) == event
    assert attributes["ce-type"] == "chat.message.completed"
    assert attributes["traceparent"].startswith("00-")


def test_a_message_that_is_no_event_is_dropped_with_a_log_line(capfd):
    message = SimpleNamespace(data=base64.b64encode(b"hello").decode(), attributes={}, message_id="m1")
    pubsub._on_chat_event(SimpleNamespace(data=SimpleNamespace(message=message)))
    assert "message is not an event" in capfd.readouterr().out


def consume(event: Event) -> None:
    data, attributes = event.to_message()
    message = SimpleNamespace(data=base64.b64encode(data).decode(), attributes=attributes, message_id="m1")
    pubsub._on_chat_event(SimpleNamespace(data=SimpleNamespace(message=message)))


def test_a_chat_event_of_a_conversation_that_is_gone_is_consumed_by_everybody(uid):
    consume(completed(uid, context_bytes=100_000))


def test_consumers_that_fail_keep_none_from_its_turn_and_have_the_message_come_again(uid, monkeypatch, capfd):
    asked: list[str] = []

    def first(event: Event, *, now: Any) -> None:
        asked.append("first")
        raise RuntimeError("the first is broken")

    def second(event: Event, *, now: Any) -> None:
        asked.append("second")

    def third(event: Event, *, now: Any) -> None:
        asked.append("third")
        raise store.StaleWrite("the third is late")

    monkeypatch.setitem(pubsub._CONSUMERS, MessageCompleted.type, (first, second, third))
    with pytest.raises(ExceptionGroup) as raised:
        consume(completed(uid))
    assert asked == ["first", "second", "third"]
    assert [type(error) for error in raised.value.exceptions] == [RuntimeError, store.StaleWrite]
    log = capfd.readouterr().out
    assert '"consumer":"first"' in log
    assert "the first is broken" in log
    assert '"consumer":"third"' in log


def test_only_completed_messages_have_consumers(uid, monkeypatch):
    monkeypatch.setitem(pubsub._CONSUMERS, MessageCompleted.type, (lambda *_, **__: pytest.fail("not for this one"),))
    batch = store.new_batch()
    event = events.record(batch, ConversationCreated(conversation_id="c"), uid=uid, subject="c", at=utc_now())
    store.commit(batch)
    consume(event)


def test_once_refuses_to_take_a_collision_of_effects_for_its_own_mark(uid):
    event = completed(uid)
    document = firestore_client().collection("processed").document(f"test:{uid}")
    document.create({"at": utc_now()})
    with pytest.raises(store.StaleWrite):
        events.once("collider", event, lambda batch: batch.create(document, {}), now=utc_now())
    assert events.once("collider", event, lambda _: None, now=utc_now())


def test_an_event_and_its_change_are_there_together_or_not_at_all(uid):
    document = firestore_client().collection("processed").document(f"taken:{uid}")
    document.create({"at": utc_now()})
    batch = store.new_batch()
    event = events.record(batch, ConversationCreated(conversation_id="c"), uid=uid, subject="c", at=utc_now())
    batch.create(document, {})
    with pytest.raises(store.AlreadyExists):
        store.commit(batch)
    assert not firestore_client().collection("events").document(event.id).get().exists
