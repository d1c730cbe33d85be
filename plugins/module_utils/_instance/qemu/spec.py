# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A virtual machine as QEMU sees it, made from an instance's definition. Pure: no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Union

from ..._core.errors import MissingDependency
from ..model import DiskDefinition, InstanceDefinition, NicDefinition

DEFAULT_MEMORY_BYTES = 1024**3
DEFAULT_CPUS = 1
PORTS_PER_SLOT = 8
KIND_PORTS = PORTS_PER_SLOT // 2
ROOT_DISK = "disk-root"
SEED_DISK = "disk-seed"
_MIB = 1024**2
# QEMU limits node names to 31 characters; "-1-file" is added to ours.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,17}", re.ASCII)


@dataclass(frozen=True, eq=False, repr=False)
class VmHost:
    """What the host offers to virtual machines.

    accelerator is kvm or tcg. firmware and firmware_variables are UEFI's code and the template of its
    variables, virtiofsd the server of host directories; None where they are not installed.
    """

    accelerator: str
    program: str
    firmware: str | None = None
    firmware_variables: str | None = None
    virtiofsd: str | None = None
    has_vhost_net: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class DirectBoot:
    """The host loads kernel and initrd itself: no boot loader, half of the boot time."""

    kernel: str
    initrd: str | None
    command_line: str


@dataclass(frozen=True, eq=False, repr=False)
class FirmwareBoot:
    """UEFI from two raw flash images; variables is the instance's own and writable."""

    code: str
    variables: str


@dataclass(frozen=True, eq=False, repr=False)
class Layer:
    """One image file; format is qcow2 or raw, always stated and never probed."""

    path: str
    format: str


@dataclass(frozen=True, eq=False, repr=False)
class Disk:
    """A virtio disk; layers go from the file that is written down to the last backing file.

    port is the PCIe root port it sits on, from 0; serial shows in /dev/disk/by-id of the guest.
    """

    id: str
    port: int
    layers: tuple[Layer, ...]
    serial: str
    is_readonly: bool = False
    boot_index: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Nic:
    """A virtio network card on a tap interface that joins bridge."""

    id: str
    port: int
    interface: str
    bridge: str
    hwaddr: str
    mtu: int | None = None
    has_vhost: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Share:
    """A host directory offered through virtiofsd; the guest mounts it by its tag at path."""

    id: str
    port: int
    tag: str
    source: str
    path: str
    virtiofsd: str
    is_readonly: bool = False


Device = Union[Disk, Nic, Share]


@dataclass(frozen=True, eq=False, repr=False)
class VmSpec:
    """Everything a command line is rendered from.

    machine is a versioned type such as pc-q35-7.2, cgroup a path in each hierarchy. max_cpus and
    max_memory_bytes leave room for processors and memory added to the running machine. pinned_cpus are
    the host's.
    """

    name: str
    uuid: str
    program: str
    machine: str
    accelerator: str
    memory_bytes: int
    cpus: int
    boot: DirectBoot | FirmwareBoot
    uid: int
    run_directory: str
    cgroup: str
    devices: tuple[Device, ...] = ()
    pinned_cpus: tuple[int, ...] = ()
    max_cpus: int | None = None
    max_memory_bytes: int | None = None

    @property
    def slots(self) -> int:
        """Slots of eight root ports, with one spare port for a disk and one for a NIC to be added while it runs."""
        nics = sum(isinstance(device, Nic) for device in self.devices)
        return max(len(self.devices) - nics, nics) // KIND_PORTS + 1


def render_spec(definition: InstanceDefinition, host: VmHost, boot: DirectBoot | FirmwareBoot, seed: str) -> VmSpec:
    """The machine of a definition; seed is the path of its cloud-init image, empty for none."""
    record = definition.record
    cpus = record.get("limits.cpu")
    return VmSpec(
        name=record.name,
        uuid=record.uuid,
        program=host.program,
        machine=record.volatile["qemu.machine"],
        accelerator=host.accelerator,
        memory_bytes=round_memory(definition.memory_bytes or DEFAULT_MEMORY_BYTES),
        cpus=cpus.count if cpus else DEFAULT_CPUS,
        pinned_cpus=cpus.pinned if cpus else (),
        boot=boot,
        uid=int(record.volatile["qemu.uid"]),
        run_directory=definition.run_directory,
        cgroup=definition.cgroup,
        devices=_devices(definition, host, seed),
    )


def round_memory(size_bytes: int) -> int:
    """Whole MiB, rounded up: firmware and guests expect no odd pages at the end."""
    return -(-size_bytes // _MIB) * _MIB


def device_id(kind: str, name: str) -> str:
    """QEMU's id of a device, readable where the name allows it: disk-data, nic-eth0."""
    if _PLAIN_NAME.fullmatch(name):
        return f"{kind}-{name}"
    # Seldom needed, and slow to import.
    import hashlib

    return f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def share_tag(device: str) -> str:
    """What the guest mounts: mount -t virtiofs TAG PATH. virtio-fs allows 36 bytes."""
    return device_id("tandem", device)


def disk_port(index: int) -> int:
    """The root port of a disk or share: the first four of each slot of eight."""
    return index // KIND_PORTS * PORTS_PER_SLOT + index % KIND_PORTS


def nic_port(index: int) -> int:
    """The root port of a NIC: the last four of each slot of eight, from its end.

    A guest names its interfaces after their ports, so a disk that comes or goes must not move them.
    """
    return index // KIND_PORTS * PORTS_PER_SLOT + PORTS_PER_SLOT - 1 - index % KIND_PORTS


def _devices(definition: InstanceDefinition, host: VmHost, seed: str) -> tuple[Device, ...]:
    backing = (Layer(definition.backing, "qcow2"),) if definition.backing else ()
    layers = (Layer(definition.root, "qcow2"), *backing)
    # A kernel that is booted directly takes the boot index 0.
    disks = [Disk(ROOT_DISK, disk_port(0), layers, "tandem_root", boot_index=1)]
    if seed:
        disks.append(Disk(SEED_DISK, disk_port(1), (Layer(seed, "raw"),), "tandem_seed", is_readonly=True))
    virtiofsd = require_virtiofsd(definition, host) if definition.disks else ""
    shares = [_share(disk, disk_port(len(disks) + index), virtiofsd) for index, disk in enumerate(definition.disks)]
    nics = [_nic(nic, nic_port(index), host) for index, nic in enumerate(definition.nics)]
    return (*disks, *shares, *nics)


def require_virtiofsd(definition: InstanceDefinition, host: VmHost) -> str:
    """The server of host directories; MissingDependency without it."""
    if host.virtiofsd is None:
        raise MissingDependency(
            f"instance {definition.name}: device {definition.disks[0].device}: virtiofsd is not installed on this host:"
            " install package virtiofsd (Debian 12: qemu-system-common; role tandem.machines.host does)"
        )
    return host.virtiofsd


def _share(disk: DiskDefinition, port: int, virtiofsd: str) -> Share:
    identifier = device_id("share", disk.device)
    return Share(identifier, port, share_tag(disk.device), disk.source, disk.path, virtiofsd, disk.is_readonly)


def _nic(nic: NicDefinition, port: int, host: VmHost) -> Nic:
    return Nic(
        id=device_id("nic", nic.device),
        port=port,
        interface=nic.host_name,
        bridge=nic.bridge,
        hwaddr=nic.hwaddr,
        mtu=nic.mtu,
        has_vhost=host.has_vhost_net,
    )
