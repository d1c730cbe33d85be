# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What the host and the other networks already use: subnets, user ids, and instances that use a network."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .._core.errors import EngineError
from .._host.files import read_json
from .._host.paths import Paths
from .._host.run import run
from .model import ADDRESS, DNSMASQ_UID, Recorded
from .record import find_record, network_names
from .subnets import Taken, parse_addresses, parse_routes

# Unused by distributions and by systemd (its UIDS-GIDS document), and below 2^31.
_FIRST_UID = 1900000000


def find_taken(paths: Paths, name: str) -> tuple[Taken, ...]:
    """Subnets of the host's routes and interfaces and of other networks, up or not."""
    routes = run(["ip", "-j", "-4", "route", "show", "table", "all"]).json()
    links = run(["ip", "-j", "-4", "address", "show"]).json()
    return (*_networks_taken(paths, name), *parse_routes(routes, name), *parse_addresses(links, name))


def find_free_uid(paths: Paths, name: str) -> int:
    """A user id for dnsmasq that no other network has."""
    used = {recorded.volatile.get(DNSMASQ_UID) for _unused, recorded in _others(paths, name)}
    uid = _FIRST_UID
    while str(uid) in used:
        uid += 1
    return uid


def find_users(paths: Paths, name: str) -> tuple[str, ...]:
    """Instances with a nic device on the network, their own or from a profile, and those that were started with one:
    a running guest has its interfaces until it restarts, whatever its definition says by now."""
    recorded = {path.parent.name for path, data in _records(paths.instances, "*/instance.json") if _uses(data, name)}
    # A guest that switched itself off leaves its file, but no interface.
    started = _records(paths.run / "instances", "*/started.json") if _has_ports(name) else ()
    # What a virtual machine was started with stands among more that its launch needs.
    running = {path.parent.name for path, data in started if _uses(data.get("started_with") or data, name)}
    return tuple(sorted(recorded | running))


def _has_ports(bridge: str) -> bool:
    ports = Path(f"/sys/class/net/{bridge}/brif")
    return ports.is_dir() and any(ports.iterdir())


def _uses(record: Mapping[str, Any], network: str) -> bool:
    devices = {**record.get("devices", {}), **record.get("expanded_devices", {})}
    return any(
        device.get("type") == "nic" and network in (device.get("network"), device.get("parent"))
        for device in devices.values()
    )


def _records(directory: Path, pattern: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted(directory.glob(pattern)):
        record = read_json(path)
        if record is not None:
            yield path, record


def _others(paths: Paths, name: str) -> Iterator[tuple[str, Recorded]]:
    for other in network_names(paths):
        if other == name:
            continue
        try:
            recorded = find_record(paths, other)
        except EngineError:
            # A damaged record must not keep all other networks from working; its bridge still shows as a route.
            continue
        if recorded is not None:
            yield other, recorded


def _networks_taken(paths: Paths, name: str) -> Iterator[Taken]:
    for other, recorded in _others(paths, name):
        address = recorded.intent.config.get("ipv4.address", "none")
        if address == "auto":
            address = recorded.volatile.get(ADDRESS, "none")
        if address != "none":
            yield Taken(_subnet(address), f"network {other}")


def _subnet(address: str) -> str:
    return str(ipaddress.IPv4Interface(address).network)
