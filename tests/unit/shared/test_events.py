"""An event stays what it is on its way through Firestore and Pub/Sub, and carries nobody's words."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.events import EVENTS_KEPT, TOPICS, Event, EventPayload
from shared.trace import new_trace

ROOT = Path(__file__).parents[3]
FORBIDDEN_FIELDS = {"text", "content", "prompt", "email"}


def every_payload() -> list[type[EventPayload]]:
    for path in sorted((ROOT / "functions").glob("*/events.py")):
        import_module(f"functions.{path.parent.name}.events")
    found: list[type[EventPayload]] = []
    left: list[type[EventPayload]] = [EventPayload]
    while left:
        below = left.pop().__subclasses__()
        found.extend(below)
        left.extend(below)
    return sorted(found, key=lambda payload: payload.__name__)


PAYLOADS = every_payload()
EACH_PAYLOAD = pytest.mark.parametrize("payload", PAYLOADS, ids=lambda payload: payload.__name__)

NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="/"), min_size=1, max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
EVENTS = st.builds(
    Event,
    id=NAMES,
    type=NAMES,
    version=st.integers(1, 99),
    topic=st.sampled_from(TOPICS),
    uid=NAMES,
    subject=st.text(max_size=60),
    data=st.dictionaries(st.text(), JSON, max_size=5),
    occurred_at=st.datetimes(timezones=st.just(UTC), max_value=datetime(9990, 1, 1)),  # noqa: DTZ001  # gets its zone
    traceparent=st.builds(lambda: new_trace().traceparent),
)


@given(EVENTS)
def test_an_event_comes_out_of_firestore_as_it_went_in(event):
    assert Event.from_document(event.id, event.to_document()) == event


@given(EVENTS)
def test_an_event_comes_out_of_pubsub_as_it_went_in(event):
    data, attributes = event.to_message()
    assert Event.from_message(event.topic, data, attributes) == event


@given(EVENTS)
def test_a_message_is_a_cloud_event_in_binary_mode(event):
    data, attributes = event.to_message()
    assert attributes["ce-specversion"] == "1.0"
    assert attributes["ce-id"] == event.id
    assert attributes["ce-type"] == event.type
    assert attributes["content-type"] == "application/json"
    assert all(isinstance(value, str) for value in attributes.values())
    assert json.loads(data) == event.data


@given(EVENTS)
def test_an_event_is_kept_for_its_time_only(event):
    assert event.to_document()["expires_at"] == event.occurred_at + EVENTS_KEPT


def test_a_document_with_more_than_it_had_then_is_still_read():
    event = an_event()
    assert Event.from_document(event.id, {**event.to_document(), "later": 1}) == event


def test_the_moment_keeps_its_zone():
    there = timezone(timedelta(hours=5, minutes=30))
    event = an_event(datetime(2026, 3, 1, 23, 59, 59, 999999, tzinfo=there))
    data, attributes = event.to_message()
    assert Event.from_message(event.topic, data, attributes).occurred_at == event.occurred_at


def test_an_event_belongs_to_the_trace_that_made_it():
    event = an_event()
    assert event.traceparent.split("-")[1] == event.trace_id


@pytest.mark.parametrize("missing", ["ce-id", "ce-type", "ce-dataversion", "uid", "ce-subject", "ce-time"])
def test_a_message_that_lacks_an_attribute_is_none_of_ours(missing):
    data, attributes = an_event().to_message()
    del attributes[missing]
    with pytest.raises(KeyError):
        Event.from_message("chat-events", data, attributes)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b"null", b'"text"', b"7"])
def test_a_message_whose_payload_is_no_object_is_none_of_ours(data):
    _, attributes = an_event().to_message()
    with pytest.raises(ValueError, match=r"."):
        Event.from_message("chat-events", data, attributes)


@pytest.mark.parametrize("change", [{"ce-dataversion": "one"}, {"ce-time": "yesterday"}])
def test_a_message_with_a_malformed_attribute_is_none_of_ours(change):
    data, attributes = an_event().to_message()
    with pytest.raises(ValueError, match=next(iter(change.values()))):
        Event.from_message("chat-events", data, {**attributes, **change})


def test_there_are_payloads_to_look_at():
    assert {"MessageCompleted", "CreditsGranted"} <= {payload.__name__ for payload in PAYLOADS}


@EACH_PAYLOAD
def test_a_type_is_a_noun_and_what_happened_to_it(payload):
    assert re.fullmatch(
        r"[a-z_]+(\.[a-z_]+)*\.[a-z_]+(ed(_out(_everywhere)?)?|set|sent|begun|paid|left|lost)", payload.type
    )


@EACH_PAYLOAD
def test_a_topic_is_one_that_exists(payload):
    assert payload.topic in TOPICS
    assert payload.version >= 1


@EACH_PAYLOAD
def test_no_field_could_hold_what_somebody_said(payload):
    assert fields_below(payload) & FORBIDDEN_FIELDS == set()


@EACH_PAYLOAD
def test_a_payload_says_what_it_is(payload):
    assert {"type", "topic"} <= set(vars(payload))


def test_every_type_is_there_once():
    types = [payload.type for payload in PAYLOADS]
    assert len(types) == len(set(types))


def an_event(at: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)) -> Event:
    return Event(
        id="evt_1",
        type="chat.message.completed",
        version=1,
        topic="chat-events",
        uid="user-1",
        subject="conversations/c_1",
        data={"model": "m"},
        occurred_at=at,
        traceparent=new_trace().traceparent,
    )


def fields_below(model: type[BaseModel]) -> set[str]:
    """The names of all fields, those of nested models included."""
    names = set(model.model_fields)
    for field in model.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            names |= fields_below(field.annotation)
    return names
