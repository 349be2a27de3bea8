"""What each event adds to its day: whole numbers under safe names, and the shards add up."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.analytics.domain import SHARDS, Counters, counters_of, day_of, shard_of, total
from functions.chat.events import GenerationFailed, GenerationSettled, MessageCompleted
from functions.credits.events import CreditsExpired, CreditsGranted
from shared.events import EventPayload

ROOT = Path(__file__).parents[3]
MOMENT = datetime(2026, 3, 1, 12, tzinfo=UTC)
ODD_NAMES = [
    "openai/gpt-4o-mini",
    "a.b.c",
    "`",
    "``",
    "\\",
    "a`b\\c/d.e",
    ".",
    "/",
    "~",
    "__name__",
    "x y",
    "\N{SNOWMAN}",
]


def payloads() -> list[type[EventPayload]]:
    for path in sorted((ROOT / "functions").glob("*/events.py")):
        import_module(f"functions.{path.parent.name}.events")
    return sorted(EventPayload.__subclasses__(), key=lambda payload: payload.type)


def example(payload: type[EventPayload], **values: Any) -> dict[str, Any]:
    """An event's data as it is stored, with an own number for each number."""
    simple: dict[Any, Any] = {int: 7, str: "text", bool: True, datetime: MOMENT, dict: {"some": ["thing"]}}
    for position, (name, field) in enumerate(payload.model_fields.items()):
        kind = next(iter(get_args(field.annotation)), field.annotation)
        kind = dict if get_origin(field.annotation) is dict else kind
        value = 100 + position if kind is int else simple[kind]
        many = get_origin(field.annotation) in {list, tuple}
        values.setdefault(name, [value] if many else value)
    return payload.model_validate(values).model_dump(mode="json")


def spread(counters: Counters) -> dict[str, Any]:
    """The counters as a shard holds them: field paths made into nested maps."""
    shard: dict[str, Any] = {}
    for path, value in counters.items():
        *parents, leaf = path.split(".")
        place = shard
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = value
    return shard


def numbers(shard: dict[str, Any], above: str = "") -> Iterator[tuple[str, int]]:
    for name, value in shard.items():
        if isinstance(value, dict):
            yield from numbers(value, f"{above}{name}.")
        elif isinstance(value, int):
            yield above + name, value


EACH_PAYLOAD = pytest.mark.parametrize("payload", payloads(), ids=lambda payload: payload.type)


@EACH_PAYLOAD
def test_every_event_adds_whole_numbers_and_counts_itself(payload):
    counters = counters_of(payload.type, example(payload))
    assert all(type(value) is int for value in counters.values())
    assert counters[f"events.{payload.type.replace('.', '_')}"] == 1


@EACH_PAYLOAD
def test_no_counter_stands_above_another(payload):
    paths = [path.split(".") for path in counters_of(payload.type, example(payload))]
    for path in paths:
        assert all(path)
        assert not [other for other in paths if other != path and other[: len(path)] == path]


def test_an_event_that_nobody_knows_yet_counts_itself():
    assert counters_of("image.created", {"anything": 1}) == {"events.image_created": 1}


def test_a_turn_counts_for_the_day_and_for_its_model():
    data = example(MessageCompleted, model="openai/gpt-4o", status="stopped")
    counters = counters_of(MessageCompleted.type, data)
    assert counters["turns"] == counters["models.openai~gpt-4o.turns"] == counters["turns_by_status.stopped"] == 1
    for name in ("prompt_tokens", "completion_tokens", "cost_pico_usd", "charged_micro"):
        assert counters[name] == counters[f"models.openai~gpt-4o.{name}"] == data[name]
    assert counters["duration_ms"] == data["duration_ms"]
    assert "turns_failed" not in counters


def test_a_failed_turn_counts_its_cost_and_is_no_turn():
    data = example(GenerationFailed)
    counters = counters_of(GenerationFailed.type, data)
    assert counters["turns_failed"] == 1
    assert (counters["cost_pico_usd"], counters["charged_micro"]) == (data["cost_pico_usd"], data["charged_micro"])
    assert "turns" not in counters


def test_a_late_settlement_adds_money_only():
    data = example(GenerationSettled)
    counters = counters_of(GenerationSettled.type, data)
    money = {"cost_pico_usd": data["cost_pico_usd"], "charged_micro": data["charged_micro"]}
    assert {name: counters[name] for name in money} == money
    of_models = [amount for name, amount in counters.items() if name.startswith("models.")]
    assert sorted(of_models) == sorted(money.values())
    assert len(counters) == 1 + 2 * len(money)


def test_credits_are_counted_where_they_come_and_go():
    granted = counters_of(CreditsGranted.type, example(CreditsGranted, amount_micro=5))
    expired = counters_of(CreditsExpired.type, example(CreditsExpired, amount_micro=3))
    assert granted["credits_granted_micro"] == 5
    assert expired["credits_expired_micro"] == 3


@pytest.mark.parametrize("name", ODD_NAMES)
def test_an_odd_name_is_one_step_of_a_path(name):
    paths = counters_of(MessageCompleted.type, example(MessageCompleted, model=name))
    per_model = [path.split(".") for path in paths if path.startswith("models.")]
    assert len(per_model) == 5
    assert all(len(path) == 3 and all(path) for path in per_model)
    assert not [path for path in paths if set(path) & set("/`\\")]


@given(st.text(max_size=30))
def test_any_name_is_one_step_of_a_path(name):
    paths = counters_of(MessageCompleted.type, example(MessageCompleted, model=name))
    assert all(len(path.split(".")) == 3 and all(path.split(".")) for path in paths if path.startswith("models."))
    assert all(len(path.split(".")) == 2 for path in counters_of(name, {}))


@given(
    st.lists(st.tuples(st.sampled_from(["a", "b.c", "d/e"]), st.integers(0, 10**12), st.integers(0, 9)), max_size=20)
)
def test_the_shards_of_a_day_add_up_to_its_events(turns):
    shards: list[dict[str, Any]] = [{"day": "2026-03-01"} for _ in range(SHARDS)]
    expected: dict[str, int] = {}
    for model, cost, shard in turns:
        counters = counters_of(MessageCompleted.type, example(MessageCompleted, model=model, cost_pico_usd=cost))
        shards[shard] = total([shards[shard], spread(counters)])
        for path, value in counters.items():
            expected[path] = expected.get(path, 0) + value
    assert dict(numbers(total(shards))) == expected


def test_a_day_without_shards_is_empty():
    assert total([]) == {}
    assert total([{}, {"day": "2026-03-01"}]) == {}


def test_adding_up_changes_no_shard():
    first, second = {"a": 1, "m": {"x": 1}}, {"a": 2, "m": {"x": 2, "y": 3}}
    assert total([first, second]) == {"a": 3, "m": {"x": 3, "y": 3}}
    assert (first, second) == ({"a": 1, "m": {"x": 1}}, {"a": 2, "m": {"x": 2, "y": 3}})


@given(st.text())
def test_an_event_always_goes_to_the_same_shard(event_id):
    assert 0 <= shard_of(event_id) < SHARDS
    assert shard_of(event_id) == shard_of(event_id)


def test_the_shard_of_an_event_stays_what_it_always_was():
    assert [shard_of(f"evt_{number}") for number in range(5)] == [5, 1, 9, 1, 0]


def test_events_spread_over_all_shards():
    used = [shard_of(f"evt_{number}") for number in range(1000)]
    assert set(used) == set(range(SHARDS))
    assert max(used.count(shard) for shard in range(SHARDS)) < 200


@pytest.mark.parametrize(
    ("moment", "day"),
    [
        (datetime(2026, 3, 1, 23, 59, 59, tzinfo=UTC), "2026-03-01"),
        (datetime(2026, 3, 1, 0, 0, tzinfo=UTC), "2026-03-01"),
        (datetime(2026, 3, 1, 1, 0, tzinfo=timezone(timedelta(hours=2))), "2026-02-28"),
        (datetime(2026, 2, 28, 22, 0, tzinfo=timezone(timedelta(hours=-5))), "2026-03-01"),
    ],
)
def test_a_day_is_a_day_in_utc(moment, day):
    assert day_of(moment) == day
