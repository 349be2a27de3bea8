"""Whether a request may go on: what is counted for whom, and what the caller is told about it."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from shared import metrics
from shared.errors import RateLimited
from shared.limits.addresses import network_of
from shared.limits.gcra import Bucket, Slot, bucket_standing, slot_standing
from shared.limits.headers import render
from shared.limits.limiter import limiter
from shared.limits.policies import FAILED_SIGN_INS, Concurrency, LimitClass, Policy, address_policy, plan_limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from shared.identity.caller import Caller
    from shared.limits.gcra import Standing, Verdict

_PREFIX = "limits:{all}"
_US = 1_000_000
_CLEAN_FOR_S = 5.0
_MAX_CLEAN = 10_000


class Admission:
    """A request that may go on. `headers` go with its answer; `release` must be called when it has ended."""

    def __init__(self, headers: Mapping[str, str], tokens: Bucket | None, slot: Slot | None) -> None:
        self.headers = headers
        self._tokens = tokens
        self._slot = slot
        self._taken = 0

    def charge_tokens(self, tokens: int) -> None:
        """Note what the answer really took, for `release` to count. More than was left makes the caller's next request
        wait.
        """
        self._taken += max(tokens, 0)

    def release(self) -> None:
        """Count the tokens, and free the place among those that run at the same time; again is nothing."""
        taken, self._taken = self._taken, 0
        charge = Bucket(self._tokens.key, self._tokens.policy, taken) if self._tokens and taken else None
        limiter().end(charge, self._slot)


def admit(
    *, limit_class: LimitClass, weight: int, caller: Caller | None, address: str, now: datetime | None = None
) -> Admission:
    """Count a request of this weight, everywhere or nowhere. Raises RateLimited.

    A caller is counted by user, by API key if they came with one, and by address; GENERATE also by tokens, GENERATE and
    FOLLOW by how many run at the same time. Without a caller only the address counts. `now` is for local limits; Redis
    has its own.
    """
    buckets = _caller_buckets(limit_class, weight, caller) if caller else []
    by_address = _address_bucket(limit_class, weight, address, signed_in=caller is not None)
    if by_address:
        buckets.append(by_address)
    if not buckets:
        return Admission({}, None, None)
    tokens = _tokens(limit_class, caller) if caller else None
    slot = _slot(limit_class, caller) if caller else None
    if tokens:
        buckets.append(tokens)
    verdict = limiter().admit(buckets, slot, now_us=None if now is None else round(now.timestamp() * _US))
    told = _standings(buckets, slot, verdict)
    if caller and by_address:
        # Others share the address: a caller hears of it only when it is what stands in their way.
        told = [standing for standing in told if standing.policy is not by_address.policy or standing.wait_s]
    if not verdict.admitted:
        raise _refusal(told)
    return Admission(render(told), tokens, slot)


def refuse_when_suspicious(address: str, failures: Policy = FAILED_SIGN_INS) -> None:
    """Raises RateLimited when too many sign-ins from this address have failed. Takes nothing of what is left.

    An address without failures is believed for some seconds, so that most requests ask nobody; a failure seen by this
    process ends that at once.
    """
    network = network_of(address)
    if network is None:
        return
    bucket = _bucket(failures, network, 0)
    if _clean.holds(bucket.key):
        return
    verdict = limiter().admit([bucket])
    if not verdict.admitted:
        raise _refusal(_standings([bucket], None, verdict))
    _clean.add(bucket.key)


def note_failed_sign_in(address: str, failures: Policy = FAILED_SIGN_INS) -> None:
    """Count a credential that did not hold against the address it came from."""
    network = network_of(address)
    if network is None:
        return
    bucket = _bucket(failures, network, 1)
    limiter().charge(bucket)
    _clean.discard(bucket.key)


def _caller_buckets(limit_class: LimitClass, weight: int, caller: Caller) -> list[Bucket]:
    limits = plan_limits(caller.plan)
    buckets = []
    if by_user := limits.by_user.get(limit_class):
        buckets.append(_bucket(by_user, caller.uid, weight))
    if caller.key and (by_key := limits.by_key.get(limit_class)):
        buckets.append(_bucket(by_key, caller.key.id, weight))
    return buckets


def _address_bucket(limit_class: LimitClass, weight: int, address: str, *, signed_in: bool) -> Bucket | None:
    network = network_of(address)
    return _bucket(address_policy(limit_class, signed_in=signed_in), network, weight) if network else None


def _tokens(limit_class: LimitClass, caller: Caller) -> Bucket | None:
    """What generations take beside requests; counted when it is known."""
    if limit_class is not LimitClass.GENERATE:
        return None
    return _bucket(plan_limits(caller.plan).tokens, caller.uid, 0)


def _slot(limit_class: LimitClass, caller: Caller) -> Slot | None:
    """A place among those that run at the same time, for as long as the request does."""
    limits = plan_limits(caller.plan)
    policy = {LimitClass.GENERATE: limits.generations, LimitClass.FOLLOW: limits.followers}.get(limit_class)
    return Slot(f"{_PREFIX}:{policy.name}:{caller.uid}", secrets.token_hex(8), policy) if policy else None


def _bucket(policy: Policy, partition: str, cost: int) -> Bucket:
    """A request heavier than a whole quota takes the whole quota: it must be able to pass at some time."""
    return Bucket(f"{_PREFIX}:{policy.name}:{partition}", policy, min(cost, policy.quota))


def _standings(buckets: Sequence[Bucket], slot: Slot | None, verdict: Verdict) -> list[Standing]:
    standings = [
        bucket_standing(bucket, used_us, admitted=verdict.admitted)
        for bucket, used_us in zip(buckets, verdict.used_us, strict=True)
    ]
    if slot:
        standings.append(slot_standing(slot, verdict.slots_in_use, admitted=verdict.admitted))
    return standings


def _refusal(told: Sequence[Standing]) -> RateLimited:
    """The answer to a request that was not counted; it passes after the longest of the waits."""
    worst = max(told, key=lambda standing: standing.wait_s)
    metrics.count("rate_limited_total", policy=worst.policy.name)
    return RateLimited(
        f"{_in_words(worst.policy)} Try again in {worst.wait_s} s.",
        retry_after_s=worst.wait_s,
        headers=render(told),
        reason=worst.policy.name,
    )


def _in_words(policy: Policy | Concurrency) -> str:
    if isinstance(policy, Concurrency):
        return f"At most {policy.slots} of these may run at the same time."
    return f"The limit {policy.name!r} is {policy.quota} in {policy.window_s} s."


class _CleanNetworks:
    """Networks without failures of a kind, believed for a short while; the newest `_MAX_CLEAN` of them. Thread-safe."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._until: OrderedDict[str, float] = OrderedDict()

    def holds(self, network: str) -> bool:
        return self._until.get(network, 0.0) > self._monotonic()

    def add(self, network: str) -> None:
        with self._lock:
            self._until[network] = self._monotonic() + _CLEAN_FOR_S
            self._until.move_to_end(network)
            while len(self._until) > _MAX_CLEAN:
                self._until.popitem(last=False)

    def discard(self, network: str) -> None:
        with self._lock:
            self._until.pop(network, None)


_clean = _CleanNetworks()
