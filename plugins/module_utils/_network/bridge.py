# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The bridge of a network: the ip commands that make or mend it, and what ip says of it. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .._core.errors import InvalidRequest
from .model import Network

_WORD = re.compile(r"[A-Za-z0-9._:/-]+", re.ASCII)


@dataclass(frozen=True)
class Link:
    """A network interface as it is. addresses are IPv4 with prefix length, in the kernel's order."""

    is_bridge: bool
    alias: str
    hwaddr: str
    mtu: int
    is_up: bool
    addresses: tuple[str, ...]
    is_ipv6_off: bool


def parse_link(link: Mapping[str, Any], is_ipv6_off: bool) -> Link:
    """One interface from ip -j -d address show."""
    return Link(
        is_bridge=link.get("linkinfo", {}).get("info_kind") == "bridge",
        alias=link.get("ifalias", ""),
        hwaddr=link.get("address", ""),
        mtu=link.get("mtu", 0),
        is_up="UP" in link.get("flags", ()),
        addresses=tuple(
            f"{info['local']}/{info['prefixlen']}" for info in link.get("addr_info", ()) if info["family"] == "inet"
        ),
        is_ipv6_off=is_ipv6_off,
    )


def is_ours(link: Link, network: Network) -> bool:
    """Whether the interface is the network's: by its alias, or, if a run was killed before it could set
    one, by the hardware address that was chosen and recorded before the bridge was made."""
    return link.is_bridge and (link.alias == network.alias or (link.alias == "" and link.hwaddr == network.hwaddr))


def render_creation(network: Network) -> str:
    """A file for ip -batch that makes the whole bridge; it stops at its first line if the name is taken."""
    add = f"link add name {network.name} address {network.hwaddr} type bridge forward_delay 0 stp_state 0"
    return _batch([add, *_mending(network, None)])


def render_mending(network: Network, link: Link) -> str:
    """A file for ip -batch that brings our existing bridge into shape; empty if nothing is to be done."""
    return _batch([*_mending(network, link)])


def _mending(network: Network, link: Link | None) -> Iterator[str]:
    device = f"dev {network.name}"
    if link is None or link.alias != network.alias:
        yield f"link set {device} alias {network.alias}"
    if link is not None and link.hwaddr != network.hwaddr:
        yield f"link set {device} address {network.hwaddr}"
    # Always set: a bridge whose MTU was never set takes on the smallest of its ports'.
    if link is None or link.mtu != network.get("bridge.mtu"):
        yield f"link set {device} mtu {network.get('bridge.mtu')}"
    current = link.addresses if link is not None else ()
    wanted = () if network.address is None else (network.address,)
    # Old addresses go first: removing a subnet's first address takes those added after it along.
    for address in current:
        if address not in wanted:
            yield f"address delete {address} {device}"
    for address in wanted:
        if address not in current:
            yield f"address add {address} {device}"
    if link is None or not link.is_up:
        yield f"link set {device} up"


def _batch(lines: list[str]) -> str:
    for line in lines:
        if not all(_WORD.fullmatch(word) for word in line.split(" ")):
            raise InvalidRequest(f"{line!a} cannot be written to a file of ip commands")
    return "".join(f"{line}\n" for line in lines)
