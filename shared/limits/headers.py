"""The RateLimit header fields, as draft-ietf-httpapi-ratelimit-headers-11 writes them.

RateLimit-Policy: "write";q=60;w=60, "concurrency";q=2;qu="concurrent-requests"
RateLimit: "write";r=59;t=1, "concurrency";r=1
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from shared.limits.policies import Concurrency, Policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.limits.gcra import Standing


def render(standings: Iterable[Standing]) -> dict[str, str]:
    """Both fields; none when no policy applied, for an empty list cannot be written (RFC 9651 §3.1)."""
    told = list(standings)
    if not told:
        return {}
    return {
        "RateLimit-Policy": ", ".join(_policy_item(standing.policy) for standing in told),
        "RateLimit": ", ".join(_limit_item(standing) for standing in told),
    }


@cache
def _policy_item(policy: Policy | Concurrency) -> str:
    if isinstance(policy, Concurrency):
        return f'"{policy.name}";q={policy.slots};qu="concurrent-requests"'
    return f'"{policy.name}";q={policy.quota};w={policy.window_s}'


def _limit_item(standing: Standing) -> str:
    item = f'"{standing.policy.name}";r={standing.remaining}'
    return item if standing.reset_s is None else f"{item};t={standing.reset_s}"
