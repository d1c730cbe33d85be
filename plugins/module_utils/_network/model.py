# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a task asks of a network, what its record says, and what is to be built from it. Pure: no I/O."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .._core.errors import Conflict, InvalidRequest
from .._core.names import require_interface
from .._core.options import Config, merge
from .._core.values import IPV4_INTERFACE, parse_string
from .._spec.network import NETWORK_CONFIG, TYPES

SCHEMA = 1
# Keys of a record's volatile values: chosen once, never compared.
HARDWARE_ADDRESS = "bridge.hwaddr"
ADDRESS = "ipv4.address"
DNSMASQ_UID = "dnsmasq.uid"
# Below /proc/sys/net/*/conf they mean all interfaces, and those yet to come.
_RESERVED_NAMES = ("all", "default")


@dataclass(frozen=True)
class Desired:
    """A task in normal forms; None where it leaves a thing unmanaged, a None value where it removes a key."""

    name: str
    state: str = "present"
    type: str | None = None
    description: str | None = None
    config: Config | None = None
    replace: bool = False


@dataclass(frozen=True)
class Intent:
    """What the record is to say: everything of it that a task decides. work is None once it is done."""

    type: str
    description: str
    config: Config
    work: str | None = None


@dataclass(frozen=True)
class Recorded:
    """network.json in normal forms."""

    uuid: str
    intent: Intent
    volatile: Mapping[str, str]

    @property
    def exists(self) -> bool:
        """Whether it counts as present: what is half made or half removed does not."""
        return self.intent.work not in ("create", "delete")


@dataclass(frozen=True)
class Network:
    """All that renderers need: the intent with the values chosen for this host.

    address is the host's, with prefix length, None for a bridge without one. directory is where the
    network's files lie, an absolute path.
    """

    name: str
    uuid: str
    config: Config
    hwaddr: str
    address: str | None
    uid: int
    directory: str

    def get(self, key: str) -> Any:
        return NETWORK_CONFIG.get(self.config, key)

    @property
    def interface(self) -> ipaddress.IPv4Interface:
        if not (self.address is not None):
            raise AssertionError()
        return ipaddress.IPv4Interface(self.address)

    @property
    def is_routed(self) -> bool:
        return self.address is not None and bool(self.get("ipv4.routing"))

    @property
    def alias(self) -> str:
        """The mark on the bridge by which it is known as ours."""
        return f"tandem:{self.uuid}"


def parse_desired(params: Mapping[str, Any]) -> Desired:
    """A task's parameters; InvalidRequest naming the network and the option."""
    name = require_interface("network", params["name"])
    if name in _RESERVED_NAMES:
        raise InvalidRequest(f"network name {name!r} is reserved by the kernel: choose another")
    where = f"network {name}"
    kind = params.get("type")
    if kind is not None and kind not in TYPES:
        raise InvalidRequest(f"{where}: type {kind!a} is not one of {', '.join(TYPES)}")
    config = params.get("config")
    description = params.get("description")
    return Desired(
        name=name,
        state=params.get("state") or "present",
        type=kind,
        description=None if description is None else _parse_description(where, description),
        config=None if config is None else NETWORK_CONFIG.parse(config, where),
        replace=params.get("config_mode") == "replace",
    )


def parse_record(name: str, record: Mapping[str, Any]) -> Recorded:
    """A record as read from disk; Conflict if a newer version wrote it or it is damaged."""
    if record.get("schema") != SCHEMA:
        raise Conflict(f"network {name}: its record has schema {record.get('schema')!r}: use the version that wrote it")
    try:
        intent = Intent(
            type=record["type"],
            description=record["description"],
            config=NETWORK_CONFIG.parse(record["config"], f"record of network {name}"),
            work=record["work"],
        )
        return Recorded(record["uuid"], intent, dict(record["volatile"]))
    except (KeyError, TypeError, ValueError, InvalidRequest) as error:
        raise Conflict(f"network {name}: its record is damaged ({error}): restore it or move it away") from None


def render_record(name: str, recorded: Recorded) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": "network",
        "name": name,
        "uuid": recorded.uuid,
        "work": recorded.intent.work,
        "type": recorded.intent.type,
        "description": recorded.intent.description,
        "config": NETWORK_CONFIG.render(recorded.intent.config),
        "volatile": dict(recorded.volatile),
    }


def merge_intent(desired: Desired, before: Intent | None) -> Intent:
    """The checked intent that the task leads to, without work; before is None for a new network."""
    kind = desired.type or (before.type if before else "bridge")
    if before is not None and kind != before.type:
        raise Conflict(
            f"network {desired.name}: its type is {before.type} and cannot become {kind}: remove the network first"
        )
    given = desired.config or {}
    config = merge(before.config if before else {}, given, desired.replace and desired.config is not None)
    # Replacing by the very dict that created the network must change nothing, so its defaults count again.
    if kind == "bridge" and (before is None or (desired.replace and desired.config is not None)):
        config = _with_creation_defaults(config, given)
    description = desired.description
    if description is None:
        description = before.description if before else ""
    check_config(desired.name, kind, config)
    return Intent(kind, description, config)


def build_network(name: str, uuid: str, config: Config, volatile: Mapping[str, str], directory: str) -> Network | None:
    """The network that config describes; None while its address is still to be chosen."""
    address: str | None = config.get("ipv4.address", "none")
    if address == "auto":
        address = volatile.get(ADDRESS)
        if address is None:
            return None
    return Network(
        name=name,
        uuid=uuid,
        config=config,
        hwaddr=config.get("bridge.hwaddr") or volatile[HARDWARE_ADDRESS],
        address=None if address == "none" else address,
        uid=int(volatile[DNSMASQ_UID]),
        directory=directory,
    )


def check_config(name: str, kind: str, config: Config) -> None:
    """The rules that involve more than one option; InvalidRequest."""
    where = f"network {name}"
    address = config.get("ipv4.address", "none")
    if kind == "none":
        _check_plain(where, config)
    if address == "auto" and "ipv4.dhcp.ranges" in config:
        raise InvalidRequest(f"{where}: ipv4.dhcp.ranges needs a fixed ipv4.address: write it instead of auto")
    if address not in ("auto", "none"):
        _check_subnet(where, ipaddress.IPv4Interface(address), config)


def _check_plain(where: str, config: Config) -> None:
    for key, value in config.items():
        if key.startswith(("ipv4.", "dns.")) and value != "none":
            raise InvalidRequest(f"{where}: {key} is not for type none, which has no address: use type bridge")


def _check_subnet(where: str, interface: ipaddress.IPv4Interface, config: Config) -> None:
    network = interface.network
    if interface.ip == network.broadcast_address:
        raise InvalidRequest(f"{where}: ipv4.address {interface} is its subnet's broadcast address: choose another")
    if interface.is_loopback or interface.is_multicast or interface.is_unspecified or interface.is_link_local:
        raise InvalidRequest(f"{where}: ipv4.address {interface} is not a unicast address for a network")
    if network.prefixlen < 8:
        raise InvalidRequest(f"{where}: ipv4.address {interface} spans too much: use a prefix length of 8 to 30")
    for first, last in config.get("ipv4.dhcp.ranges", ()):
        if not all(_is_host(network, address) for address in (first, last)):
            raise InvalidRequest(f"{where}: ipv4.dhcp.ranges {first}-{last} is not within the hosts of {network}")
    gateway = config.get("ipv4.dhcp.gateway")
    if gateway is not None and not _is_host(network, gateway):
        raise InvalidRequest(f"{where}: ipv4.dhcp.gateway {gateway} is not a host of {network}")


def _is_host(network: ipaddress.IPv4Network, text: str) -> bool:
    address = ipaddress.IPv4Address(text)
    return address in network and address not in (network.network_address, network.broadcast_address)


def _with_creation_defaults(config: Config, given: Config) -> dict[str, Any]:
    """LXD's: a network gets an automatic address unless told otherwise, and NAT with it."""
    filled = dict(config)
    if "ipv4.address" not in given:
        filled["ipv4.address"] = IPV4_INTERFACE.parse("auto")
    if filled.get("ipv4.address") == "auto" and "ipv4.nat" not in given:
        filled["ipv4.nat"] = True
    return filled


def _parse_description(where: str, value: object) -> str:
    try:
        return parse_string(value)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}: description: {error}") from None
