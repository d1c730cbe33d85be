# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A host that exists only in memory, on which plans can be run, interrupted and damaged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.tandem.machines.plugins.module_utils._core.plan import Plan
from ansible_collections.tandem.machines.plugins.module_utils._network.bridge import Link
from ansible_collections.tandem.machines.plugins.module_utils._network.model import (
    ADDRESS,
    DNSMASQ_UID,
    HARDWARE_ADDRESS,
    Desired,
    Intent,
    Network,
    Recorded,
    build_network,
)
from ansible_collections.tandem.machines.plugins.module_utils._network.nftables import Table, wanted_table
from ansible_collections.tandem.machines.plugins.module_utils._network.observed import Current, Observed, wanted_files
from ansible_collections.tandem.machines.plugins.module_utils._network.plan import needs_survey, plan_network
from ansible_collections.tandem.machines.plugins.module_utils._network.subnets import (
    Taken,
    choose_address,
    require_free,
)

NAME = "tdn0"
DIRECTORY = "/var/lib/tandem/networks/tdn0"
UUID = "12345678-0000-4000-8000-000000000000"


@dataclass
class ImaginedHost:
    """NetworkHost whose every verb does all of its work or, when the test says so, is never reached."""

    recorded: Recorded | None = None
    link: Link | None = None
    table: Table | None = None
    files: dict[str, str] = field(default_factory=dict)
    served: str | None = None
    is_forwarding: bool = False
    has_claim: bool = False
    taken: tuple[Taken, ...] = ()
    users: tuple[str, ...] = ()

    def current(self, desired: Desired) -> Current:
        return Current(
            recorded=self.recorded,
            network=self._network(),
            observed=Observed(
                link=self.link,
                table=self.table,
                files=dict(self.files),
                is_serving=self.served is not None,
                is_forwarding=self.is_forwarding,
                has_claim=self.has_claim,
                has_directory=self.recorded is not None,
            ),
            directory=DIRECTORY,
            users=self.users,
            taken=self.taken if needs_survey(desired, self.recorded) else None,
        )

    def plan(self, desired: Desired) -> Plan[Any]:
        return plan_network(desired, self.current(desired))

    def apply(self, desired: Desired, steps: int | None = None) -> Plan[Any]:
        """Run the plan, or only its first steps."""
        plan = self.plan(desired)
        for step in plan.steps[:steps]:
            step.run(self)
        return plan

    def traces(self) -> list[str]:
        """What is there of the network."""
        names = ("recorded", "link", "table", "files", "served", "has_claim", "is_forwarding")
        return [name for name in names if getattr(self, name)]

    # The verbs.

    def require_tools(self, tools: Sequence[str]) -> None:
        raise AssertionError("nothing is missing here")

    def record(self, intent: Intent) -> None:
        before = self.recorded
        volatile = dict(before.volatile) if before else {HARDWARE_ADDRESS: "00:16:3e:00:00:01", DNSMASQ_UID: "1"}
        address = intent.config.get("ipv4.address", "none")
        if address == "auto":
            volatile.setdefault(ADDRESS, choose_address(NAME, self.taken, 0))
        else:
            volatile.pop(ADDRESS, None)
            if address != "none":
                require_free(NAME, address, self.taken)
        self.recorded = Recorded(before.uuid if before else UUID, intent, json.loads(json.dumps(volatile)))

    def finish(self) -> None:
        assert self.recorded is not None
        self.recorded = replace(self.recorded, intent=replace(self.recorded.intent, work=None))

    def load_rules(self) -> None:
        self.table = wanted_table(self._require())
        self._write("rules.json")

    def unload_rules(self) -> None:
        self.table = None
        self.files.pop("rules.json", None)

    def ensure_bridge(self) -> None:
        network = self._require()
        addresses = (network.address,) if network.address else ()
        self._write("link.batch")
        self.link = Link(True, network.alias, network.hwaddr, network.get("bridge.mtu"), True, addresses, True)

    def remove_bridge(self) -> None:
        self.link = None

    def claim_forwarding(self) -> None:
        self.has_claim = self.is_forwarding = True

    def release_forwarding(self) -> None:
        self.has_claim = self.is_forwarding = False

    def serve(self) -> None:
        self.files.pop("dnsmasq.conf", None)
        self.served = None
        if self._require().address is not None:
            self._write("dnsmasq.conf")
            self.served = self.files["dnsmasq.conf"]

    def stop_serving(self) -> None:
        self.served = None

    def remove_files(self) -> None:
        self.files.clear()
        self.recorded = None

    def _network(self) -> Network | None:
        if self.recorded is None:
            return None
        return build_network(NAME, self.recorded.uuid, self.recorded.intent.config, self.recorded.volatile, DIRECTORY)

    def _require(self) -> Network:
        network = self._network()
        assert network is not None
        return network

    def _write(self, name: str) -> None:
        self.files[name] = wanted_files(self._require())[name]
