"""How much of the platform each function gets: one table, with the reason for each number.

One vCPU each: below one, Cloud Run allows a single request at a time. Concurrency is also the number of threads, so
that no admitted request waits for one.
"""

from dataclasses import dataclass
from typing import Any

from shared.settings import REGION


@dataclass(frozen=True)
class Options:
    memory_mb: int
    concurrency: int
    timeout_s: int
    max_instances: int

    def as_arguments(self) -> dict[str, Any]:
        """As the decorators of all kinds of functions take them."""
        return {
            "region": REGION,
            "concurrency": self.concurrency,
            "cpu": 1,
            "memory": self.memory_mb,
            "timeout_sec": self.timeout_s,
            "max_instances": self.max_instances,
        }


# Streams wait for the model nearly all of their time, so one instance carries many; the longest answers take minutes.
_STREAMING = Options(memory_mb=512, concurrency=80, timeout_s=540, max_instances=50)
# Short reads from Firestore; 512 MiB is the smallest size that holds the libraries with room to breathe.
_READING = Options(memory_mb=512, concurrency=40, timeout_s=60, max_instances=20)
# Events write to the same few documents (a user's log, a day's shards): more instances would only collide more.
_CONSUMING = Options(memory_mb=512, concurrency=20, timeout_s=120, max_instances=10)
# A schedule must not overlap itself.
_SCHEDULED = Options(memory_mb=512, concurrency=1, timeout_s=300, max_instances=1)

OPTIONS = {
    "system": _READING,
    "chat": _STREAMING,
    "chat_send": _STREAMING,
    "credits": _READING,
    "activity": _READING,
    "on_event_created": _CONSUMING,
    "on_chat_event": _CONSUMING,
    "sweep": _SCHEDULED,
    "sync_models": _SCHEDULED,
}
