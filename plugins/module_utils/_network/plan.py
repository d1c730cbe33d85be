# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""From what a task wants and what there is to changes and steps. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .._core.errors import Conflict
from .._core.plan import Change, Plan, Step, compare
from .._spec.network import NETWORK_CONFIG
from .bridge import Link, is_ours
from .model import (
    ADDRESS,
    DNSMASQ_UID,
    HARDWARE_ADDRESS,
    Desired,
    Intent,
    Network,
    Recorded,
    build_network,
    merge_intent,
)
from .nftables import Table, owners, render_rules, table_name
from .observed import PARTS, Current, find_drift, parts_of
from .steps import (
    ClaimForwarding,
    EnsureBridge,
    Finish,
    LoadRules,
    NetworkHost,
    Record,
    ReleaseForwarding,
    RemoveBridge,
    RemoveFiles,
    RequireTools,
    Serve,
    StopServing,
    UnloadRules,
)
from .subnets import require_free

_ALL_PARTS = frozenset(PARTS)
# Stand-ins for what is chosen later, where only the kind of network matters.
_SKETCH = {HARDWARE_ADDRESS: "00:16:3e:00:00:00", ADDRESS: "10.0.0.1/24", DNSMASQ_UID: "0"}

NetworkPlan = Plan[NetworkHost]
NetworkStep = Step[NetworkHost]


def plan_network(desired: Desired, current: Current) -> NetworkPlan:
    """Changes and steps; Conflict and InvalidRequest before anything is done.

    What an interrupted run left is adopted: names, marks and chosen values are in the record, every
    step is idempotent.
    """
    if desired.state == "absent":
        return plan_removal(desired.name, current)
    before = current.recorded.intent if current.recorded is not None and current.exists else None
    intent = merge_intent(desired, before)
    _require_names_are_ours(desired.name, current)
    _require_subnet_is_free(desired.name, intent, current)
    if before is None:
        return _plan_creation(desired.name, intent, current)
    return _plan_update(desired.name, before, intent, current)


def plan_removal(name: str, current: Current) -> NetworkPlan:
    """Removes what is there of the network; instances that use it stand in the way."""
    if current.recorded is None:
        if not current.observed.has_directory:
            return Plan()
        return Plan((Change("files", "left over", None),), (RemoveFiles(name),))
    changes = [Change("state", "present" if current.exists else "unfinished", "absent")]
    changes += compare("config", NETWORK_CONFIG.render(current.recorded.intent.config), {})
    remedy = "remove them or their nic devices first, and restart what still runs with these"
    obstacles = (f"network {name} is in use by instance {_names(current.users)}: {remedy}",) if current.users else ()
    return Plan(tuple(changes), tuple(_removal_steps(name, current, current.recorded)), obstacles=obstacles)


def plan_undo(name: str, current: Current) -> NetworkPlan:
    """Takes back an unfinished creation; empty for a network that existed before."""
    if current.recorded is None or current.recorded.intent.work != "create":
        return Plan()
    return plan_removal(name, replace(current, users=()))


def needs_survey(desired: Desired, recorded: Recorded | None) -> bool:
    """Whether the task may put an address of its choice on the host, so that taken subnets matter."""
    if desired.state == "absent":
        return False
    if recorded is None or not recorded.exists:
        return True
    wanted = (desired.config or {}).get("ipv4.address")
    return wanted is not None and wanted != recorded.intent.config.get("ipv4.address")


def _plan_creation(name: str, intent: Intent, current: Current) -> NetworkPlan:
    changes = [Change("state", "absent", "present"), Change("type", None, intent.type)]
    changes += compare("config", {}, NETWORK_CONFIG.render(intent.config))
    if intent.description:
        changes.append(Change("description", None, intent.description))
    steps = _building_steps(name, replace(intent, work="create"), _ALL_PARTS, current)
    return Plan(tuple(changes), tuple(steps), warnings=_tool_warnings(current))


def _plan_update(name: str, before: Intent, intent: Intent, current: Current) -> NetworkPlan:
    changes = list(compare("config", NETWORK_CONFIG.render(before.config), NETWORK_CONFIG.render(intent.config)))
    if intent.description != before.description:
        changes.append(Change("description", before.description or None, intent.description or None))
    if current.network is not None:
        changes += find_drift(current.network, current.observed)
    if before.work is not None:
        changes.append(Change("work", before.work, None))
    if not changes:
        return Plan()
    parts = _parts_to_build(name, before, intent, current)
    if not parts:
        return Plan(tuple(changes), (Record(name, intent),))
    steps = _building_steps(name, replace(intent, work="update"), parts, current)
    return Plan(tuple(changes), tuple(steps), warnings=_tool_warnings(current))


def _parts_to_build(name: str, before: Intent, intent: Intent, current: Current) -> frozenset[str]:
    if not (current.recorded is not None):
        raise AssertionError()
    volatile = current.recorded.volatile
    wanted = build_network(name, current.recorded.uuid, intent.config, volatile, current.directory)
    if wanted is None or before.work is not None:
        return _ALL_PARTS
    parts = parts_of(find_drift(wanted, current.observed))
    # dnsmasq's DHCP socket is bound to the bridge that was there when it started.
    return parts | {"service"} if current.observed.link is None else parts


def _building_steps(name: str, intent: Intent, parts: frozenset[str], current: Current) -> Iterator[NetworkStep]:
    sketch = build_network(name, "", intent.config, _SKETCH, "")
    if not (sketch is not None):
        raise AssertionError()
    if current.missing_tools:
        yield RequireTools(current.missing_tools)
    yield Record(name, intent)
    if "rules" in parts:
        yield from _rules_steps(sketch, current)
    if "bridge" in parts:
        yield EnsureBridge(name)
    if "forwarding" in parts:
        yield from _forwarding_steps(sketch, current)
    if "service" in parts:
        yield Serve(name, sketch.address is not None)
    yield Finish(name)


def _rules_steps(sketch: Network, current: Current) -> Iterator[NetworkStep]:
    if render_rules(sketch) is not None:
        yield LoadRules(sketch.name)
    elif current.observed.table is not None or current.exists:
        yield UnloadRules(sketch.name)


def _forwarding_steps(sketch: Network, current: Current) -> Iterator[NetworkStep]:
    if sketch.is_routed:
        yield ClaimForwarding(sketch.name)
    elif current.observed.has_claim:
        yield ReleaseForwarding(sketch.name)


def _removal_steps(name: str, current: Current, recorded: Recorded) -> Iterator[NetworkStep]:
    observed = current.observed
    yield Record(name, replace(recorded.intent, work="delete"))
    yield StopServing(name)
    if observed.link is not None and current.network is not None and is_ours(observed.link, current.network):
        yield RemoveBridge(name)
    if observed.table is not None and not _is_foreign(observed.table, recorded):
        yield UnloadRules(name)
    if observed.has_claim:
        yield ReleaseForwarding(name)
    yield RemoveFiles(name)


def _require_names_are_ours(name: str, current: Current) -> None:
    link, table = current.observed.link, current.observed.table
    if link is not None and (current.network is None or not is_ours(link, current.network)):
        raise Conflict(f"network {name}: an interface {name} exists that is {_whose(name, link)}")
    if table is not None and _is_foreign(table, current.recorded):
        raise Conflict(
            f"network {name}: an nftables table {table_name(name)} exists that is not ours: choose another name, "
            f"or remove it with: nft delete table inet {table_name(name)}"
        )


def _whose(name: str, link: Link) -> str:
    if link.alias.startswith("tandem:"):
        return f"of another tandem root or has lost its record: choose another name, or run ip link delete {name}"
    return "not ours: choose another name"


def _is_foreign(table: Table, recorded: Recorded | None) -> bool:
    """A table without any mark is ours only if a record says that we made it."""
    marks = owners(table)
    return recorded is None or (bool(marks) and recorded.uuid not in marks)


def _require_subnet_is_free(name: str, intent: Intent, current: Current) -> None:
    address = intent.config.get("ipv4.address", "none")
    if current.taken is not None and address not in ("auto", "none"):
        require_free(name, address, current.taken)


def _tool_warnings(current: Current) -> tuple[str, ...]:
    return tuple(f"{tool} is not installed on this host yet" for tool in current.missing_tools)


def _names(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
