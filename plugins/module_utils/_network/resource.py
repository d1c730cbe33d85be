# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A network as the Ansible edge sees it: the resource of one task, and what modules return."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .._core.names import require_interface
from .._core.plan import Plan
from .._core.resource import NO_PROSPECTS, Noun, Prospects
from .._host.paths import Paths
from .._spec.network import NETWORK_CONFIG
from .document import network_options
from .host import Host, observe_link
from .leases import leases
from .lookup import bridges
from .model import Desired, Intent, merge_intent, parse_desired
from .observed import Current, find_drift
from .plan import plan_network, plan_undo
from .record import network_names
from .steps import NetworkHost
from .survey import find_users


class NetworkResource:
    """One desired network; see _core/resource.py."""

    noun = "network"
    waits = False

    def __init__(self, desired: Desired, paths: Paths) -> None:
        self.desired = desired
        self.name = desired.name
        self.paths = paths
        self.host = Host(paths, desired.name)
        # Removal keeps out every instance run: one that has seen the network may be about to join it.
        self.locks = (("host", "all", desired.state != "absent"), ("network", desired.name, False))
        self._prospects = NO_PROSPECTS

    def waits_in_turn(self, current: Current) -> bool:
        return False

    def expect(self, prospects: Prospects) -> None:
        self._prospects = prospects

    def foretell(self, current: Current) -> None:
        return None

    def identity(self, current: Current) -> str:
        return current.recorded.uuid if current.recorded is not None else ""

    def prepare(self) -> None:
        return

    def observe(self) -> Current:
        current = self.host.observe(self.desired)
        still = self._prospects.holding(_show_users(current.users))
        return replace(current, users=tuple(user.partition(" ")[2] for user in still))

    def is_busy(self, current: Current) -> bool:
        return current.recorded is not None and current.recorded.intent.work is not None

    def plan(self, current: Current) -> Plan[NetworkHost]:
        return plan_network(self.desired, current)

    def plan_again(self, current: Current) -> Plan[NetworkHost]:
        return self.plan(current)

    def plan_undo(self, current: Current) -> Plan[NetworkHost]:
        return plan_undo(self.name, current)

    def wait(self, current: Current) -> Current:
        return current

    def describe(self, current: Current) -> dict[str, Any]:
        return show_network(self.paths, self.name, current)

    def predict(self, current: Current) -> dict[str, Any]:
        if self.desired.state == "absent":
            return {}
        before = current.recorded.intent if current.recorded is not None and current.exists else None
        intent = merge_intent(self.desired, before)
        shown = self.describe(current) or {"managed": True, "used_by": [], "leases": []}
        return {**shown, **_intent_fields(self.name, intent), **_predicted_fields(intent, current)}

    def state(self, current: Current) -> str:
        return "present" if current.exists else "absent"


def build_network(params: Mapping[str, Any], paths: Paths) -> NetworkResource:
    """The resource a task describes; InvalidRequest for what can be seen from the parameters alone."""
    return NetworkResource(parse_desired(params), paths)


def gather_networks(params: Mapping[str, Any], paths: Paths) -> dict[str, Any]:
    """The networks of ours, or the named one; with unmanaged also the host's other bridges."""
    if params["name"] is not None:
        require_interface("network", params["name"])
    ours = network_names(paths)
    names = sorted({*ours, *bridges()}) if params["unmanaged"] else ours
    shown = []
    for name in names:
        if params["name"] in (None, name):
            shown.append(_show_managed(paths, name) if name in ours else _show_unmanaged(paths, name))
    return {"networks": [network for network in shown if network]}


def show_network(paths: Paths, name: str, current: Current) -> dict[str, Any]:
    """A network of ours as modules return it; {} if it does not exist."""
    if current.recorded is None or not current.exists:
        return {}
    link = current.observed.link
    drift = find_drift(current.network, current.observed) if current.network is not None else ()
    return {
        **_intent_fields(name, current.recorded.intent),
        "uuid": current.recorded.uuid,
        "managed": True,
        "state": "up" if link is not None and link.is_up else "down",
        "addresses": list(link.addresses) if link is not None else [],
        "hwaddr": current.network.hwaddr if current.network is not None else None,
        "mtu": link.mtu if link is not None else None,
        "used_by": list(_show_users(current.users)),
        "leases": _show_leases(paths, name),
        "drift": [change.path.replace("/", ": ") for change in drift],
    }


def _intent_fields(name: str, intent: Intent) -> dict[str, Any]:
    return {
        "name": name,
        "type": intent.type,
        "description": intent.description,
        "config": NETWORK_CONFIG.render(intent.config),
    }


def _predicted_fields(intent: Intent, current: Current) -> dict[str, Any]:
    """What the bridge will be, except an address that is yet to be chosen."""
    address = intent.config.get("ipv4.address", "none")
    if address == "auto":
        chosen = current.recorded.volatile.get("ipv4.address") if current.recorded is not None else None
        address = chosen or "none"
    return {
        "state": "up",
        "addresses": [] if address == "none" else [address],
        "mtu": NETWORK_CONFIG.get(intent.config, "bridge.mtu"),
        "drift": [],
    }


def _show_managed(paths: Paths, name: str) -> dict[str, Any]:
    return show_network(paths, name, Host(paths, name).observe(Desired(name)))


def _show_unmanaged(paths: Paths, name: str) -> dict[str, Any]:
    link = observe_link(name)
    if link is None:
        return {}
    return {
        "name": name,
        "type": "bridge",
        "managed": False,
        "state": "up" if link.is_up else "down",
        "addresses": list(link.addresses),
        "hwaddr": link.hwaddr,
        "mtu": link.mtu,
        "used_by": list(_show_users(find_users(paths, name))),
    }


def _show_users(instances: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"instance {name}" for name in instances)


def _show_leases(paths: Paths, name: str) -> list[dict[str, Any]]:
    return [
        {"address": lease.address, "hwaddr": lease.hwaddr, "hostname": lease.hostname, "expires": lease.expires}
        for lease in leases(paths, name)
    ]


NETWORK_NOUN = Noun(
    "network",
    "networks",
    {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "type": {"type": "str", "choices": ["bridge", "none"]},
        "description": {"type": "str"},
        "config": {"type": "dict"},
        "config_mode": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
    },
    build_network,
    table=None,
    names=network_names,
    options=network_options,
)
