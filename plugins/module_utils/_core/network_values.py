# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Value types that only networks need: lease times, lists of domains, and what IPv6 is not yet. Pure: no I/O."""

from __future__ import annotations

import re

from .errors import InvalidRequest
from .values import ValueType, parse_domain, parse_integer

INFINITE = "infinite"
# The units of dnsmasq's dhcp-range; a bare number is in seconds.
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LEASE_TIME = re.compile(r"([0-9]{1,10})([smhdw]?)", re.ASCII)
_SHORTEST_SECONDS = 120
_LONGEST_SECONDS = 2**31 - 1


def parse_lease_time(value: object) -> int | str:
    """Seconds, or 'infinite'. dnsmasq takes nothing shorter than two minutes."""
    remedy = "is not a lease time: write 2m or more, such as 45m, 12h or 7d, or infinite"
    if value == INFINITE:
        return INFINITE
    match = _LEASE_TIME.fullmatch(str(value)) if isinstance(value, (str, int)) else None
    if match is None or isinstance(value, bool):
        raise InvalidRequest(f"{ascii(value)[:80]} {remedy}")
    seconds = int(match[1]) * _UNITS[match[2]]
    if not _SHORTEST_SECONDS <= seconds <= _LONGEST_SECONDS:
        raise InvalidRequest(f"{ascii(value)[:80]} {remedy}")
    return seconds


def render_lease_time(value: int | str) -> str:
    """The shortest exact notation: 3600 becomes 1h."""
    if isinstance(value, str):
        return value
    for unit in ("w", "d", "h", "m"):
        if value % _UNITS[unit] == 0:
            return f"{value // _UNITS[unit]}{unit}"
    return f"{value}s"


def parse_domains(value: object) -> tuple[str, ...]:
    """Domains separated by commas, in the order of search; at most 6, as resolv.conf(5) long allowed."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{ascii(value)[:80]} is not a list of DNS domains such as example.org,lab.example.org")
    domains = tuple(parse_domain(part.strip()) for part in value.split(","))
    if len(domains) > 6:
        raise InvalidRequest(f"{ascii(value)[:80]} has more than 6 domains: shorten the list")
    return domains


def parse_no_ipv6(value: object) -> str:
    if value == "none":
        return "none"
    raise InvalidRequest(
        f"{ascii(value)[:80]} is not supported: networks have IPv4 only, so write none or leave it out"
    )


# 1280 is the least MTU IPv6 allows inside guests; LXD has the same limits.
MTU = ValueType("integer from 1280 to 16384", parse_integer(1280, 16384))
LEASE_TIME = ValueType("lease time", parse_lease_time, render_lease_time)
DOMAINS = ValueType("list of DNS domains", parse_domains, ",".join)
NO_IPV6 = ValueType("none", parse_no_ipv6)
