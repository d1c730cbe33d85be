# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""QEMU's command line and the descriptors it is started with. Pure: no I/O.

QEMU opens nothing itself: every file, tap interface and socket is a resource that the launch program
opens as root and hands over under the descriptor number that the command line names. Whatever takes
JSON is given JSON (QEMU 7.2 and later); the rest holds only numbers, our own constants and checked names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ..._core.errors import InvalidRequest
from ..model import fstab_field
from .spec import PORTS_PER_SLOT, Device, DirectBoot, Disk, Nic, Share, VmSpec

Resource = Mapping[str, Any]

FIRST_DESCRIPTOR = 10
CONSOLE_LOG_BYTES = 1024**2
AGENT_CHANNEL = "org.qemu.guest_agent.0"
STREAM_CHANNEL = "tandem.stream"
# Read by mount-disks in the guest, which runs if the word is there (_image/guest.py). QEMU leaves names below opt/ to
# its users.
MOUNTS = "opt/tandem.machines/fstab"
MOUNTS_WORD = "tandem.disks"
# The guest's translated code: QEMU's default of 1 GiB per machine is too much for a host with many.
TCG_CACHE_BYTES = 256 * 1024**2
_MIB = 1024**2
_FIRST_SLOT = 0x10
_LAST_SLOT = 0x1E  # 0x1f is the chip set's own
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


class Descriptors:
    """Numbers for the resources of one command line, in the order they are asked for."""

    def __init__(self) -> None:
        self._resources: list[Resource] = []
        self._next = FIRST_DESCRIPTOR

    @property
    def resources(self) -> tuple[Resource, ...]:
        return tuple(self._resources)

    def add(self, type_name: str, **options: Any) -> int:
        """The descriptor number of a new resource; its meaning is the launch program's."""
        number = self._next
        self._next += 1
        self._resources.append({"type": type_name, "fd": number, **options})
        return number

    def add_file(self, path: str, is_readonly: bool) -> tuple[int, ...]:
        """QEMU picks from a set by access mode and may reopen read-only, so a writable file comes both ways."""
        writable = () if is_readonly else (self.add("file", path=path, write=True),)
        return (*writable, self.add("file", path=path, write=False))


def render_command(vm: VmSpec) -> tuple[tuple[str, ...], tuple[Resource, ...]]:
    """QEMU's argv, its program first, and the resources it inherits. Raises InvalidRequest."""
    descriptors = Descriptors()
    argv = (vm.program, *_arguments(vm, descriptors))
    for word in argv:
        if "\0" in word or "\n" in word:
            raise InvalidRequest(f"instance {vm.name}: {word!r} has a control character: it cannot go to QEMU")
    return argv, descriptors.resources


def _arguments(vm: VmSpec, descriptors: Descriptors) -> Iterator[str]:
    yield from _machine_args(vm)
    yield from _processor_args(vm)
    yield from _memory_args(vm)
    yield from _monitor_args(descriptors)
    yield from _console_args(descriptors)
    yield from _channel_args(descriptors)
    yield from _standard_device_args()
    yield from _port_args(vm)
    yield from _boot_args(vm, descriptors)
    for device in vm.devices:
        yield from DEVICE_ARGS[type(device)](device, descriptors)
    yield from _mount_args(vm, descriptors)


def _machine_args(vm: VmSpec) -> Iterator[str]:
    yield from ("-name", f"guest={vm.name}")
    yield from ("-uuid", vm.uuid)
    yield from ("-nodefaults", "-no-user-config")
    yield from ("-sandbox", _SANDBOX)
    # What a machine without display and disks of old has no use for is not emulated at all.
    options = "dump-guest-core=off,usb=off,vmport=off,smbus=off,sata=off,i8042=off,memory-backend=memory"
    flash = "" if isinstance(vm.boot, DirectBoot) else ",pflash0=firmware,pflash1=variables"
    yield from ("-machine", f"{vm.machine},{options}{flash}")
    yield from ("-display", "none", "-vga", "none", "-parallel", "none", "-monitor", "none", "-serial", "none")
    yield from ("-rtc", "base=utc,driftfix=slew")
    yield from ("-boot", "strict=on")
    yield from ("-action", "panic=pause,reboot=reset,shutdown=poweroff,watchdog=reset")
    yield from ("-msg", "timestamp=on")


def _processor_args(vm: VmSpec) -> Iterator[str]:
    if vm.accelerator == "kvm":
        yield from ("-accel", "kvm", "-cpu", "host,migratable=on")
    else:
        yield from ("-accel", f"tcg,thread=multi,tb-size={TCG_CACHE_BYTES // _MIB}", "-cpu", "max")
    most = max(vm.max_cpus or 0, vm.cpus)
    yield from ("-smp", f"cpus={vm.cpus},sockets=1,cores={most},threads=1,maxcpus={most}")


def _memory_args(vm: VmSpec) -> Iterator[str]:
    # Shared memory is what vhost-user devices such as virtio-fs need, and cannot be had later.
    yield from _object("memory-backend-memfd", "memory", size=vm.memory_bytes, share=True)
    room = f",slots=8,maxmem={vm.max_memory_bytes // _MIB}M" if vm.max_memory_bytes else ""
    yield from ("-m", f"size={vm.memory_bytes // _MIB}M{room}")


def _monitor_args(descriptors: Descriptors) -> Iterator[str]:
    yield from _socket("monitor", descriptors.add("listen", name="qmp.sock"))
    yield from ("-mon", "chardev=monitor,mode=control")


def _console_args(descriptors: Descriptors) -> Iterator[str]:
    log = descriptors.add("console-log", limit_bytes=CONSOLE_LOG_BYTES)
    yield from ("-add-fd", f"fd={log},set={log},opaque=console-log")
    listener = descriptors.add("listen", name="console.sock")
    yield from ("-chardev", f"{_listening('console', listener)},logfile=/dev/fdset/{log},logappend=on")
    yield from _device("isa-serial", "console", chardev="console")


def _channel_args(descriptors: Descriptors) -> Iterator[str]:
    yield from _device("virtio-serial-pci", "channels", bus="pcie.0", addr="2", max_ports=8)
    for number, (identifier, name) in enumerate((("qga", AGENT_CHANNEL), ("stream", STREAM_CHANNEL)), start=1):
        yield from _socket(identifier, descriptors.add("listen", name=f"{identifier}.sock"))
        yield from _device("virtserialport", f"channel-{identifier}", chardev=identifier, name=name, nr=number)


def _standard_device_args() -> Iterator[str]:
    yield from _object("rng-builtin", "entropy")
    yield from _device("virtio-rng-pci", "rng", bus="pcie.0", addr="3", rng="entropy")
    # The guest gives unused pages back by itself.
    balloon = {"free-page-reporting": True, "deflate-on-oom": True}
    yield from _device("virtio-balloon-pci", "balloon", bus="pcie.0", addr="4", **balloon)


def _port_args(vm: VmSpec) -> Iterator[str]:
    last = _FIRST_SLOT + vm.slots - 1
    if last > _LAST_SLOT:
        raise InvalidRequest(f"instance {vm.name}: too many devices for one virtual machine: use fewer")
    for port in range(vm.slots * PORTS_PER_SLOT):
        address = f"{_FIRST_SLOT + port // PORTS_PER_SLOT:x}.{port % PORTS_PER_SLOT}"
        # Without the reservation of I/O space, which modern virtio does not use, sixteen ports would exhaust it.
        options = {"chassis": port + 1, "port": port, "multifunction": True, "io-reserve": 0}
        yield from _device("pcie-root-port", _bus(port), bus="pcie.0", addr=address, **options)


def _boot_args(vm: VmSpec, descriptors: Descriptors) -> Iterator[str]:
    if isinstance(vm.boot, DirectBoot):
        yield from ("-kernel", f"/dev/fd/{descriptors.add('kernel', path=vm.boot.kernel)}")
        if vm.boot.initrd is not None:
            yield from ("-initrd", f"/dev/fd/{descriptors.add('kernel', path=vm.boot.initrd)}")
        yield from ("-append", f"{vm.boot.command_line} {MOUNTS_WORD}" if _shares(vm) else vm.boot.command_line)
        return
    yield from _flash("firmware", vm.boot.code, True, descriptors)
    yield from _flash("variables", vm.boot.variables, False, descriptors)


def _flash(name: str, path: str, is_readonly: bool, descriptors: Descriptors) -> Iterator[str]:
    numbers = descriptors.add_file(path, is_readonly)
    yield from _set_args(name, numbers)
    yield from ("-blockdev", _json(_node(name, "raw", numbers[0], is_readonly)))


def _disk_args(disk: Disk, descriptors: Descriptors) -> Iterator[str]:
    node: dict[str, Any] | None = None
    for depth, layer in reversed(list(enumerate(disk.layers))):
        is_readonly = disk.is_readonly or depth > 0
        name = f"{disk.id}-{depth}" if depth else disk.id
        numbers = descriptors.add_file(layer.path, is_readonly)
        yield from _set_args(name, numbers)
        below = {} if node is None else {"backing": node}
        node = {**_node(name, layer.format, numbers[0], is_readonly), **below}
    yield from ("-blockdev", _json(node))
    boot = {} if disk.boot_index is None else {"bootindex": disk.boot_index}
    yield from _device("virtio-blk-pci", disk.id, bus=_bus(disk.port), drive=disk.id, serial=disk.serial, **boot)


def _nic_args(nic: Nic, descriptors: Descriptors) -> Iterator[str]:
    tap = descriptors.add("tap", interface=nic.interface, bridge=nic.bridge, hwaddr=nic.hwaddr, mtu=nic.mtu)
    backend = {"type": "tap", "id": nic.id, "fd": str(tap), "vhost": nic.has_vhost}
    if nic.has_vhost:
        backend["vhostfd"] = str(descriptors.add("file", path="/dev/vhost-net", write=True))
    yield from ("-netdev", _json(backend))
    mtu = {} if nic.mtu is None else {"host_mtu": nic.mtu}
    # The boot ROM of a network card costs seconds, and nothing here boots from the network.
    yield from _device("virtio-net-pci", nic.id, bus=_bus(nic.port), netdev=nic.id, mac=nic.hwaddr, romfile="", **mtu)


def _share_args(share: Share, descriptors: Descriptors) -> Iterator[str]:
    client = descriptors.add(
        "share", program=share.virtiofsd, source=share.source, readonly=share.is_readonly, name=f"{share.id}.sock"
    )
    yield from ("-chardev", f"socket,id={share.id},fd={client}")
    yield from _device("vhost-user-fs-pci", share.id, bus=_bus(share.port), chardev=share.id, tag=share.tag)


def _mount_args(vm: VmSpec, descriptors: Descriptors) -> Iterator[str]:
    """Where the guest mounts its shares, as a file of the firmware configuration that looks like fstab(5)."""
    text = "".join(_mount_line(vm, share) for share in _shares(vm))
    if text:
        number = descriptors.add("text", name="fstab", text=text)
        yield from ("-fw_cfg", f"name={MOUNTS},file=/dev/fd/{number}")


def _shares(vm: VmSpec) -> list[Share]:
    """In the order they are mounted: a directory comes before those below it."""
    shares = [device for device in vm.devices if isinstance(device, Share)]
    return sorted(shares, key=lambda share: share.path.split("/"))


def _mount_line(vm: VmSpec, share: Share) -> str:
    if any(ord(character) < 32 for character in share.path):
        raise InvalidRequest(f"instance {vm.name}: path {share.path!r} has a control character: no guest can mount it")
    access = "ro" if share.is_readonly else "rw"
    return f"{share.tag} {fstab_field(share.path)} virtiofs {access},X-mount.mkdir 0 0\n"


DEVICE_ARGS: Mapping[type[Device], Callable[[Any, Descriptors], Iterator[str]]] = {
    Disk: _disk_args,
    Nic: _nic_args,
    Share: _share_args,
}


def _set_args(name: str, numbers: tuple[int, ...]) -> Iterator[str]:
    """A descriptor set named after its first member; QEMU opens it as /dev/fdset/NUMBER."""
    for number in numbers:
        yield from ("-add-fd", f"fd={number},set={numbers[0]},opaque={name}")


def _node(name: str, format_name: str, descriptor_set: int, is_readonly: bool) -> dict[str, Any]:
    protocol = {
        "driver": "file",
        "node-name": f"{name}-file",
        "filename": f"/dev/fdset/{descriptor_set}",
        "locking": "on",
        "read-only": is_readonly,
        "discard": "unmap",
    }
    return {"driver": format_name, "node-name": name, "read-only": is_readonly, "discard": "unmap", "file": protocol}


def _socket(identifier: str, descriptor: int) -> Iterator[str]:
    yield from ("-chardev", _listening(identifier, descriptor))


def _listening(identifier: str, descriptor: int) -> str:
    return f"socket,id={identifier},fd={descriptor},server=on,wait=off"


def _bus(port: int) -> str:
    return f"port{port}"


def _device(driver: str, identifier: str, **options: Any) -> Iterator[str]:
    yield from ("-device", _json({"driver": driver, "id": identifier, **options}))


def _object(type_name: str, identifier: str, **options: Any) -> Iterator[str]:
    yield from ("-object", _json({"qom-type": type_name, "id": identifier, **options}))


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
