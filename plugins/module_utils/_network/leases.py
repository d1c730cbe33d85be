# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""DHCP leases of a network: read, found by MAC, given back. For the network modules and for instances."""

from __future__ import annotations

import ipaddress
import secrets
import socket
import struct
import time
from pathlib import Path

from .._host.files import read_capped
from .._host.paths import Paths
from .guests import LEASES, LEASES_LIMIT_BYTES, Lease, parse_leases
from .lookup import find_network

_SERVER_PORT = 67
# RFC 2131 and 2132: BOOTREQUEST on Ethernet; message type RELEASE; server identifier; end.
_REQUEST, _ETHERNET, _ADDRESS_BYTES = 1, 1, 6
_MAGIC = bytes((99, 130, 83, 99))
_RELEASE = bytes((53, 1, 7))
_SERVER_IDENTIFIER = bytes((54, 4))
_END = b"\xff"
_SHORTEST_MESSAGE = 300


def read_leases(directory: Path) -> str:
    """The text of the lease file in a network's directory, empty if there is none."""
    return (read_capped(directory / LEASES, LEASES_LIMIT_BYTES) or b"").decode("utf-8", "replace")


def leases(paths: Paths, network: str) -> tuple[Lease, ...]:
    """The leases in force, by address; empty for a network that is not ours or gives none."""
    now = time.time()
    found = [
        lease
        for lease in parse_leases(read_leases(paths.network(network)))
        if lease.expires == 0 or lease.expires > now
    ]
    return tuple(sorted(found, key=lambda lease: ipaddress.IPv4Address(lease.address)))


def find_lease(paths: Paths, network: str, hwaddr: str) -> str | None:
    """The address that DHCP has given to a MAC address."""
    return next((lease.address for lease in leases(paths, network) if lease.hwaddr == hwaddr.lower()), None)


def release_lease(paths: Paths, network: str, hwaddr: str) -> None:
    """Give a deleted guest's address back, so that neither the address nor its name lives on.

    Sends the message that the guest would have sent: the lease file belongs to the running dnsmasq. Nothing
    happens without a lease or without the network.
    """
    address = find_lease(paths, network, hwaddr)
    info = find_network(paths, network)
    if address is None or info is None or info.address is None or not info.is_up:
        return
    server = info.address.partition("/")[0]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        # dnsmasq only listens to what arrives on the bridge.
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, info.bridge.encode() + b"\0")
        sender.sendto(_release_message(hwaddr, address, server), (server, _SERVER_PORT))


def _release_message(hwaddr: str, address: str, server: str) -> bytes:
    fixed = struct.pack(
        "!BBBBIHH4s12x16s192x",
        _REQUEST,
        _ETHERNET,
        _ADDRESS_BYTES,
        0,
        secrets.randbits(32),
        0,
        0,
        socket.inet_aton(address),
        bytes.fromhex(hwaddr.replace(":", "")),
    )
    options = _MAGIC + _RELEASE + _SERVER_IDENTIFIER + socket.inet_aton(server) + _END
    return (fixed + options).ljust(_SHORTEST_MESSAGE, b"\0")
