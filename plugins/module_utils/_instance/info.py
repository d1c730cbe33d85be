# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What instance_info returns: records with what the host and the guests tell."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .._core.errors import EngineError
from .._core.kinds import InstanceType, Power
from .._core.names import require_name
from .._host.paths import Paths
from . import agent
from .host import Host
from .model import Address, Current, Record, Usage
from .plan import pending_options
from .resource import observe_instance
from .show import show_addresses, show_record
from .store import instance_names


def gather_instances(params: Mapping[str, Any], paths: Paths) -> dict[str, Any]:
    """All instances, or the named ones of the given type, each as it is now."""
    host = Host(paths)
    kind = InstanceType(params["type"]) if params["type"] else None
    names = instance_names(paths)
    if params["name"] is not None:
        wanted = {require_name("instance", name) for name in params["name"]}
        names = [name for name in names if name in wanted]
    shown = (_show_or_say_why(host, name, kind, params["agent_timeout"]) for name in names)
    return {"instances": [entry for entry in shown if entry]}


def _show_or_say_why(host: Host, name: str, kind: InstanceType | None, agent_timeout_seconds: float) -> dict[str, Any]:
    """One that cannot be read, such as a damaged record, must not hide the others."""
    try:
        return _show(host, name, kind, agent_timeout_seconds)
    except EngineError as error:
        return {"name": name, "status": "error", "error": str(error)}


def _show(host: Host, name: str, kind: InstanceType | None, agent_timeout_seconds: float) -> dict[str, Any]:
    current = observe_instance(host, name)
    record = current.record
    if record is None or (kind is not None and record.type is not kind):
        return {}
    if record.work is not None and not record.is_whole:
        return {**show_record(record), "status": f"interrupted {record.work.value}", "pid": None, "addresses": []}
    usage = Usage()
    addresses: tuple[Address, ...] = ()
    if current.power is not Power.STOPPED:
        usage = host.driver(record).usage(host.definition(record))
        addresses = _addresses(host, record, current, agent_timeout_seconds)
    disk = host.disk_usage(record)
    return {
        **show_record(record),
        "status": current.power.value,
        "pid": current.pid,
        "addresses": show_addresses(addresses),
        "memory": {"used_bytes": usage.memory_bytes, "limit_bytes": usage.memory_limit_bytes},
        "disk": {"used_bytes": disk.used_bytes, "total_bytes": disk.total_bytes},
        "processes": usage.processes,
        "cpu_seconds": usage.cpu_seconds,
        "pending": list(pending_options(current, record)),
        "snapshots": [],
    }


def _addresses(host: Host, record: Record, current: Current, timeout_seconds: float) -> tuple[Address, ...]:
    """A running virtual machine tells its own addresses; while it cannot, the leases do."""
    if not record.is_container and current.power is Power.RUNNING:
        with suppress(EngineError):
            return guest_addresses(f"{host.definition(record).run_directory}/qga.sock", record.name, timeout_seconds)
    with suppress(EngineError):
        return host.known_addresses(record)
    return ()


def guest_addresses(socket_path: str, name: str, timeout_seconds: float) -> tuple[Address, ...]:
    """Addresses as the guest agent sees them, loopback left out; TimedOut while no agent answers."""
    return tuple(
        Address(
            interface["name"],
            entry["family"],
            entry["address"],
            entry["prefix"],
            "link" if entry["address"].startswith(("fe80:", "169.254.")) else "global",
            interface["hwaddr"],
        )
        for interface in agent.observe_addresses(socket_path, name, timeout_seconds)
        if interface["name"] != "lo"
        for entry in interface["addresses"]
    )
