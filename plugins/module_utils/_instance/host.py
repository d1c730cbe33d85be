# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The host as instance steps see it: records, volumes, native files and guests, behind idempotent verbs.

Ansible ships source, which is compiled at each run: what only some runs need (images, pools, the driver of
the other type) is imported where it is used.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from .._core.errors import Conflict, TimedOut
from .._core.kinds import InstanceType, Work
from .._host.files import sync_directory
from .._host.locks import Lock, hold
from .._host.paths import Paths
from .._host.supervisor import open_supervisor
from .._image.disk_files import find_disk_files
from .driver import InstanceDriver
from .model import (
    Address,
    Boot,
    Device,
    DiskDefinition,
    InstanceDefinition,
    NicDefinition,
    Profile,
    Record,
    Surroundings,
)
from .record import render_devices
from .store import read_record, used_numbers, write_record

if TYPE_CHECKING:
    from .._image.store import ImageStore
    from .._storage.pool import Pool
    from .._storage.record import Usage as VolumeUsage
    from .lxc.driver import LxcDriver
    from .qemu.driver import QemuDriver

_PAGE_BYTES = 4096
_ALLOCATION_SECONDS = 60
_UNPACKING_SECONDS = 1800


class Host:
    """InstanceHost on this machine. Verbs take names and read the record, so that a plan carries no copies."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.supervisor = open_supervisor(paths)
        self._mounted: dict[str, Pool] = {}

    @property
    def images(self) -> ImageStore:
        from .._image.store import open_store

        return open_store(self.paths)

    def load(self, kind: InstanceType) -> tuple[ModuleType, ...]:
        """The modules that making, changing and removing an instance of that type needs, which verbs import late."""
        from .._image import store
        from .._network import hosts, leases
        from .._storage import pool, registry
        from . import steps

        driver = self._containers if kind is InstanceType.CONTAINER else self._machines
        return store, hosts, leases, pool, registry, steps, import_module(type(driver).__module__)

    def driver(self, record: Record) -> InstanceDriver:
        return self._containers if record.is_container else self._machines

    @property
    def _containers(self) -> LxcDriver:
        from .lxc.driver import LxcDriver

        return LxcDriver(self.paths, self.supervisor)

    @property
    def _machines(self) -> QemuDriver:
        from .qemu.driver import QemuDriver

        return QemuDriver(self.paths, self.supervisor)

    def pool(self, name: str) -> Pool:
        from .._storage.pool import open_pool

        return open_pool(self.paths, name)

    def require(self, name: str) -> Record:
        record = read_record(self.paths, name)
        if record is None:
            raise Conflict(f"instance {name} does not exist (any more)")
        return record

    def definition(self, record: Record) -> InstanceDefinition:
        """Everything a driver renders from, resolved on this host."""
        directory = self.paths.instance(record.name)
        backing, boot = "", Boot()
        if record.is_container:
            root = self.paths.pool(record.pool) / "volumes" / "containers" / record.name / "rootfs"
        else:
            root = self.paths.pool(record.pool) / "volumes" / "virtual-machines" / record.name / "root.qcow2"
            backing, boot = self._boot(record)
        return InstanceDefinition(
            record=record,
            directory=str(directory),
            run_directory=str(self.paths.instance_run(record.name)),
            root=str(root),
            backing=backing,
            boot=boot,
            nics=tuple(
                nic_definition(record, name, guest_name, device)
                for (name, device), guest_name in zip(record.nics(), guest_interface_names(record))
            ),
            disks=tuple(
                self._disk(record, name, device)
                for name, device in sorted(record.expanded_devices.items())
                if device.type == "disk" and not device.is_root
            ),
            memory_bytes=_memory_bytes(record.get("limits.memory")),
        )

    def _boot(self, record: Record) -> tuple[str, Boot]:
        """The image's disk and what to boot; empty while that is not made, as in an interrupted creation."""
        files = find_disk_files(self.paths, record.image)
        if files is None:
            return "", Boot()
        kernel, initrd = (None if path is None else str(path) for path in (files.kernel, files.initrd))
        # The image has no name of its own: a directly booted guest is told the instance's.
        command_line = f"{files.command_line} systemd.hostname={record.name}" if kernel else ""
        return str(files.disk), Boot(kernel, initrd, command_line)

    def allocate(self, record: Record) -> None:
        """Choose what is kept for life and write the record, with nobody else choosing meanwhile.

        What the creation stands on is required first: without it, nothing is written at all.
        """
        self.require_creatable(record)
        fingerprint = self.images.require(record.image_name).fingerprint
        with hold(self.paths, [Lock("allocation")], _ALLOCATION_SECONDS):
            write_record(self.paths, replace(_choose_identity(self.paths, record), image=fingerprint))

    def write_record(self, record: Record) -> None:
        """Devices that are new or changed are required first: a record must not promise what cannot be."""
        present = read_record(self.paths, record.name)
        if present is None or render_devices(present.expanded_devices) != render_devices(record.expanded_devices):
            self._require_disks(self.definition(record))
        write_record(self.paths, record)

    def require_creatable(self, record: Record) -> None:
        """What a creation stands on beyond what its plan has seen, for a VM also QEMU. Changes nothing."""
        self.images.require(record.image_name)
        self.pool(record.pool)
        self._require_disks(self.definition(record))
        if not record.is_container:
            from .qemu.program import ask_program

            ask_program()

    def mark(self, name: str, work: Work | None) -> None:
        record = self.require(name)
        if record.work is not work:
            write_record(self.paths, record.with_work(work))

    def create_volume(self, name: str) -> None:
        record = self.require(name)
        pool = self.pool(record.pool)
        if record.is_container:
            self._ensure_image_volume(pool, record.image)
            self._clone_root(record)
            return
        self.images.ensure_disk(record.image)
        pool.create_vm(name)
        with pool.reporting_full():
            self._machines.create_disk(self.definition(record), record.root.options.get("size"))

    def _clone_root(self, record: Record) -> None:
        owner = 0 if record.get("security.privileged") else int(record.volatile["idmap.base"])
        size_bytes = record.root.options.get("size")
        self.pool(record.pool).create_container(record.name, record.image, owner, size_bytes)

    def grow_root(self, name: str) -> None:
        record = self.require(name)
        size_bytes = record.root.options.get("size")
        if record.is_container:
            self.pool(record.pool).resize_container(name, size_bytes)
        elif size_bytes is not None:
            self._machines.grow_disk(self.definition(record), size_bytes)

    def define(self, name: str) -> None:
        record = self.require(name)
        self.pool(record.pool)  # mounted before anything is written below it
        definition = self.definition(record)
        driver = self.driver(record)
        driver.define(definition)
        self.supervisor.install(driver.unit(definition))
        self._reserve_addresses(definition)

    def set_live(self, name: str, keys: tuple[str, ...]) -> None:
        record = self.require(name)
        self.driver(record).set_live(self.definition(record), keys)

    def start(self, name: str) -> None:
        record = self.require(name)
        self.pool(record.pool)
        self._require_bridges(record)
        definition = self.definition(record)
        self._require_disks(definition)
        if record.is_container:
            self._clone_root(record)  # it exists; its owner follows security.privileged
        else:
            self.grow_root(name)
        self.driver(record).start(definition)

    def stop(self, name: str, timeout_seconds: float, force: bool) -> None:
        record = self.require(name)
        driver = self.driver(record)
        try:
            driver.stop(self.definition(record), timeout_seconds)
        except TimedOut as error:
            if not force:
                raise TimedOut(
                    f"{record.type.value} {name} to shut down (raise stop_timeout, or set force_stop: true)",
                    timeout_seconds,
                    str(error).rpartition("last seen: ")[2],
                ) from None
            driver.kill(self.definition(record))

    def kill(self, name: str) -> None:
        record = self.require(name)
        self.driver(record).kill(self.definition(record))

    def freeze(self, name: str) -> None:
        record = self.require(name)
        self.driver(record).freeze(self.definition(record))

    def thaw(self, name: str) -> None:
        record = self.require(name)
        self.driver(record).thaw(self.definition(record))

    def remove(self, name: str) -> None:
        """Delete everything derived from the record, the record last."""
        self._take_apart(name, Work.DELETE)
        directory = self.paths.instance(name)
        (directory / "instance.json").unlink()
        directory.rmdir()
        sync_directory(self.paths.instances)

    def clear(self, name: str) -> None:
        """Delete everything derived from the record, which stays: the instance is to be made anew from it."""
        self._take_apart(name, Work.RECREATE)

    def _take_apart(self, name: str, work: Work) -> None:
        record = self.require(name)
        if record.work is not work:
            write_record(self.paths, record.with_work(work))
        definition = self.definition(record)
        driver = self.driver(record)
        driver.kill(definition)
        driver.clean(definition)
        self.supervisor.remove(driver.unit(definition))
        self._release_addresses(definition)
        self._remove_volume(record)
        directory = self.paths.instance(name)
        for path in directory.iterdir():
            if path.name != "instance.json":
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def observe_surroundings(
        self, profiles: Mapping[str, Profile], image_name: str | None, bridges: frozenset[str]
    ) -> Surroundings:
        """What a creation depends on."""
        image = self.images.find(image_name) if image_name is not None else None
        types = frozenset(InstanceType)
        if image is not None:
            can = {InstanceType.CONTAINER: image.has_root, InstanceType.VIRTUAL_MACHINE: image.can_boot}
            types = frozenset(kind for kind in InstanceType if can[kind])
        return Surroundings(
            profiles=profiles,
            fingerprint=image.fingerprint if image is not None else None,
            has_image=image is not None,
            is_image_ready=False,
            image_types=types,
            mounts_disks=image is None or image.mounts_disks,
            pools=frozenset(path.parent.name for path in self.paths.pools.glob("*/pool.json")),
            bridges=bridges,
        )

    def known_addresses(self, record: Record) -> tuple[Address, ...]:
        """Addresses that can be had without asking the guest: a container's own, a VM's leases."""
        definition = self.definition(record)
        if record.is_container:
            return self.driver(record).addresses(definition)
        from .._network.leases import find_lease

        found = []
        for nic in definition.nics:
            address = find_lease(self.paths, nic.bridge, nic.hwaddr)
            if address is not None:
                found.append(Address(nic.device, "inet", address, 32, "global", nic.hwaddr))
        return tuple(found)

    def has_volume(self, record: Record) -> bool:
        """Whether the root disk is there; a pool that is not mounted yet cannot tell and counts as having it."""
        pool = self._find_pool(record.pool)
        if pool is None:
            return (self.paths.pool(record.pool) / "pool.json").exists()
        if record.is_container:
            return pool.has_container(record.name)
        return pool.has_vm(record.name) and (pool.vm_directory(record.name) / "root.qcow2").exists()

    def _find_pool(self, name: str) -> Pool | None:
        """A mounted pool; looked for once, as it stays mounted as long as somebody looks at what is in it."""
        from .._storage.pool import find_pool

        pool = self._mounted.get(name) or find_pool(self.paths, name)
        if pool is not None:
            self._mounted[name] = pool
        return pool

    def disk_usage(self, record: Record) -> VolumeUsage:
        from .._storage.record import Usage

        pool = self._find_pool(record.pool)
        if pool is None or not self.has_volume(record):
            return Usage(None)
        return pool.container_usage(record.name) if record.is_container else pool.vm_usage(record.name)

    def _remove_volume(self, record: Record) -> None:
        # Without its pool there is nothing to remove the volume from.
        if not (self.paths.pool(record.pool) / "pool.json").exists():
            return
        pool = self.pool(record.pool)
        if record.is_container:
            pool.remove_container(record.name)
        else:
            pool.remove_vm(record.name)

    def _ensure_image_volume(self, pool: Pool, fingerprint: str) -> None:
        if pool.has_image(fingerprint):
            return
        with hold(self.paths, [Lock("unpacking", fingerprint)], _UNPACKING_SECONDS):
            if pool.has_image(fingerprint):
                return
            directory = pool.begin_image(fingerprint)
            self.images.unpack_root(fingerprint, directory / "rootfs")
            pool.finish_image(fingerprint)

    def _require_bridges(self, record: Record) -> None:
        for name, nic in record.nics():
            bridge = nic.options.get("network") or nic.options.get("parent")
            if not Path(f"/sys/class/net/{bridge}/bridge").is_dir():
                raise Conflict(
                    f"instance {record.name}: device {name}: network {bridge} does not exist or is down: "
                    "create it with tandem.machines.network"
                )

    def _reserve_addresses(self, definition: InstanceDefinition) -> None:
        """Tell the networks' DHCP and DNS the instance's interfaces, and forget those it has no more."""
        from .._network.hosts import remove_host_entry, write_host_entry

        kept = {(nic.bridge, nic.device) for nic in definition.nics}
        for path in self.paths.networks.glob(f"*/hosts/{definition.name}.*"):
            network, device = path.parts[-3], path.name.partition(".")[2]
            if (network, device) not in kept:
                remove_host_entry(self.paths, network, definition.name, device)
        for nic in definition.nics:
            address = definition.record.expanded_devices[nic.device].options.get("ipv4.address")
            write_host_entry(self.paths, nic.bridge, definition.name, nic.device, nic.hwaddr, address)

    def _release_addresses(self, definition: InstanceDefinition) -> None:
        from .._network.hosts import remove_host_entry
        from .._network.leases import release_lease

        for nic in definition.nics:
            remove_host_entry(self.paths, nic.bridge, definition.name, nic.device)
            release_lease(self.paths, nic.bridge, nic.hwaddr)

    def _disk(self, record: Record, name: str, device: Device) -> DiskDefinition:
        pool_name = device.options.get("pool")
        source = device.options["source"]
        if pool_name is not None:
            source = str(self.paths.pool(pool_name) / "volumes" / "custom" / source)
        return DiskDefinition(
            device=name,
            source=source,
            path=device.options["path"],
            is_readonly=device.get("readonly"),
            is_shifted=pool_name is not None or device.get("shift"),
        )

    def _require_disks(self, definition: InstanceDefinition) -> None:
        """Pools are mounted first: a volume's directory is there only then."""
        for pool in definition.record.pools()[1:]:
            self.pool(pool)
        if definition.disks and not definition.record.is_container:
            self._machines.require_disks(definition)
        missing = missing_directories(definition.name, definition.disks)
        if missing:
            raise Conflict(missing[0])

    def missing_sources(self, record: Record) -> tuple[str, ...]:
        """Directories of the host that disks name and that are not there, in words. Volumes are left out: their pool
        may not be mounted yet."""
        disks = [
            self._disk(record, name, device)
            for name, device in sorted(record.expanded_devices.items())
            if device.type == "disk" and not device.is_root and "pool" not in device.options
        ]
        return missing_directories(record.name, disks)


def missing_directories(name: str, disks: Iterable[DiskDefinition]) -> tuple[str, ...]:
    return tuple(
        f"instance {name}: device {disk.device}: {disk.source} is not a directory of this host"
        for disk in disks
        if not os.path.isdir(disk.source)
    )


def find_bridges(names: Iterable[str]) -> frozenset[str]:
    """Those of names that are bridges of this network namespace. A host with many guests has many interfaces: only
    those that matter are looked at."""
    return frozenset(name for name in names if os.path.exists(f"/sys/class/net/{name}/bridge"))


def derived_id(record: Record, device: str) -> str:
    """Hexadecimal digits that only this device of this instance has."""
    return hashlib.sha256(f"{record.uuid}/{device}".encode()).hexdigest()


def guest_interface_names(record: Record) -> list[str]:
    """Names in the guest, in the order of the devices: the given ones, the others the first free ethN."""
    given = [device.options.get("name") for _name, device in record.nics()]
    free = (f"eth{number}" for number in range(len(given) * 2) if f"eth{number}" not in given)
    return [name or next(free) for name in given]


def nic_definition(record: Record, name: str, guest_name: str, device: Device) -> NicDefinition:
    """An interface with everything derived: host name tv + 10 digits (15 bytes at most), MAC in LXD's 00:16:3e."""
    digits = derived_id(record, name)
    return NicDefinition(
        device=name,
        bridge=device.options.get("network") or device.options["parent"],
        host_name=f"tv{digits[:10]}",
        hwaddr=device.options.get("hwaddr") or f"00:16:3e:{digits[10:12]}:{digits[12:14]}:{digits[14:16]}",
        guest_name=guest_name,
        mtu=device.options.get("mtu"),
    )


def _choose_identity(paths: Paths, record: Record) -> Record:
    """record with a uuid, its creation time and the ids its type needs."""
    import uuid

    from .._host.ids import next_container_base, next_machine_id

    chosen = replace(record, uuid=str(uuid.uuid4()), created_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    if record.is_container:
        volatile = {"idmap.base": str(next_container_base(used_numbers(paths, "idmap.base", record.name)))}
    else:
        from .qemu.program import ask_program

        number = next_machine_id(used_numbers(paths, "qemu.uid", record.name))
        volatile = {"qemu.uid": str(number), "qemu.machine": ask_program()[1]}
    return replace(chosen, volatile={**record.volatile, **volatile})


def _memory_bytes(limit: int | str | None) -> int | None:
    """A memory limit in whole pages; a percentage is of the host's memory."""
    if limit is None:
        return None
    if isinstance(limit, str):
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        limit = total * int(limit.rstrip("%")) // 100
    return limit // _PAGE_BYTES * _PAGE_BYTES
