# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a look at the host shows of a network, and where that differs from what it should be. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from .._core.plan import Change
from .bridge import Link, is_ours, render_creation
from .dnsmasq import CONFIGURATION, render_configuration
from .model import Network, Recorded
from .nftables import Table, render_rules, wanted_table
from .subnets import Taken

BATCH = "link.batch"
RULES = "rules.json"

# The parts of a network that are mended as wholes, in the order of mending, by the paths of their differences.
# Rules come before the bridge: no guest is ever connected without them.
PARTS: Mapping[str, tuple[str, ...]] = {
    "rules": ("nftables", f"files/{RULES}"),
    "bridge": ("bridge", f"files/{BATCH}"),
    "forwarding": ("forwarding",),
    "service": ("dnsmasq", f"files/{CONFIGURATION}", "unit"),
}


@dataclass(frozen=True)
class Observed:
    """files maps each rendered file's name to its text. has_claim: the network is among those for which
    the host forwards; is_forwarding: the host really does."""

    link: Link | None = None
    table: Table | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    is_serving: bool = False
    is_unit_installed: bool = True
    is_forwarding: bool = False
    has_claim: bool = False
    has_directory: bool = False


@dataclass(frozen=True)
class Current:
    """taken is None unless the task may need a new subnet. users are instances by name."""

    recorded: Recorded | None
    network: Network | None
    observed: Observed
    directory: str
    users: tuple[str, ...] = ()
    taken: tuple[Taken, ...] | None = None
    missing_tools: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        return self.recorded is not None and self.recorded.exists


def wanted_files(network: Network) -> dict[str, str]:
    """The rendered files that a network has, by name."""
    files = {BATCH: render_creation(network)}
    rules = render_rules(network)
    if rules is not None:
        files[RULES] = rules
    if network.address is not None:
        files[CONFIGURATION] = render_configuration(network)
    return files


def find_drift(network: Network, observed: Observed) -> tuple[Change, ...]:
    """Every way in which the host differs from the network."""
    return (
        *_bridge_drift(network, observed.link),
        *_rules_drift(network, observed.table),
        *_file_drift(wanted_files(network), observed.files),
        *_process_drift(network, observed),
    )


def parts_of(changes: tuple[Change, ...]) -> frozenset[str]:
    """The parts that hold the given differences."""
    return frozenset(
        part
        for part, paths in PARTS.items()
        for change in changes
        if any(change.path == path or change.path.startswith(f"{path}/") for path in paths)
    )


def _bridge_drift(network: Network, link: Link | None) -> Iterator[Change]:
    if link is None:
        yield Change("bridge", None, network.name)
        return
    if not is_ours(link, network):
        # The plan refuses; here it only has to show.
        yield Change("bridge/alias", link.alias, network.alias)
        return
    wanted = [] if network.address is None else [network.address]
    facts = (
        ("alias", link.alias, network.alias),
        ("hwaddr", link.hwaddr, network.hwaddr),
        ("mtu", link.mtu, network.get("bridge.mtu")),
        ("up", link.is_up, True),
        ("addresses", list(link.addresses), wanted),
        ("ipv6", not link.is_ipv6_off, False),
    )
    for name, actual, expected in facts:
        if actual != expected:
            yield Change(f"bridge/{name}", actual, expected)


def _rules_drift(network: Network, table: Table | None) -> Iterator[Change]:
    wanted = wanted_table(network)
    if table != wanted:
        before = "missing" if table is None else "different"
        yield Change("nftables", before, None if wanted is None else "as wanted")


def _file_drift(wanted: Mapping[str, str], actual: Mapping[str, str]) -> Iterator[Change]:
    for name in sorted(set(wanted) | set(actual)):
        if wanted.get(name) != actual.get(name):
            before = "different" if name in actual else "missing"
            yield Change(f"files/{name}", before, "as wanted" if name in wanted else None)


def _process_drift(network: Network, observed: Observed) -> Iterator[Change]:
    has_dnsmasq = network.address is not None
    if observed.is_serving != has_dnsmasq:
        yield Change("dnsmasq", _running(observed.is_serving), _running(has_dnsmasq))
    if not observed.is_unit_installed:
        yield Change("unit", "missing or different", "as wanted")
    forwards = observed.is_forwarding and observed.has_claim
    if network.is_routed and not forwards:
        yield Change("forwarding", False, True)
    elif not network.is_routed and observed.has_claim:
        yield Change("forwarding", True, None)


def _running(is_running: bool) -> str:
    return "running" if is_running else "stopped"
