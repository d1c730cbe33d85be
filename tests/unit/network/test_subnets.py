# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Which subnets are taken, which is chosen, which addresses DHCP hands out."""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import Conflict
from ansible_collections.tandem.machines.plugins.module_utils._network.model import Network
from ansible_collections.tandem.machines.plugins.module_utils._network.subnets import (
    Taken,
    choose_address,
    dhcp_ranges,
    parse_addresses,
    parse_routes,
    require_free,
)
from hypothesis import given, settings
from hypothesis import strategies as st

# As ip -j -4 route show table all prints them, shortened.
ROUTES = [
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
    {"dst": "0.0.0.0/1", "dev": "tun0"},
    {"dst": "192.0.2.0/24", "dev": "eth0", "scope": "link"},
    {"dst": "10.8.0.0/16", "gateway": "192.0.2.9", "dev": "eth0"},
    {"type": "blackhole", "dst": "10.99.0.0/16"},
    {"type": "local", "dst": "10.5.5.5", "dev": "lo", "table": "local"},
    {"type": "broadcast", "dst": "10.7.7.7", "dev": "eth0", "table": "local"},
    {"dst": "10.93.0.0/24", "dev": "tdn0"},
    {"dst": "not an address", "dev": "eth0"},
    {"type": "multicast", "dst": "239.0.0.0/8", "dev": "eth0"},
]


def network(address: str, **config: object) -> Network:
    return Network("tdn0", "u", {key.replace("_", "."): value for key, value in config.items()}, "", address, 0, "/x")


def test_routes_count_unless_they_are_defaults_or_our_own() -> None:
    assert {taken.subnet for taken in parse_routes(ROUTES, "tdn0")} == {
        "192.0.2.0/24",
        "10.8.0.0/16",
        "10.99.0.0/16",
        "10.5.5.5/32",
    }
    assert "10.93.0.0/24" in {taken.subnet for taken in parse_routes(ROUTES, "tdn1")}


def test_addresses_count_even_of_interfaces_that_are_down() -> None:
    links = [
        {"ifname": "lo", "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}]},
        {"ifname": "eth1", "flags": [], "addr_info": [{"family": "inet", "local": "10.1.2.3", "prefixlen": 20}]},
        {"ifname": "tdn0", "addr_info": [{"family": "inet", "local": "10.93.0.1", "prefixlen": 24}]},
        {"ifname": "eth2", "addr_info": [{"family": "inet6", "local": "fe80::1", "prefixlen": 64}]},
        {},
    ]
    assert parse_addresses(links, "tdn0") == (
        Taken("127.0.0.0/8", "interface lo"),
        Taken("10.1.0.0/20", "interface eth1"),
    )


@pytest.mark.parametrize("answer", [None, {}, "x"])
def test_an_unexpected_answer_means_nothing_is_known(answer: object) -> None:
    assert parse_routes(answer, "tdn0") == () == parse_addresses(answer, "tdn0")


@pytest.mark.parametrize("other", ["10.93.0.0/24", "10.93.0.128/25", "10.93.0.0/16", "10.93.0.1/32"])
def test_overlapping_subnets_are_refused(other: str) -> None:
    with pytest.raises(Conflict, match=rf"10.93.0.1/24 overlaps {other} of network tdn1: choose another subnet"):
        require_free("tdn0", "10.93.0.1/24", [Taken(other, "network tdn1")])


def test_neighbouring_subnets_are_not() -> None:
    require_free("tdn0", "10.93.0.1/24", [Taken("10.93.1.0/24", "x"), Taken("10.92.0.0/16", "y")])


SUBNETS = st.tuples(st.integers(0, 2**24 - 1), st.integers(10, 32)).map(
    lambda pair: Taken(str(ipaddress.ip_network((10 * 2**24 + pair[0], pair[1]), strict=False)), "somebody")
)


@settings(deadline=None)
@given(st.lists(SUBNETS, max_size=20), st.integers(0, 65535))
def test_the_chosen_subnet_is_free(taken: list[Taken], start: int) -> None:
    address = choose_address("tdn0", taken, start)
    require_free("tdn0", address, taken)
    interface = ipaddress.IPv4Interface(address)
    assert interface.network.prefixlen == 24 and interface.ip == interface.network.network_address + 1
    assert interface.network.subnet_of(ipaddress.IPv4Network("10.0.0.0/8"))


def test_when_all_is_taken_it_says_so() -> None:
    with pytest.raises(Conflict, match="no free /24 is left"):
        choose_address("tdn0", [Taken("10.0.0.0/8", "a VPN")], 7)


def test_dhcp_hands_out_the_subnet_without_the_first_host() -> None:
    assert dhcp_ranges(network("10.93.0.1/24")) == (("10.93.0.2", "10.93.0.254"),)
    assert dhcp_ranges(network("10.93.0.1/30")) == (("10.93.0.2", "10.93.0.2"),)
    assert dhcp_ranges(network("10.93.0.2/30")) == ()


def test_dhcp_never_hands_out_the_address_of_the_host_or_of_the_gateway() -> None:
    config = {"ipv4.dhcp.gateway": "10.93.0.9", "ipv4.dhcp.ranges": (("10.93.0.5", "10.93.0.12"),)}
    made = Network("tdn0", "u", config, "", "10.93.0.7/24", 0, "/x")
    assert dhcp_ranges(made) == (("10.93.0.5", "10.93.0.6"), ("10.93.0.8", "10.93.0.8"), ("10.93.0.10", "10.93.0.12"))


@given(st.integers(10, 30), st.integers(1, 2**20))
def test_ranges_cover_every_other_host(prefix: int, number: int) -> None:
    subnet = ipaddress.IPv4Network((10 * 2**24, prefix))
    host = subnet.network_address + 1 + number % (subnet.num_addresses - 2)
    ranges = dhcp_ranges(network(f"{host}/{prefix}"))
    spans = [(int(ipaddress.IPv4Address(first)), int(ipaddress.IPv4Address(last))) for first, last in ranges]
    assert all(first <= last for first, last in spans)
    assert not any(first <= int(host) <= last for first, last in spans)
    given_out = sum(last - first + 1 for first, last in spans)
    assert given_out == subnet.num_addresses - 3 - (host != subnet.network_address + 1)
