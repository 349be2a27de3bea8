"""Which addresses count as one: an IPv4 address whole, an IPv6 address by its /64, which is one customer's network."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

UNREADABLE = "unreadable"
_CUSTOMER_PREFIX = 64


@lru_cache(maxsize=4096)
def network_of(address: str) -> str | None:
    """What to count requests from this address under; None when it names no client that could be told from others.

    A loopback address is this machine: a sidecar, a probe, the local suite. No address at all is a call inside the
    process. What cannot be read is counted together, so that nonsense in a header is no way around the limit.
    """
    if not address:
        return None
    try:
        parsed = ip_address(address.strip().partition("%")[0])
    except ValueError:
        return UNREADABLE
    client = _unmapped(parsed)
    if client.is_loopback:
        return None
    if isinstance(client, IPv4Address):
        return str(client)
    return str(IPv6Network((client, _CUSTOMER_PREFIX), strict=False))


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """`::ffff:192.0.2.1` is how a socket for both families shows an IPv4 client."""
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
