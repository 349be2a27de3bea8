"""Which addresses count as one."""

import pytest

from shared.limits.addresses import UNREADABLE, network_of


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.7", "203.0.113.7"),
        (" 203.0.113.7 ", "203.0.113.7"),
        ("10.1.2.3", "10.1.2.3"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:DB8:1:2::", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1%eth0", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
    ],
)
def test_an_ipv4_address_counts_whole_and_an_ipv6_address_by_its_customer(address, network):
    assert network_of(address) == network


@pytest.mark.parametrize("address", ["", "127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_this_machine_is_no_client(address):
    assert network_of(address) is None


@pytest.mark.parametrize(
    "address", ["unknown", "203.0.113.7:443", "203.0.113.007", "1.2.3", "<script>", "\u0661.1.1.1"]
)
def test_what_cannot_be_read_counts_together(address):
    assert network_of(address) == UNREADABLE
