# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Host entries: what DHCP and DNS of a network know of each guest. One file per network card."""

from __future__ import annotations

import ipaddress
import signal
from pathlib import Path

from .._core.errors import Conflict, InvalidRequest
from .._core.names import require_device, require_name
from .._core.values import parse_hardware_address
from .._host.files import read_capped, write_if_changed
from .._host.locks import Lock, hold
from .._host.paths import Paths
from .._host.supervisor import open_supervisor
from .._host.unit import Unit
from .guests import HOST_LIMIT_BYTES, HOSTS, parse_host, render_host
from .lookup import find_definition
from .model import Network

_LOCK_SECONDS = 60.0


def write_host_entry(paths: Paths, network: str, instance: str, device: str, hwaddr: str, ipv4: str | None) -> None:
    """Let DHCP know a guest's network card: its name in DNS, and the address it always gets if ipv4 is given.

    InvalidRequest for an address outside the network, Conflict for one that another guest has. Nothing
    happens for a network without an address or one that is not ours.
    """
    definition = find_definition(paths, network)
    if definition is None or definition.address is None:
        return
    hwaddr = parse_hardware_address(hwaddr)
    if ipv4 is not None:
        _check_address(definition, instance, device, ipv4)
    with hold(paths, [Lock("allocation", "hosts")], _LOCK_SECONDS):
        path = _path(paths, network, instance, device)
        _require_unique(path, network, hwaddr, ipv4)
        is_known = path.exists()
        text = render_host(definition.get("dns.mode"), instance, hwaddr, ipv4)
        if write_if_changed(path, text.encode(), 0o644) and is_known:
            _reread_all(paths, network)


def remove_host_entry(paths: Paths, network: str, instance: str, device: str) -> None:
    """Forget a guest's network card; nothing happens if it is not known."""
    path = _path(paths, network, instance, device)
    if not path.exists():
        return
    path.unlink(missing_ok=True)
    _reread_all(paths, network)


def _reread_all(paths: Paths, network: str) -> None:
    """dnsmasq notices new files by itself, but older versions keep what a changed or removed one had said."""
    process = open_supervisor(paths).find(Unit("network", network, ""))
    if process is not None:
        process.signal(signal.SIGHUP)


def _path(paths: Paths, network: str, instance: str, device: str) -> Path:
    # The dot separates: neither name can hold one.
    file_name = f"{require_name('instance', instance)}.{require_device(device)}"
    return paths.network(network) / HOSTS / file_name


def _check_address(network: Network, instance: str, device: str, ipv4: str) -> None:
    address, interface = ipaddress.IPv4Address(ipv4), network.interface
    subnet = interface.network
    problem = ""
    if address not in subnet or address in (subnet.network_address, subnet.broadcast_address):
        problem = f"is not a host of network {network.name} ({subnet})"
    elif address == interface.ip:
        problem = f"is the host's own on network {network.name}"
    if problem:
        raise InvalidRequest(f"instance {instance}: device {device}: ipv4.address {ipv4} {problem}: choose another")


def _require_unique(own: Path, network: str, hwaddr: str, ipv4: str | None) -> None:
    instance, _unused, device = own.name.partition(".")
    for path in own.parent.iterdir():
        if path == own or path.name.startswith("."):
            continue
        entry = parse_host((read_capped(path, HOST_LIMIT_BYTES) or b"").decode("utf-8", "replace"))
        if entry is None:
            continue
        for what, ours, theirs in (("hwaddr", hwaddr, entry[0]), ("ipv4.address", ipv4, entry[1])):
            if ours is not None and ours == theirs:
                other = path.name.partition(".")[0]
                raise Conflict(
                    f"instance {instance}: device {device}: {what} {ours} is taken on network {network} "
                    f"by instance {other}: choose another"
                )
