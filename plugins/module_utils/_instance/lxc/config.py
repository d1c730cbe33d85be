# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The liblxc configuration of a container, rendered from its definition. Pure: no I/O.

This serializer is the only writer of liblxc configuration; it refuses control characters.
Keys follow lxc.container.conf(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..._core.errors import InvalidRequest
from ..._core.values import Cpus
from ..._host.private_mounts import PrivateMounts
from ..model import DiskDefinition, InstanceDefinition, NicDefinition, fstab_field

ID_RANGE = 65536
INNER_GROUP = "ns"
_ROOT = "root"
# What an unprivileged guest could not use anyway, denied as a second wall (lxc's common.seccomp and more).
DENIED_CALLS = (
    "reject_force_umount",
    "[all]",
    "kexec_load errno 38",
    "kexec_file_load errno 38",
    "open_by_handle_at errno 38",
    "init_module errno 38",
    "finit_module errno 38",
    "delete_module errno 38",
    "swapon errno 38",
    "swapoff errno 38",
    "acct errno 38",
)
_DEVICES = (
    "b *:* m", "c *:* m", "c 136:* rwm", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm",
    "c 5:0 rwm", "c 5:1 rwm", "c 5:2 rwm", "c 10:200 rwm", "c 10:229 rwm",
)  # fmt: skip
# Whatever ends a line for somebody; compiled at its first use.
_CONTROL = "[\x00-\x1f\x7f\x85\u2028\u2029]"
_PRIVILEGED_DROPS = "sys_time sys_module sys_rawio mac_admin mac_override"
# Passed in where the host has them; their modules may be loaded at any time.
_PASSED_DEVICES = ("/dev/fuse", "/dev/net/tun")
_CONSOLE_BYTES = "1MB"


@dataclass(frozen=True, eq=False, repr=False)
class ContainerHost:
    """What the host offers: control group version 1 or 2, AppArmor, the CPUs."""

    cgroup_version: int
    has_apparmor: bool
    online_cpus: tuple[int, ...]

    @property
    def cgroup_prefix(self) -> str:
        return "lxc.cgroup2" if self.cgroup_version == 2 else "lxc.cgroup"


def cgroup_key(name: str, version: int) -> str:
    """The control file of a limit in the given control group version."""
    files = {"memory": ("memory.limit_in_bytes", "memory.max"), "cpus": ("cpuset.cpus",) * 2, "pids": ("pids.max",) * 2}
    return files[name][version - 1]


def choose_cpus(name: str, cpus: Cpus, online: tuple[int, ...]) -> tuple[int, ...]:
    """The host CPUs for a limit: the pinned ones, or count of them starting at a place that depends on
    the instance's name, so that instances spread. Always the same answer for the same host."""
    if cpus.pinned:
        return cpus.pinned
    count = min(cpus.count, len(online))
    start = sum(name.encode()) % len(online)
    return tuple(sorted((online * 2)[start : start + count]))


def mounts_directory(definition: InstanceDefinition) -> str:
    """Where the container's id-mapped mounts are, for its own processes only."""
    return f"{definition.run_directory}/mounts"


def private_mounts(definition: InstanceDefinition) -> PrivateMounts | None:
    """The mounts of an unprivileged container: root file system and disks, from where its root, a stranger on the
    host, may go. None for a privileged one, which needs no ids mapped and no way opened."""
    record = definition.record
    if record.get("security.privileged"):
        return None
    return PrivateMounts(
        directory=mounts_directory(definition),
        mapped={_ROOT: definition.root, **{_disk(disk): disk.source for disk in definition.disks if disk.is_shifted}},
        plain={_disk(disk): disk.source for disk in definition.disks if not disk.is_shifted},
        base=int(record.volatile["idmap.base"]),
        count=ID_RANGE,
        keep=(definition.directory,),
    )


def _disk(disk: DiskDefinition) -> str:
    return f"disk-{disk.device}"


def limits(definition: InstanceDefinition, host: ContainerHost) -> dict[str, str]:
    """Control file -> value for every limit of the container; files without a limit are left out."""
    record = definition.record
    values = {cgroup_key("pids", host.cgroup_version): str(record.get("limits.processes"))}
    if definition.memory_bytes is not None:
        values[cgroup_key("memory", host.cgroup_version)] = str(definition.memory_bytes)
    cpus = record.get("limits.cpu")
    if cpus is not None:
        chosen = choose_cpus(record.name, cpus, host.online_cpus)
        values[cgroup_key("cpus", host.cgroup_version)] = ",".join(map(str, chosen))
    return values


def render_seccomp() -> str:
    """The system call filter in liblxc's version 2 format."""
    return "\n".join(("2", "denylist", *DENIED_CALLS)) + "\n"


def render_config(definition: InstanceDefinition, host: ContainerHost) -> str:
    """The whole configuration file; InvalidRequest if a value cannot be written in its format."""
    lines = []
    has_control = re.compile(_CONTROL)
    for key, value in _entries(definition, host):
        if has_control.search(value):
            raise InvalidRequest(f"instance {definition.name}: {key} {value!r} has a control character")
        lines.append(f"{key} = {value}")
    return "\n".join(lines) + "\n"


def _entries(definition: InstanceDefinition, host: ContainerHost) -> Iterator[tuple[str, str]]:
    yield from _base(definition)
    yield from _confinement(definition, host)
    yield from _control_groups(definition, host)
    for path in _PASSED_DEVICES:
        yield "lxc.mount.entry", f"{path} {path[1:]} none bind,create=file,optional 0 0"
    for index, nic in enumerate(definition.nics):
        yield from _nic(index, nic)
    mounts = private_mounts(definition)
    for disk in definition.disks:
        source = mounts.path(_disk(disk)) if mounts else disk.source
        yield "lxc.mount.entry", _mount_entry(disk, source)
    yield from _environment(definition.record.expanded_config)


def _base(definition: InstanceDefinition) -> Iterator[tuple[str, str]]:
    yield "lxc.uts.name", definition.name
    mounts = private_mounts(definition)
    yield "lxc.rootfs.path", f"dir:{mounts.path(_ROOT) if mounts else definition.root}"
    # liblxc must never delete a root file system: volumes are ours.
    yield "lxc.rootfs.managed", "0"
    yield "lxc.tty.max", "0"
    yield "lxc.pty.max", "1024"
    yield "lxc.console.buffer.size", _CONSOLE_BYTES
    yield "lxc.console.size", _CONSOLE_BYTES
    yield "lxc.console.logfile", f"{definition.directory}/console.log"
    yield "lxc.log.file", f"{definition.directory}/lxc.log"
    yield "lxc.log.level", "WARN"
    # systemd's clean halt; its SIGPWR default needs a sigpwr.target that images lack.
    yield "lxc.signal.halt", "SIGRTMIN+3"


def _confinement(definition: InstanceDefinition, host: ContainerHost) -> Iterator[tuple[str, str]]:
    record = definition.record
    if record.get("security.privileged"):
        yield "lxc.mount.auto", "proc:mixed sys:mixed cgroup:mixed"
        yield "lxc.cap.drop", _PRIVILEGED_DROPS
    else:
        base = record.volatile["idmap.base"]
        yield "lxc.idmap", f"u 0 {base} {ID_RANGE}"
        yield "lxc.idmap", f"g 0 {base} {ID_RANGE}"
        yield "lxc.mount.auto", "proc:rw sys:rw cgroup:rw:force"
    yield "lxc.apparmor.profile", "generated" if host.has_apparmor else "unconfined"
    if host.has_apparmor and (not record.get("security.privileged") or record.get("security.nesting")):
        # For the sandboxes of systemd's services, such as networkd; Debian's default.conf has it too.
        yield "lxc.apparmor.allow_nesting", "1"
    if record.get("security.nesting"):
        yield "lxc.mount.entry", "proc dev/.lxc/proc proc create=dir,optional 0 0"
        yield "lxc.mount.entry", "sys dev/.lxc/sys sysfs create=dir,optional 0 0"
    yield "lxc.seccomp.profile", f"{definition.directory}/seccomp"
    if record.get("security.nesting"):
        yield "lxc.seccomp.allow_nesting", "1"


def _control_groups(definition: InstanceDefinition, host: ContainerHost) -> Iterator[tuple[str, str]]:
    # Limits sit in a parent of the container's own group, where its root cannot raise them.
    yield "lxc.cgroup.dir.monitor", f"{definition.cgroup}/monitor"
    # Where the monitor goes to let the group above it be removed; liblxc's own choice is left behind for good.
    yield "lxc.cgroup.dir.monitor.pivot", f"{definition.cgroup}/pivot"
    yield "lxc.cgroup.dir.container", f"{definition.cgroup}/container"
    yield "lxc.cgroup.dir.container.inner", INNER_GROUP
    yield f"{host.cgroup_prefix}.devices.deny", "a"
    for rule in _DEVICES:
        yield f"{host.cgroup_prefix}.devices.allow", rule
    for key, value in sorted(limits(definition, host).items()):
        yield f"{host.cgroup_prefix}.{key}", value


def _nic(index: int, nic: NicDefinition) -> Iterator[tuple[str, str]]:
    prefix = f"lxc.net.{index}"
    yield f"{prefix}.type", "veth"
    yield f"{prefix}.link", nic.bridge
    yield f"{prefix}.veth.pair", nic.host_name
    yield f"{prefix}.name", nic.guest_name
    yield f"{prefix}.hwaddr", nic.hwaddr
    yield f"{prefix}.flags", "up"
    if nic.mtu is not None:
        yield f"{prefix}.mtu", str(nic.mtu)


def _mount_entry(disk: DiskDefinition, source: str) -> str:
    options = ["bind", "create=dir"]
    if disk.is_readonly:
        options.append("ro")
    return f"{fstab_field(source)} {fstab_field(disk.path.lstrip('/'))} none {','.join(options)} 0 0"


def _environment(config: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for key, value in sorted(config.items()):
        if key.startswith("environment."):
            yield "lxc.environment", f"{key[len('environment.') :]}={value}"
