"""What an event adds to its day's counters. Pure.

A day's counters are spread over shards, so that no document is written by every request; a reader adds them up. The
time zone of a day is UTC.
"""

import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

SHARDS = 10

Counters = dict[str, int]


def day_of(moment: datetime) -> str:
    return moment.astimezone(UTC).date().isoformat()


def shard_of(event_id: str) -> int:
    """The same event always goes to the same shard."""
    return zlib.crc32(event_id.encode()) % SHARDS


def counters_of(event_type: str, data: Mapping[str, Any]) -> Counters:
    """Field paths and what is added to each. Every event counts at least itself."""
    counters: Counters = {f"events.{_key(event_type)}": 1}
    if event_type in {"chat.message.completed", "chat.generation.completed"}:
        counters |= _turn(data)
    elif event_type in {"chat.generation.failed", "chat.generation.settled"}:
        counters |= _money(data) | _of_model(data, _money(data))
        if event_type == "chat.generation.failed":
            counters["turns_failed"] = 1
    elif event_type == "credits.granted":
        counters["credits_granted_micro"] = data["amount_micro"]
    elif event_type == "credits.expired":
        counters["credits_expired_micro"] = data["amount_micro"]
    return counters


def total(shards: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of a day's shards, nested maps included."""
    result: dict[str, Any] = {}
    for shard in shards:
        for name, value in shard.items():
            if isinstance(value, Mapping):
                result[name] = total([result.get(name, {}), value])
            elif isinstance(value, int):
                result[name] = result.get(name, 0) + value
    return result


def _turn(data: Mapping[str, Any]) -> Counters:
    tokens = {name: data[name] for name in ("prompt_tokens", "completion_tokens")}
    return {
        "turns": 1,
        f"turns_by_status.{data['status']}": 1,
        "duration_ms": data["duration_ms"],
        **tokens,
        **_money(data),
        **_of_model(data, {"turns": 1, **tokens, **_money(data)}),
    }


def _of_model(data: Mapping[str, Any], counters: Counters) -> Counters:
    """The same once more under the model, so that the models add up to the whole."""
    return {f"models.{_key(data['model'])}.{name}": value for name, value in counters.items()}


def _money(data: Mapping[str, Any]) -> Counters:
    return {"cost_pico_usd": data["cost_pico_usd"], "charged_micro": data["charged_micro"]}


def _key(name: str) -> str:
    """A name as one step of a field path: dots separate steps, so they cannot be part of one, and no step is empty."""
    return name.replace(".", "_").replace("/", "~").replace("`", "").replace("\\", "") or "unknown"
