"""What one call of the limiter costs, against a real Redis: a generation, which is four buckets and a slot.

    python3 -m emulator firestore -- venv/bin/python -m tests.load.limiter

Callers are many, so that none is refused; each call is an `admit`, and its `release` is not part of the time.
"""

from __future__ import annotations

import contextlib
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import redis

from shared import metrics
from shared.identity.caller import Caller, KeyGrant, Proof
from shared.limits.admission import admit
from shared.limits.policies import LimitClass
from shared.limits.shared_buckets import _ADMIT
from shared.redis_link import TIMEOUT_S, Link
from shared.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CALLS = 8000
CALLERS = 400
WARM_UP = 200


def caller(number: int) -> Caller:
    key = KeyGrant(
        id=f"key_{number}", budget_id=f"key_{number}", scopes=frozenset(), allowed_models=None, monthly_limit_micro=None
    )
    return Caller(uid=f"bench-{uuid.uuid4().hex[:12]}-{number}", plan="enterprise", proof=Proof.API_KEY, key=key)


def one_admission(who: Caller, number: int) -> float:
    address = f"198.51.100.{number % 250}"
    began = time.perf_counter()
    admission = admit(limit_class=LimitClass.GENERATE, weight=1, caller=who, address=address)
    took = time.perf_counter() - began
    admission.release()
    return took


def one_script(run: Callable[[list[str], Sequence[int | str]], Any], number: int) -> float:
    """The script of a generation alone, with keys that are used up at once."""
    keys = [f"limits:{{all}}:bench:{number % CALLERS}:{part}" for part in range(5)]
    began = time.perf_counter()
    run(keys, [*[10**15, 1000] * 4, 10**9, 1_000_000, f"slot-{number}"])
    return time.perf_counter() - began


def measure(call: Callable[[int], float], threads: int) -> list[float]:
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(call, range(WARM_UP)))
        return sorted(pool.map(call, range(CALLS)))


def report(name: str, times: list[float], took: float) -> None:
    p50, p95 = times[len(times) // 2], times[len(times) * 95 // 100]
    print(f"{name:38} p50 {p50 * 1000:6.3f} ms   p95 {p95 * 1000:6.3f} ms   {len(times) / took:6.0f}/s")


def main() -> None:
    callers = [caller(number) for number in range(CALLERS)]
    for threads in (1, 16):
        began = time.perf_counter()
        times = measure(lambda number: one_admission(callers[number % CALLERS], number), threads)
        report(f"admit + release, {threads} thread(s)", times, time.perf_counter() - began)
    with (
        contextlib.closing(Link(settings().redis_url)) as link,
        contextlib.closing(redis.Redis.from_url(settings().redis_url)) as client,
    ):
        for name, run in (
            ("the script alone, own connection", lambda keys, args: link.run(_ADMIT, keys, args)),
            ("the script alone, redis-py", lambda keys, args: client.evalsha(_ADMIT.sha, len(keys), *keys, *args)),
        ):
            began = time.perf_counter()
            times = measure(partial(one_script, run), 1)
            report(name, times, time.perf_counter() - began)
    local = metrics._counters().totals().get("limits_local_total", 0)
    print(f"decided by this process, because Redis took longer than {TIMEOUT_S} s: {local:.0f}")


if __name__ == "__main__":
    main()
