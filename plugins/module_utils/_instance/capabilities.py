# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What host_info returns: what this host can run, and why not what it cannot."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from typing import Any

from .._core.errors import EngineError
from .._host import cgroups, probe
from .._host.ids import next_container_base
from .._host.paths import Paths
from .._host.run import find_tool
from .._host.supervisor import open_supervisor
from .._storage.registry import DRIVERS as STORAGE_DRIVERS
from .lxc import binding
from .qemu.accelerator import find_accelerator

# liblxc 7 dropped the first version of control groups.
_LIBLXC_WITHOUT_CGROUP1 = 7


def gather_host(params: Mapping[str, Any], paths: Paths) -> dict[str, Any]:
    """Facts of the host under the key host."""
    release = probe.os_release()
    uname = os.uname()
    return {
        "host": {
            "distribution": release.get("ID", "unknown"),
            "distribution_version": release.get("VERSION_ID", "unknown"),
            "kernel": uname.release,
            "architecture": uname.machine,
            "cpus": len(os.sched_getaffinity(0)),
            "memory_bytes": probe.memory_bytes(),
            "root": str(paths.root),
            "supervisor": open_supervisor(paths).name,
            "cgroup_version": cgroups.cgroup_version(),
            "containers": _containers(),
            "virtual_machines": _virtual_machines(),
            "networks": {
                "dnsmasq_version": probe.tool_version("dnsmasq"),
                "nftables_version": probe.tool_version("nft"),
            },
            "storage_drivers": _storage_drivers(),
            "hardening": _hardening(),
        }
    }


def _containers() -> dict[str, Any]:
    """Whether containers can run, else the first reason against it."""
    problem, version = "", None
    try:
        version = binding.version()
        next_container_base(())
    except EngineError as error:
        problem = str(error)
    is_too_new = version is not None and int(version.split(".", maxsplit=1)[0]) >= _LIBLXC_WITHOUT_CGROUP1
    if not problem and is_too_new and cgroups.cgroup_version() == 1:
        problem = f"liblxc {version} needs control groups version 2: boot this host with the unified layout"
    if not problem and probe.tool_version("lxc-start") is None:
        problem = "lxc-start is not installed: install package lxc"
    return {"supported": not problem, "reason": problem, "liblxc_version": version}


def _virtual_machines() -> dict[str, Any]:
    program = f"qemu-system-{platform.machine()}"
    version = probe.tool_version(program)
    accelerator, reason = find_accelerator()
    return {
        "supported": version is not None,
        "reason": "" if version else f"{program} is not installed",
        "qemu_version": version,
        "accelerator": accelerator,
        "accelerator_reason": reason,
    }


def _storage_drivers() -> dict[str, Any]:
    drivers = {}
    for name, driver in sorted(STORAGE_DRIVERS.items()):
        features = driver.features
        missing = [tool for tool in features.tools if find_tool(tool) is None]
        drivers[name] = {
            "supported": not missing,
            "reason": f"not installed: {', '.join(missing)}" if missing else "",
            "instant_clone": features.instant_clone,
            "quota": features.quota,
        }
    return drivers


def _hardening() -> dict[str, Any]:
    """Protections of the kernel; missing names those a guest here goes without."""
    landlock = probe.landlock_abi()
    protections = {
        "apparmor": probe.has_apparmor(),
        "landlock": landlock > 0,
        "seccomp": bool(probe.seccomp_actions()),
        "kvm": find_accelerator()[0] == "kvm",
    }
    reasons = {
        "apparmor": "AppArmor is not enabled: containers have no mandatory access control",
        "landlock": "the kernel has no Landlock: helpers that unpack images are confined less",
        "seccomp": "the kernel has no system call filters: containers and QEMU run without them",
        "kvm": "virtual machines are emulated, which QEMU does not count as a security boundary",
    }
    return {
        **protections,
        "landlock_abi": landlock,
        "missing": [reasons[name] for name, is_there in protections.items() if not is_there],
    }
