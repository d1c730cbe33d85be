# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""qemu.json, the launch program's input: command line, resources and confinement. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .command import TCG_CACHE_BYTES, render_command
from .spec import Share, VmSpec

# Must equal SCHEMA in launch.py.
SCHEMA = 1
_MIB = 1024**2
_OVERHEAD_BYTES = 512 * _MIB
_THREADS = 192  # QEMU's own and its pool of 64 for files
_SHARE_THREADS = 128
# null, zero, full, random, urandom, and kvm where it is used.
_DEVICE_NODES = ("c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm")
_KVM_NODE = "c 10:232 rwm"


def render_description(vm: VmSpec, started_with: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object; started_with is handed through to started.json for the next run. Raises InvalidRequest."""
    argv, resources = render_command(vm)
    return {
        "schema": SCHEMA,
        "argv": list(argv),
        "resources": [dict(resource) for resource in resources],
        "uid": vm.uid,
        "gid": vm.uid,
        "kvm": vm.accelerator == "kvm",
        "run_directory": vm.run_directory,
        "limits": {"nofile": 1024, "cpus": list(vm.pinned_cpus)},
        "cgroups": _groups(vm),
        "started_with": started_with,
    }


def _groups(vm: VmSpec) -> dict[str, Any]:
    """Control files in the order they are written, for both versions of control groups."""
    memory, threads = str(memory_limit(vm)), str(_threads(vm))
    nodes = (*_DEVICE_NODES, *((_KVM_NODE,) if vm.accelerator == "kvm" else ()))
    return {
        "path": vm.cgroup,
        "v1": {
            "memory": [["memory.limit_in_bytes", memory]],
            "pids": [["pids.max", threads]],
            "devices": [["devices.deny", "a"], *(["devices.allow", node] for node in nodes)],
        },
        "v2": [["memory.max", memory], ["pids.max", threads]],
    }


def memory_limit(vm: VmSpec) -> int:
    """Guest memory and QEMU's own: a wall against a QEMU gone wild, not the guest's limit."""
    guest = max(vm.memory_bytes, vm.max_memory_bytes or 0)
    translated = TCG_CACHE_BYTES if vm.accelerator == "tcg" else 0
    return guest + guest // 50 + _OVERHEAD_BYTES + translated


def _threads(vm: VmSpec) -> int:
    shares = sum(isinstance(device, Share) for device in vm.devices)
    return _THREADS + max(vm.cpus, vm.max_cpus or 0) + _SHARE_THREADS * shares
