# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Guests as dnsmasq knows them: host entries and leases, one line of text each. Pure: no I/O."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from .._core.errors import InvalidRequest
from .._core.values import parse_hardware_address, parse_ipv4_address

HOSTS = "hosts"
LEASES = "leases"
HOST_LIMIT_BYTES = 4096
LEASES_LIMIT_BYTES = 16 * 1024 * 1024
# Everything a line of ours can hold; blanks, quotes and '#' mean something to dnsmasq's parser.
_PLAIN = re.compile(r"[A-Za-z0-9._/:,+@=!-]*", re.ASCII)


@dataclass(frozen=True)
class Lease:
    """One line of the lease file; expires is a Unix time in seconds, 0 for never, hostname may be empty."""

    hwaddr: str
    address: str
    hostname: str
    expires: int


def checked(line: str) -> str:
    """The line; InvalidRequest if dnsmasq would not read it as it stands."""
    if _PLAIN.fullmatch(line) is None:
        raise InvalidRequest(f"{line!a} cannot be written to dnsmasq's files: use a plain path as root")
    return line


def render_host(dns_mode: str, instance: str, hwaddr: str, address: str | None) -> str:
    """A file of dhcp-hostsdir: the guest's MAC, its fixed address, and the name DNS shall have for it."""
    words = [hwaddr]
    if address is not None:
        words.append(address)
    if dns_mode == "managed":
        words.append(instance)
    if len(words) == 1:
        # An entry must say something; a tag is nothing that anybody looks at.
        words.append("set:known")
    return checked(",".join(words)) + "\n"


def parse_host(text: str) -> tuple[str, str | None] | None:
    """MAC and fixed address of a host entry; None if it is not one of ours."""
    words = text.strip().split(",")
    try:
        hwaddr = parse_hardware_address(words[0])
    except InvalidRequest:
        return None
    for word in words[1:]:
        try:
            return hwaddr, parse_ipv4_address(word)
        except InvalidRequest:
            continue
    return hwaddr, None


def parse_leases(text: str) -> tuple[Lease, ...]:
    """The lines of a lease file; what is cut off in the middle of a write or not IPv4 is left out."""
    leases = []
    for line in text.splitlines():
        words = line.split()
        if len(words) != 5 or not (words[0].isascii() and words[0].isdigit()):
            continue
        try:
            hwaddr, address = parse_hardware_address(words[1]), parse_ipv4_address(words[2])
        except InvalidRequest:
            continue
        leases.append(Lease(hwaddr, address, "" if words[3] == "*" else words[3], int(words[0])))
    return tuple(leases)


def keep_leases(text: str, subnet: ipaddress.IPv4Network) -> str:
    """The lease file with only the lines for addresses of subnet."""
    lines = [
        line
        for line in text.splitlines()
        if any(ipaddress.IPv4Address(lease.address) in subnet for lease in parse_leases(line))
    ]
    return "".join(f"{line}\n" for line in lines)
