"""The edge of every event-driven function: its trace, its one line when it fails, and the failure handed on."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from shared import log, presence
from shared.trace import new_trace, set_trace


def edge(name: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Name the function as it is deployed. What it raises is logged and raised on: the platform delivers again."""

    def decorate(handle: Callable[[Any], None]) -> Callable[[Any], None]:
        @wraps(handle)
        def handled(fired: Any) -> None:
            set_trace(new_trace())
            try:
                handle(fired)
            except Exception as error:
                log.error("trigger failed", cause=error, function=name)
                presence.note(failed=True)
                raise
            presence.note(failed=False)

        handled.__name__ = name
        return handled

    return decorate
