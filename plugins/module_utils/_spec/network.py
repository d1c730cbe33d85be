# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The options of networks. Data only."""

from __future__ import annotations

from .._core.network_values import DOMAINS, LEASE_TIME, MTU, NO_IPV6
from .._core.options import Option, OptionTable
from .._core.values import (
    BOOL,
    DOMAIN,
    HARDWARE_ADDRESS,
    IPV4_ADDRESS,
    IPV4_INTERFACE,
    IPV4_RANGES,
    STRING,
    choice,
)

TYPES = ("bridge", "none")

NETWORK_CONFIG = OptionTable(
    "network config",
    (
        Option("bridge.hwaddr", HARDWARE_ADDRESS, doc="MAC address of the bridge; chosen and kept when not given."),
        Option("bridge.mtu", MTU, default=1500, doc="MTU of the bridge, also told to the guests by DHCP."),
        Option("dns.domain", DOMAIN, default="tandem", doc="Domain of the guests' DNS names."),
        Option(
            "dns.mode",
            choice("managed", "dynamic", "none"),
            default="managed",
            doc="Names of guests in DNS: managed gives each its instance's name, dynamic the name it asks for, "
            "none no name.",
        ),
        Option("dns.search", DOMAINS, doc="Domains that guests search, separated by commas."),
        Option(
            "ipv4.address",
            IPV4_INTERFACE,
            doc="Address of the host on the bridge with its prefix length; auto chooses a free 10.x.y.1/24 once, "
            "none makes a bridge without address, DHCP, DNS and NAT. A new network has auto.",
        ),
        Option("ipv4.dhcp", BOOL, default=True, doc="Give guests addresses by DHCP."),
        Option("ipv4.dhcp.expiry", LEASE_TIME, default=3600, doc="How long a DHCP lease lasts."),
        Option("ipv4.dhcp.gateway", IPV4_ADDRESS, doc="Gateway told to the guests; the bridge's own when not given."),
        Option(
            "ipv4.dhcp.ranges",
            IPV4_RANGES,
            doc="Addresses for DHCP as FIRST-LAST, several separated by commas; the whole subnet when not given.",
        ),
        Option(
            "ipv4.firewall",
            BOOL,
            default=True,
            doc="Filter forwarded traffic: with NAT nothing from outside reaches a guest unless it is an answer or "
            "was forwarded on purpose, link-local addresses (cloud metadata) are not forwarded, and DNS and DHCP "
            "answer on the bridge only.",
        ),
        Option(
            "ipv4.nat",
            BOOL,
            default=False,
            doc="Give guests the host's address outside. A new network with the address auto has true.",
        ),
        Option("ipv4.routing", BOOL, default=True, doc="Forward traffic between the bridge and other networks."),
        Option("ipv6.address", NO_IPV6, doc="Only none: networks have IPv4 only."),
        Option("user.*", STRING, doc="Free keys for people and tools."),
    ),
)
