"""Circuit breakers, one for each thing that can fail, shared by all instances through Redis.

    closed ── too many failures ──► open ── cool-down over ──► half-open ── the probe was answered ──► closed
                                      ▲                            │
                                      └─── the probe failed: a longer cool-down

While a circuit is open nothing is asked and callers learn at once when to come back. Half-open lets one single request
through, whatever the number of instances; its lease frees the place of a prober that died.

    breaker:{name}        hash: `until`, `probe`, `probe_until` while not closed, else `s0`…`s9`, the rolling window
    breaker:{name}:trips  how often it opened lately; forgotten after a calm time

What it costs: a closed circuit is looked up in this process, whose view is renewed by one Redis call every `view_ms`,
on the path of one request; the same call carries the successes since then. A failure is told at once. When Redis is
slow or away this process goes by its own outcomes, from where the shared circuit stood, and tries Redis again every
second.

Callers decide what is a failure of the dependency. A request's own fault, a caller that left and a stop are none.
"""

from __future__ import annotations

import math
import secrets
import threading
import time
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import cache
from typing import TYPE_CHECKING, Protocol

from shared import log, metrics
from shared.errors import Unavailable
from shared.redis_link import Link, LinkFailed, Script
from shared.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_REDIS_AWAY_S = 1.0
_KEPT_MS = 24 * 60 * 60 * 1000
"""An open circuit that nobody asks for a day is forgotten; until then the first who comes is a probe."""
_BUSY_PROBE_RETRY_S = 1
"""A probe is usually answered within a second or so, and then the circuit is closed."""


@dataclass(frozen=True)
class Policy:
    """When a circuit opens and for how long."""

    window_ms: int = 30_000
    """Long enough to gather the minimum of requests, short enough to forget a bad minute."""
    buckets: int = 10
    """The window moves in steps of a tenth."""
    min_requests: int = 10
    """Fewer say nothing about a ratio: one caller's bad luck, retries included, must not close the door for all."""
    failure_percent: int = 50
    """Below half, three attempts get seven of eight requests through: better served than refused."""
    cool_down_ms: int = 5_000
    """Most incidents of providers are restarts and bursts of 429, over in seconds."""
    cool_down_growth: int = 2
    longest_cool_down_ms: int = 120_000
    """Even in a long outage somebody looks every two minutes."""
    calm_ms: int = 300_000
    """A circuit that opens again within this time of its cool-down's end cools down longer than the last time."""
    probe_lease_ms: int = 30_000
    """Longer than nearly every first token takes: a slow probe must not get company, a dead one must not block."""
    view_ms: int = 250
    """How old this process's view of a circuit may be."""


class State(IntEnum):
    """What Redis answers; the numbers are part of the scripts."""

    CLOSED = 0
    OPEN = 1
    HALF_OPEN = 2
    """Somebody probes; for `wait_ms` more if nothing is heard of it. Free when that is 0."""
    PROBE = 3
    """The caller got the probe."""


class Verdict(StrEnum):
    """What became of a probe."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    DROPPED = "dropped"
    """It said nothing: its caller left, or was refused for its own fault. The next request probes."""


@dataclass(frozen=True)
class View:
    """How a circuit stands, and for how many milliseconds more."""

    state: State
    wait_ms: int = 0
    opened: bool = False
    """It opened by this very call."""


class CircuitOpen(Unavailable):
    """Nothing was asked, because this dependency has been failing. `retry_after_s` says when it is tried again."""


class Circuit(Protocol):
    """Where the state of one circuit lives."""

    def exchange(self, good: int, bad: int) -> View:
        """Count outcomes, open if they say so, and tell how things stand. Counts nothing while it is not closed."""

    def acquire(self, token: str) -> View:
        """Ask for the probe: State.PROBE if this token got it."""

    def end_probe(self, token: str, verdict: Verdict) -> View:
        """The end of the probe that `token` holds; changes nothing if somebody else holds it by now."""


_PRELUDE = f"""
local window, buckets, enough, percent = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local cool_down, growth, longest, calm = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local lease = tonumber(ARGV[9])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local function trip()
  local trips = tonumber(redis.call('GET', KEYS[2]) or 0)
  local cool = math.min(cool_down * growth ^ math.min(trips, 30), longest)
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'until', string.format('%.0f', now + cool))
  redis.call('PEXPIRE', KEYS[1], {_KEPT_MS})
  redis.call('SET', KEYS[2], trips + 1, 'PX', cool + calm)
  return cool
end

local function standing()
  local state = redis.call('HMGET', KEYS[1], 'until', 'probe_until')
  if not state[1] then return {{0, 0, 0}} end
  if now < tonumber(state[1]) then return {{1, tonumber(state[1]) - now, 0}} end
  if state[2] and now < tonumber(state[2]) then return {{2, tonumber(state[2]) - now, 0}} end
  return {{2, 0, 0}}
end
"""

_EXCHANGE = Script(f"""{_PRELUDE}
local stands = standing()
local good, bad = tonumber(ARGV[10]), tonumber(ARGV[11])
if stands[1] ~= 0 or good + bad == 0 then return stands end
local bucket = math.floor(now * buckets / window)
local fields = {{}}
for slot = 0, buckets - 1 do fields[slot + 1] = 's' .. slot end
local told = redis.call('HMGET', KEYS[1], unpack(fields))
local here = bucket % buckets
local all_good, all_bad, here_good, here_bad = good, bad, good, bad
for slot = 0, buckets - 1 do
  local number, goods, bads = string.match(told[slot + 1] or '', '(%d+) (%d+) (%d+)')
  if number and tonumber(number) > bucket - buckets then
    all_good, all_bad = all_good + goods, all_bad + bads
    if tonumber(number) == bucket then here_good, here_bad = here_good + goods, here_bad + bads end
  end
end
if bad > 0 and all_good + all_bad >= enough and all_bad * 100 >= percent * (all_good + all_bad) then
  return {{1, trip(), 1}}
end
redis.call('HSET', KEYS[1], 's' .. here, string.format('%.0f %.0f %.0f', bucket, here_good, here_bad))
redis.call('PEXPIRE', KEYS[1], window)
return stands
""")

_ACQUIRE = Script(f"""{_PRELUDE}
local stands = standing()
if stands[1] ~= 2 then return stands end
-- The same token twice is the same request: its first answer was lost on the way.
if stands[2] > 0 and redis.call('HGET', KEYS[1], 'probe') ~= ARGV[10] then return stands end
redis.call('HSET', KEYS[1], 'probe', ARGV[10], 'probe_until', string.format('%.0f', now + lease))
return {{3, 0, 0}}
""")

_END_PROBE = Script(f"""{_PRELUDE}
if redis.call('HGET', KEYS[1], 'probe') ~= ARGV[10] then return standing() end
if ARGV[11] == 'succeeded' then
  redis.call('DEL', KEYS[1])
elseif ARGV[11] == 'failed' then
  return {{1, trip(), 1}}
else
  redis.call('HDEL', KEYS[1], 'probe', 'probe_until')
end
return standing()
""")


class SharedCircuit:
    """A circuit in Redis, by Redis's clock. Every method is one call and may raise LinkFailed."""

    def __init__(self, name: str, policy: Policy, link: Callable[[], Link]) -> None:
        self._link = link
        self._keys = (f"breaker:{{{name}}}", f"breaker:{{{name}}}:trips")
        self._policy = (
            policy.window_ms,
            policy.buckets,
            policy.min_requests,
            policy.failure_percent,
            policy.cool_down_ms,
            policy.cool_down_growth,
            policy.longest_cool_down_ms,
            policy.calm_ms,
            policy.probe_lease_ms,
        )

    def exchange(self, good: int, bad: int) -> View:
        return self._run(_EXCHANGE, good, bad)

    def acquire(self, token: str) -> View:
        return self._run(_ACQUIRE, token)

    def end_probe(self, token: str, verdict: Verdict) -> View:
        return self._run(_END_PROBE, token, verdict.value)

    def _run(self, script: Script, *arguments: str | int) -> View:
        state, wait_ms, opened = self._link().run(script, self._keys, (*self._policy, *arguments))
        return View(State(state), wait_ms, opened=opened == 1)


class LocalCircuit:
    """The same circuit in this process's memory, for while Redis is away. By the clock it is given, in seconds."""

    def __init__(self, policy: Policy, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._counts: dict[int, tuple[int, int]] = {}
        self._until_ms: float | None = None
        self._probe: tuple[str, float] | None = None
        self._trips, self._trips_until_ms = 0, -math.inf

    def exchange(self, good: int, bad: int) -> View:
        with self._lock:
            stands = self._standing()
            if stands.state is not State.CLOSED or good + bad == 0:
                return stands
            all_good, all_bad = self._count(good, bad)
            requests = all_good + all_bad
            enough = requests >= self._policy.min_requests
            if bad and enough and all_bad * 100 >= self._policy.failure_percent * requests:
                return self._trip()
            return stands

    def acquire(self, token: str) -> View:
        with self._lock:
            stands = self._standing()
            if stands.state is not State.HALF_OPEN or stands.wait_ms:
                return stands
            self._probe = (token, self._now_ms() + self._policy.probe_lease_ms)
            return View(State.PROBE)

    def end_probe(self, token: str, verdict: Verdict) -> View:
        with self._lock:
            if self._probe is not None and self._probe[0] == token:
                self._probe = None
                if verdict is Verdict.FAILED:
                    return self._trip()
                if verdict is Verdict.SUCCEEDED:
                    self._until_ms = None
            return self._standing()

    def adopt(self, view: View, seen_at: float) -> None:
        """Go on from where the shared circuit stood when it was seen last: an outage of Redis closes nothing."""
        with self._lock:
            self._counts.clear()
            self._probe = None
            open_ms = view.wait_ms if view.state is State.OPEN else 0
            self._until_ms = None if view.state is State.CLOSED else seen_at * 1000 + open_ms

    def _count(self, good: int, bad: int) -> tuple[int, int]:
        """Add outcomes; the sums over the window."""
        policy = self._policy
        bucket = int(self._now_ms() * policy.buckets // policy.window_ms)
        self._counts = {number: sums for number, sums in self._counts.items() if number > bucket - policy.buckets}
        goods, bads = self._counts.get(bucket, (0, 0))
        self._counts[bucket] = (goods + good, bads + bad)
        return sum(sums[0] for sums in self._counts.values()), sum(sums[1] for sums in self._counts.values())

    def _standing(self) -> View:
        now_ms = self._now_ms()
        if self._until_ms is None:
            return View(State.CLOSED)
        if now_ms < self._until_ms:
            return View(State.OPEN, math.ceil(self._until_ms - now_ms))
        if self._probe is not None and now_ms < self._probe[1]:
            return View(State.HALF_OPEN, math.ceil(self._probe[1] - now_ms))
        return View(State.HALF_OPEN)

    def _trip(self) -> View:
        policy, now_ms = self._policy, self._now_ms()
        trips = self._trips if now_ms < self._trips_until_ms else 0
        cool_ms = min(policy.cool_down_ms * policy.cool_down_growth ** min(trips, 30), policy.longest_cool_down_ms)
        self._counts.clear()
        self._probe = None
        self._until_ms = now_ms + cool_ms
        self._trips, self._trips_until_ms = trips + 1, now_ms + cool_ms + policy.calm_ms
        return View(State.OPEN, cool_ms, opened=True)

    def _now_ms(self) -> float:
        return self._monotonic() * 1000


class Reach:
    """Whether Redis may be asked right now: after a failure, one caller tries again every second."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._away = False
        self._try_at = -math.inf

    def is_there(self) -> bool:
        if not self._away:
            return True
        now = self._monotonic()
        if now < self._try_at:
            return False
        # Whoever comes now tries; all others go on without Redis until it is known how that went.
        self._try_at = now + _REDIS_AWAY_S
        return True

    def lost(self, error: LinkFailed) -> None:
        if not self._away:
            log.warning("breakers go by this process alone", counter="breaker_redis_lost", reason=repr(error))
        self._away, self._try_at = True, self._monotonic() + _REDIS_AWAY_S

    def found(self) -> None:
        if self._away:
            log.info("breakers are shared again")
        self._away = False


@dataclass(frozen=True)
class Probe:
    """The right to be the one request that a half-open circuit lets through."""

    circuit: Circuit
    token: str


@dataclass(frozen=True)
class _Seen:
    """What this process knows of a circuit, since when and from where."""

    view: View
    at: float
    circuit: Circuit


class Breaker:
    """One circuit as this process sees it. For many threads; nothing raises because of Redis."""

    def __init__(
        self,
        name: str,
        policy: Policy,
        link: Callable[[], Link],
        reach: Reach,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._policy = policy
        self._monotonic = monotonic
        self._reach = reach
        self._shared = SharedCircuit(name, policy, link)
        self._local = LocalCircuit(policy, monotonic)
        self._lock = threading.Lock()
        self._seen = _Seen(View(State.CLOSED), monotonic(), self._shared)
        self._renewing = threading.Lock()
        self._renew_at = -math.inf
        self._good, self._good_since = 0, 0.0

    def admit(self, *, insist: bool = False) -> Permit:
        """A permit for one request, or CircuitOpen. With `insist` it always goes through: there is nothing else."""
        view = self._current()
        if view.state is State.HALF_OPEN and not view.wait_ms:
            token = secrets.token_hex(8)
            view, circuit = self._ask(lambda circuit: circuit.acquire(token))
            if view.state is State.PROBE:
                log.info("circuit probed", circuit=self.name)
                return Permit(self, Probe(circuit, token))
        if view.state is State.CLOSED:
            return Permit(self)
        if insist:
            metrics.count("breaker_bypassed_total", breaker=self.name)
            return Permit(self, bypass=True)
        metrics.count("breaker_refused_total", breaker=self.name)
        raise CircuitOpen(retry_after_s=_retry_after_s(view), circuit=self.name)

    def blocked_for_s(self) -> int | None:
        """In how many seconds it is worth coming back; None when a request may be tried now. Takes no probe."""
        view = self._current()
        blocked = view.state is State.OPEN or (view.state is State.HALF_OPEN and view.wait_ms > 0)
        return _retry_after_s(view) if blocked else None

    def count_success(self) -> None:
        """Counted here; the others are told with the next renewal of the view."""
        with self._lock:
            if not self._good:
                self._good_since = self._monotonic()
            self._good += 1

    def count_failure(self) -> None:
        """Counted and told at once."""
        self._exchange(bad=1)

    def end_probe(self, probe: Probe, verdict: Verdict) -> None:
        """Tell the circuit that granted the probe. If that is Redis and it does not answer, the lease runs out."""
        if probe.circuit is self._local:
            view: View | None = self._local.end_probe(probe.token, verdict)
        else:
            view = self._ask_redis(lambda circuit: circuit.end_probe(probe.token, verdict))
        if view is None:
            return
        self._see(view, probe.circuit)
        if verdict is Verdict.SUCCEEDED and view.state is State.CLOSED:
            metrics.count("breaker_closed_total", breaker=self.name)
            log.info("circuit closed", circuit=self.name)

    def _current(self) -> View:
        """How things stand now, by a view that is not older than it may be."""
        if self._monotonic() >= self._renew_at:
            # The others wait for it: a process that slept would otherwise let all of them through on a view of before.
            with self._renewing:
                if self._monotonic() >= self._renew_at:
                    self._exchange()
        seen = self._seen
        if seen.view.state is State.CLOSED:
            return seen.view
        left_ms = max(0, math.ceil(seen.view.wait_ms - (self._monotonic() - seen.at) * 1000))
        still_open = seen.view.state is State.OPEN and left_ms > 0
        return View(State.OPEN if still_open else State.HALF_OPEN, left_ms)

    def _exchange(self, *, bad: int = 0) -> None:
        with self._lock:
            outdated = self._monotonic() - self._good_since > self._policy.window_ms / 1000
            good, self._good = (0 if outdated else self._good), 0
        self._ask(lambda circuit: circuit.exchange(good, bad))
        self._renew_at = self._monotonic() + self._policy.view_ms / 1000

    def _ask(self, call: Callable[[Circuit], View]) -> tuple[View, Circuit]:
        """Ask the shared circuit, or this process's own when Redis does not answer."""
        view, circuit = self._ask_redis(call), self._shared
        if view is not None:
            self._see(view, circuit)
            return view, circuit
        metrics.count("breaker_local_total")
        if self._seen.circuit is not self._local:
            self._local.adopt(self._seen.view, self._seen.at)
        view = call(self._local)
        self._see(view, self._local)
        return view, self._local

    def _ask_redis(self, call: Callable[[Circuit], View]) -> View | None:
        if not self._reach.is_there():
            return None
        try:
            view = call(self._shared)
        except LinkFailed as error:
            self._reach.lost(error)
            return None
        self._reach.found()
        return view

    def _see(self, view: View, circuit: Circuit) -> None:
        if view.opened:
            metrics.count("breaker_opened_total", breaker=self.name)
            log.warning("circuit opened", circuit=self.name, cool_down_ms=view.wait_ms)
        if view.state is State.PROBE:
            # For the other threads of this process somebody probes now.
            view = View(State.HALF_OPEN, self._policy.probe_lease_ms)
        self._seen = _Seen(view, self._monotonic(), circuit)


class Permit:
    """The right to make one request, and the duty to tell how it ended. Only the first end counts."""

    def __init__(self, breaker: Breaker, probe: Probe | None = None, *, bypass: bool = False) -> None:
        self.bypass = bypass
        """It was let through although the circuit is open."""
        self._breaker = breaker
        self._probe = probe
        self._ended = False

    def answering(self) -> None:
        """The dependency has begun to answer: a probe need not wait for the end of a long answer to be one."""
        if self._probe is not None and not self._ended:
            self._end_probe(Verdict.SUCCEEDED)

    def succeeded(self) -> None:
        if not self._end():
            return
        if self._probe is not None:
            self._end_probe(Verdict.SUCCEEDED)
        else:
            self._breaker.count_success()

    def failed(self) -> None:
        """The dependency failed, and not because of what this request asked."""
        if not self._end():
            return
        if self._probe is not None:
            self._end_probe(Verdict.FAILED)
        else:
            self._breaker.count_failure()

    def dropped(self) -> None:
        """The request says nothing about the dependency."""
        if self._end() and self._probe is not None:
            self._end_probe(Verdict.DROPPED)

    def _end(self) -> bool:
        first, self._ended = not self._ended, True
        return first

    def _end_probe(self, verdict: Verdict) -> None:
        probe, self._probe = self._probe, None
        assert probe is not None, "only a probe is ended as one"
        self._breaker.end_probe(probe, verdict)


@dataclass(frozen=True)
class Choice:
    """Which alternatives to try, best first. `bypass`: all of them are open, and tried all the same."""

    names: list[str]
    bypass: bool


class Breakers:
    """The breakers of one process, by name: a dependency (`openrouter`) or a part of it (`model:openai/gpt-4o`)."""

    def __init__(
        self,
        link: Callable[[], Link],
        policy: Policy | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._link = link
        self._policy = policy or Policy()
        self._monotonic = monotonic
        self._reach = Reach(monotonic)
        self._lock = threading.Lock()
        self._breakers: dict[str, Breaker] = {}

    def get(self, name: str) -> Breaker:
        """The breaker of that name, which must come from a bounded set: it is kept for good."""
        breaker = self._breakers.get(name)
        if breaker is None:
            with self._lock:
                made = Breaker(name, self._policy, self._link, self._reach, self._monotonic)
                breaker = self._breakers.setdefault(name, made)
        return breaker

    def choose(self, names: Sequence[str]) -> Choice:
        """Of alternatives that all would do, those that may be tried, in their order.

        When all of them are open the request tries them all the same: a breaker never turns failures of some requests
        into a failure of all. What has no alternative (the model that a user named) fails fast instead, with the time
        to come back: trying it would cost its user the wait for a failure, and the dependency its chance to recover.
        """
        free = [name for name in names if self.get(name).blocked_for_s() is None]
        return Choice(free or list(names), bypass=not free)


@cache
def breakers() -> Breakers:
    """The breakers of this process."""
    return Breakers(_redis)


@cache
def _redis() -> Link:
    """With short time-outs: it is asked before a request, where a late answer is worth nothing."""
    return Link(settings().redis_url)


def _retry_after_s(view: View) -> int:
    return max(1, math.ceil(view.wait_ms / 1000)) if view.state is State.OPEN else _BUSY_PROBE_RETRY_S
