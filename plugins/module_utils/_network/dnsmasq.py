# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""dnsmasq's configuration for a network. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator

from .._core.network_values import render_lease_time
from .guests import HOSTS, LEASES, checked
from .model import Network
from .subnets import dhcp_ranges

CONFIGURATION = "dnsmasq.conf"
# One broadcast domain of guests is far smaller; the limit is on what a guest with random MACs can fill.
_MOST_LEASES = 65536


def render_configuration(network: Network) -> str:
    """The file for dnsmasq --conf-file; InvalidRequest if the state directory's path cannot be written in it."""
    lines = [*_process_lines(), *_interface_lines(network), *_dns_lines(network)]
    if network.get("ipv4.dhcp"):
        lines += _dhcp_lines(network)
    return "# Written by the Ansible collection tandem.machines; the next task overwrites it.\n" + "".join(
        f"{checked(line)}\n" for line in lines
    )


def _process_lines() -> Iterator[str]:
    yield "keep-in-foreground"
    yield "pid-file="
    # It is started without rights already; root here means: do not look for another user.
    yield "user=root"
    yield "group=root"
    yield "log-facility=-"
    yield "quiet-dhcp"


def _interface_lines(network: Network) -> Iterator[str]:
    yield f"interface={network.name}"
    yield "except-interface=lo"
    yield "bind-interfaces"
    yield f"listen-address={network.interface.ip}"


def _dns_lines(network: Network) -> Iterator[str]:
    """Names of the guests, then the host's resolvers, whose private answers pass: company networks have such names."""
    yield "no-hosts"
    yield "strict-order"
    yield "domain-needed"
    yield "bogus-priv"
    if network.get("dns.mode") != "none":
        domain = network.get("dns.domain")
        yield f"domain={domain}"
        yield f"local=/{domain}/"
        yield f"interface-name=_gateway.{domain},{network.name}"


def _dhcp_lines(network: Network) -> Iterator[str]:
    subnet = network.interface.network
    yield "dhcp-authoritative"
    yield "dhcp-no-override"
    # Only we give addresses here; probing each would delay every guest by seconds.
    yield "no-ping"
    yield "dhcp-rapid-commit"
    # A guest made anew has another client id but keeps its MAC, and with it its address.
    yield "dhcp-ignore-clid"
    yield f"dhcp-hostsdir={network.directory}/{HOSTS}"
    yield f"dhcp-leasefile={network.directory}/{LEASES}"
    yield f"dhcp-lease-max={min(subnet.num_addresses, _MOST_LEASES)}"
    expiry = render_lease_time(network.get("ipv4.dhcp.expiry"))
    for first, last in dhcp_ranges(network):
        yield f"dhcp-range={first},{last},{subnet.netmask},{expiry}"
    yield from _name_lines(network)
    yield from _option_lines(network)


def _name_lines(network: Network) -> Iterator[str]:
    if network.get("dns.mode") != "dynamic":
        yield "dhcp-ignore-names"
        return
    # A guest that calls itself wpad would configure the browsers of all others (VU#598349).
    yield "dhcp-name-match=set:wpad,wpad"
    yield "dhcp-ignore-names=tag:wpad"


def _option_lines(network: Network) -> Iterator[str]:
    gateway = network.get("ipv4.dhcp.gateway")
    if gateway is not None:
        yield f"dhcp-option-force=option:router,{gateway}"
    elif not network.is_routed:
        # Without a value the option is not sent: a gateway that forwards nothing would only mislead.
        yield "dhcp-option=option:router"
    if network.get("bridge.mtu") != 1500:
        yield f"dhcp-option-force=option:mtu,{network.get('bridge.mtu')}"
    if network.get("dns.search"):
        yield f"dhcp-option-force=option:domain-search,{','.join(network.get('dns.search'))}"
