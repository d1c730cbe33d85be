# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Subnets: which are taken, which is free, which of their addresses DHCP hands out. Pure: no I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .._core.errors import Conflict
from .model import Network

# VPNs replace the default route by two halves; like the default itself they overlap everything.
_HALF_OF_EVERYTHING = 1
_UNICAST_ROUTES = ("unicast", "local", "blackhole", "unreachable", "prohibit")


@dataclass(frozen=True)
class Taken:
    """A subnet in use and by whom, in words."""

    subnet: str
    owner: str


def require_free(name: str, address: str, taken: Iterable[Taken]) -> None:
    """Conflict if the subnet of address (with prefix length) overlaps one that is taken."""
    subnet = ipaddress.IPv4Interface(address).network
    for other in taken:
        if subnet.overlaps(ipaddress.IPv4Network(other.subnet)):
            raise Conflict(
                f"network {name}: ipv4.address {address} overlaps {other.subnet} of {other.owner}: "
                "choose another subnet, or auto"
            )


def choose_address(name: str, taken: Sequence[Taken], start: int) -> str:
    """The host's address in a free 10.x.y.0/24; start (0 to 65535) says where the search begins."""
    networks = [ipaddress.IPv4Network(other.subnet) for other in taken]
    spans = [(int(other.network_address), int(other.broadcast_address)) for other in networks]
    for offset in range(65536):
        base = (10 << 24) + ((start + offset) % 65536 << 8)
        if not any(first <= base + 255 and base <= last for first, last in spans):
            return f"{ipaddress.IPv4Address(base + 1)}/24"
    raise Conflict(f"network {name}: no free /24 is left in 10.0.0.0/8: write ipv4.address")


def parse_routes(routes: object, own: str) -> tuple[Taken, ...]:
    """Subnets of the host's routes, from ip -j route show table all; those through own do not count."""
    found = []
    for route in routes if isinstance(routes, list) else ():
        subnet = _route_subnet(route)
        if subnet is not None and route.get("dev") != own:
            found.append(Taken(str(subnet), f"a host route through {route.get('dev', 'no device')}"))
    return tuple(found)


def _route_subnet(route: Mapping[str, Any]) -> ipaddress.IPv4Network | None:
    if route.get("type", "unicast") not in _UNICAST_ROUTES or route.get("dst") in (None, "default"):
        return None
    try:
        subnet = ipaddress.IPv4Network(route["dst"])
    except ValueError:
        return None
    return None if subnet.prefixlen <= _HALF_OF_EVERYTHING else subnet


def parse_addresses(links: object, own: str) -> tuple[Taken, ...]:
    """Subnets on the host's interfaces, up or down, from ip -j address show; own does not count."""
    found = []
    for link in links if isinstance(links, list) else ():
        if link.get("ifname") == own:
            continue
        for info in link.get("addr_info", ()):
            if info.get("family") == "inet":
                subnet = ipaddress.IPv4Interface(f"{info['local']}/{info['prefixlen']}").network
                found.append(Taken(str(subnet), f"interface {link['ifname']}"))
    return tuple(found)


def dhcp_ranges(network: Network) -> tuple[tuple[str, str], ...]:
    """First and last address of each stretch that DHCP hands out: never the host's own or the gateway's."""
    subnet = network.interface.network
    # LXD's default leaves the first host out, which is its own address as a rule.
    whole = ((str(subnet.network_address + 2), str(subnet.broadcast_address - 1)),)
    reserved = {int(network.interface.ip)}
    gateway = network.get("ipv4.dhcp.gateway")
    if gateway is not None:
        reserved.add(int(ipaddress.IPv4Address(gateway)))
    stretches: list[tuple[int, int]] = []
    for first, last in network.get("ipv4.dhcp.ranges") or whole:
        stretches += _without(int(ipaddress.IPv4Address(first)), int(ipaddress.IPv4Address(last)), sorted(reserved))
    return tuple((str(ipaddress.IPv4Address(first)), str(ipaddress.IPv4Address(last))) for first, last in stretches)


def _without(first: int, last: int, reserved: Iterable[int]) -> list[tuple[int, int]]:
    parts = []
    for address in reserved:
        if first <= address <= last:
            parts.append((first, address - 1))
            first = address + 1
    parts.append((first, last))
    return [(low, high) for low, high in parts if low <= high]
