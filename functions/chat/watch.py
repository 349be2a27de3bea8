"""One thread per process that keeps its running generations alive and carries out stop requests.

A producer blocks on its upstream socket; it can neither say that it lives nor hear a stop while nothing arrives. This
thread does both for all of them in one Redis call a second. It begins with the first generation and ends with the last.
"""

import threading
import time
from collections.abc import Callable

from functions.chat import generation_log
from shared import log
from shared.redis_link import LinkFailed

INTERVAL_S = 1.0

_lock = threading.Lock()
_cancel_by_generation: dict[str, Callable[[], None]] = {}
_thread: threading.Thread | None = None


def watch(generation_id: str, cancel: Callable[[], None]) -> None:
    """Keep the generation alive until `unwatch`; call `cancel`, from another thread, when a stop is requested."""
    global _thread  # noqa: PLW0603  # the one thread of this process
    with _lock:
        _cancel_by_generation[generation_id] = cancel
        if _thread is None or not _thread.is_alive():  # one that could not be started is none
            _thread = threading.Thread(target=_run, name="generation-watch", daemon=True)
            _thread.start()


def unwatch(generation_id: str) -> None:
    with _lock:
        _cancel_by_generation.pop(generation_id, None)


def count() -> int:
    """How many generations this process makes at the moment."""
    return len(_cancel_by_generation)


def _run() -> None:
    global _thread  # noqa: PLW0603  # the one thread of this process
    while True:
        time.sleep(INTERVAL_S)
        with _lock:
            if not _cancel_by_generation:
                _thread = None
                return
            watched = dict(_cancel_by_generation)
        try:
            stopped = generation_log.refresh(list(watched))
        except LinkFailed as error:
            log.warning("generations not refreshed", counter="generation_refresh_failed", reason=repr(error))
            continue
        for generation_id in stopped:
            watched[generation_id]()
