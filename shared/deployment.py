"""What is deployed: each function's name, the module that defines it, and how much of the platform it gets.

The one table that deployment (`main.py`), the API document, the service registry and the tests read. Balancing and
scaling between these bounds are the platform's work.
"""

from dataclasses import dataclass
from typing import Any

from firebase_functions.params import Expression

from shared.settings import CHAT_MIN_INSTANCES, REGION


@dataclass(frozen=True)
class Options:
    """One vCPU each unless a reason says otherwise: below one, Cloud Run allows a single request at a time."""

    memory_mb: int
    concurrency: int
    """Requests that one instance admits, and the number of its threads, so that no admitted request waits for one."""
    timeout_s: int
    max_instances: int
    min_instances: int | Expression[int] = 0
    """Instances kept warm cost money all day: none, unless people would wait for a cold start."""
    cpu: int = 1


@dataclass(frozen=True)
class Function:
    """A function as it is deployed under its name."""

    module: str
    options: Options
    only_with: str | None = None
    """A variable of the shell without which `firebase deploy` leaves it out: not every project can have it."""

    @property
    def capability(self) -> str | None:
        """The capability whose HTTP surface it is; None for callables and for what events and the clock start."""
        package, _, module = self.module.rpartition(".")
        return package.removeprefix("functions.") if module == "http" else None


# Streams wait for the model nearly all of their time, so one instance carries many; the longest answers take minutes.
# A person waits for the first word: how many instances stay warm for that is a setting of the deployment.
_STREAMING = Options(memory_mb=512, concurrency=80, timeout_s=540, max_instances=50, min_instances=CHAT_MIN_INSTANCES)
# The same turn for mobile apps; they show their own progress while an instance starts.
_STREAMING_CALLABLE = Options(memory_mb=512, concurrency=80, timeout_s=540, max_instances=50)
# Short reads and writes in Firestore; 512 MiB is the smallest size that holds the libraries with room to breathe.
_SHORT = Options(memory_mb=512, concurrency=40, timeout_s=60, max_instances=20)
# A handful of operators: more instances would only be room for whoever got hold of an operator's account.
_OPERATORS = Options(memory_mb=512, concurrency=20, timeout_s=60, max_instances=3)
# Events write to the same few documents (a user's log, a day's shards): more instances would only collide more.
_CONSUMING = Options(memory_mb=512, concurrency=20, timeout_s=120, max_instances=10)
# A job reads everything of one user, page by page; one at a time, so that a large account slows nobody else's down.
_JOBS = Options(memory_mb=512, concurrency=1, timeout_s=540, max_instances=5)
# A schedule must not overlap itself.
_SCHEDULED = Options(memory_mb=512, concurrency=1, timeout_s=300, max_instances=1)

FUNCTIONS = {
    "system": Function("functions.system.http", _SHORT),
    "users": Function("functions.users.http", _SHORT),
    "access": Function("functions.access.http", _SHORT),
    "chat": Function("functions.chat.http", _STREAMING),
    "models": Function("functions.models.http", _SHORT),
    "credits": Function("functions.credits.http", _SHORT),
    "activity": Function("functions.activity.http", _SHORT),
    "admin": Function("functions.admin.http", _OPERATORS),
    "openai_api": Function("functions.openai_api.http", _STREAMING),
    "chat_send": Function("functions.chat.callable", _STREAMING_CALLABLE),
    "account_bootstrap": Function("functions.users.callable", _SHORT),
    "on_event_created": Function("triggers.firestore", _CONSUMING),
    "on_chat_event": Function("triggers.pubsub", _CONSUMING),
    "on_privacy_job_created": Function("triggers.privacy", _JOBS),
    # Blocking functions need Identity Platform; without this one the first request opens the account.
    "on_user_creating": Function("triggers.auth", _SHORT, only_with="AUTH_TRIGGER"),
    "sweep": Function("triggers.scheduler", _SCHEDULED),
    "sync_models": Function("triggers.scheduler", _SCHEDULED),
    "resume_privacy_jobs": Function("triggers.scheduler", _SCHEDULED),
}


def arguments_of(name: str) -> dict[str, Any]:
    """A function's options as the decorators of all kinds of functions take them."""
    options = FUNCTIONS[name].options
    return {
        "region": REGION,
        "concurrency": options.concurrency,
        "cpu": options.cpu,
        "memory": options.memory_mb,
        "timeout_sec": options.timeout_s,
        "min_instances": options.min_instances,
        "max_instances": options.max_instances,
    }
