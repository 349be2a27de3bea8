"""Every Firestore path of analytics: analytics_daily/{date}/shards/{n}."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.cloud.firestore import Increment

from shared.clients import firestore_client

if TYPE_CHECKING:
    from shared.store import Batch


def add(batch: Batch, day: str, shard: int, counters: dict[str, int]) -> None:
    """Add to the day's shard, making it when it is not there."""
    reference = firestore_client().collection("analytics_daily").document(day).collection("shards").document(str(shard))
    nested: dict[str, Any] = {}
    for path, amount in counters.items():
        *parents, leaf = path.split(".")
        place = nested
        for parent in parents:
            place = place.setdefault(parent, {})
        place[leaf] = Increment(amount)
    batch.set(reference, {"day": day, **nested}, merge=True)
