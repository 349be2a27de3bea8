"""How much each kind of request is limited: one table of plans and classes, with the reason for each number.

Every policy is a leaky bucket (GCRA) whose burst is its quota: a caller who was idle may use the whole quota at once,
then it refills evenly, one unit every `window_s / quota` seconds. There is no window that everybody waits for.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_MINUTE_S = 60
_US = 1_000_000


class LimitClass(StrEnum):
    """What a route counts as."""

    READ = "read"
    WRITE = "write"
    GENERATE = "generate"
    """Asks a model: counts requests, tokens and how many run at the same time."""
    FOLLOW = "follow"
    """Waits for what is being made: counts requests, and how many wait at the same time."""
    SIGN_IN = "sign_in"
    """Makes credentials: few per caller and address."""
    PUBLIC = "public"
    """Open to anyone: counted by address alone."""
    WEBHOOK = "webhook"
    """Told by another service, which proves itself with a signature: counted by address alone."""


@dataclass(frozen=True)
class Policy:
    """`quota` units per `window_s` seconds. The name is what the RateLimit header fields call it."""

    name: str
    quota: int
    window_s: int = _MINUTE_S

    @cached_property
    def interval_us(self) -> int:
        """After how many microseconds one unit comes back."""
        return self.window_s * _US // self.quota

    @cached_property
    def burst_us(self) -> int:
        """The whole quota, as the time it takes to come back."""
        return self.interval_us * self.quota


@dataclass(frozen=True)
class Concurrency:
    """How many requests of one caller may run at the same time."""

    name: str
    slots: int


@dataclass(frozen=True)
class PlanLimits:
    """What one plan allows a user and one API key of theirs, and how many tokens and generations at the same time."""

    by_user: Mapping[LimitClass, Policy]
    by_key: Mapping[LimitClass, Policy]
    tokens: Policy
    generations: Concurrency
    followers: Concurrency


def _per_minute(suffix: str, **quotas: int) -> Mapping[LimitClass, Policy]:
    named = {LimitClass(name): quota for name, quota in quotas.items()}
    return MappingProxyType({limit_class: Policy(limit_class + suffix, quota) for limit_class, quota in named.items()})


# One of a user's keys gets less than the user: a program that runs wild leaves its owner room to stop it.
# Keys make no credentials (their scopes do not reach there), so SIGN_IN has no quota of theirs.
_FREE = PlanLimits(
    # A person clicking through the app makes a page's worth of reads, some ten, every few seconds.
    by_user=_per_minute("", read=120, follow=120, write=60, generate=20, sign_in=10),
    by_key=_per_minute("-key", read=60, follow=60, write=30, generate=10),
    # A long conversation of 8,000 tokens, asked five times a minute.
    tokens=Policy("tokens", 40_000),
    # One answer in each of two tabs.
    generations=Concurrency("concurrency", 2),
    # Each of those answers on five screens. Whoever follows takes a thread for up to half a minute.
    followers=Concurrency("followers", 10),
)
_PRO = PlanLimits(
    # Three times a person: the app on two devices and a script beside it.
    by_user=_per_minute("", read=300, follow=300, write=150, generate=60, sign_in=10),
    by_key=_per_minute("-key", read=240, follow=240, write=120, generate=48),
    # A context of 200,000 tokens once a minute.
    tokens=Policy("tokens", 200_000),
    generations=Concurrency("concurrency", 5),
    followers=Concurrency("followers", 25),
)
_ENTERPRISE = PlanLimits(
    # A product of the customer's own stands behind the account.
    by_user=_per_minute("", read=1200, follow=1200, write=600, generate=300, sign_in=10),
    by_key=_per_minute("-key", read=960, follow=960, write=480, generate=240),
    tokens=Policy("tokens", 2_000_000),
    # 300 generations a minute of four seconds each are twenty at any moment.
    generations=Concurrency("concurrency", 20),
    followers=Concurrency("followers", 100),
)
_PLANS: Mapping[str, PlanLimits] = MappingProxyType({"free": _FREE, "pro": _PRO, "enterprise": _ENTERPRISE})

_BY_ADDRESS = _per_minute(
    "-address",
    # An office of fifty people, or five enterprise accounts, behind one address; a farm of free accounts stops here.
    read=6000,
    follow=6000,
    write=3000,
    generate=1200,
    # A classroom signs in; a list of stolen passwords takes days.
    sign_in=30,
    # Health, the API document, shared conversations: a person reads pages, a monitor asks twice a second.
    public=120,
    # A payment provider tells of all renewals of the first of a month from a few addresses, and again what we refuse.
    webhook=6000,
)

FAILED_SIGN_INS = Policy("failed-sign-ins", 20, window_s=600)
"""Of one address. A person errs a few times; a scan with random keys ends after twenty, then gets two a minute."""

FAILED_LINKS = Policy("failed-links", 60, window_s=600)
"""Of one address: links that lead nowhere. Apart from sign-ins, because a link that was withdrawn is followed in good
faith, by a whole office at once, and must not keep that office from signing in."""


def plan_limits(plan: str) -> PlanLimits:
    """What the plan allows; a plan that is not known here gets what the free one gets."""
    return _PLANS.get(plan, _FREE)


def address_policy(limit_class: LimitClass, *, signed_in: bool) -> Policy:
    """Requests per minute of one address. Without a caller every class but these two counts as PUBLIC."""
    if signed_in or limit_class in (LimitClass.SIGN_IN, LimitClass.WEBHOOK):
        return _BY_ADDRESS[limit_class]
    return _BY_ADDRESS[LimitClass.PUBLIC]
