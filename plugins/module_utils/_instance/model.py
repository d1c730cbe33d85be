# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Instances as values: what is wanted, what is recorded, what is. Pure: no I/O.

Every run that looks at an instance makes these classes anew: those that nobody compares or prints go without the
methods for it, which halves what they cost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from .._core.errors import InvalidRequest
from .._core.kinds import InstanceType, Power, State, Work
from .._core.names import require_device, require_name
from .._core.options import Config, OptionTable
from .._spec.devices import DEVICES
from .._spec.instance import INSTANCE

SCHEMA = 1
LAST_POWER = "last_state.power"
EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Device:
    """One device: its type and its options in normal form."""

    type: str
    options: Config = field(default_factory=dict)

    @property
    def table(self) -> OptionTable:
        return DEVICES[self.type]

    def get(self, key: str) -> Any:
        return self.table.get(self.options, key)

    @property
    def is_root(self) -> bool:
        return self.type == "disk" and self.options.get("path") == "/"

    def render(self) -> dict[str, str]:
        return {"type": self.type, **self.table.render(self.options)}


Devices = Mapping[str, Device]


@dataclass(frozen=True, eq=False, repr=False)
class Profile:
    """A named set of config and devices that instances list."""

    name: str
    config: Config = field(default_factory=dict)
    devices: Devices = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Desired:
    """What a task asks for; None means unmanaged. Removed keys and devices have the value None.

    config holds normal forms; devices hold raw option mappings, since a device's type may come from
    the object it changes.
    """

    name: str
    state: State = State.STARTED
    type: InstanceType | None = None
    image: str | None = None
    profiles: tuple[str, ...] | None = None
    description: str | None = None
    config: Config = field(default_factory=dict)
    replace_config: bool = False
    devices: Mapping[str, Any] = field(default_factory=dict)
    replace_devices: bool = False
    recreate: str = "never"
    when_restart_needed: str = "report"
    stop_timeout_seconds: float = 30
    force_stop: bool = False


@dataclass(frozen=True)
class Record:
    """The definition on disk. config and devices are the instance's own, expanded_* those with profiles laid under.

    volatile holds what was chosen once and kept: MAC addresses (hwaddr.DEVICE), the id map's base
    (idmap.base), QEMU's user (qemu.uid) and machine type
    (qemu.machine), and the power last asked for (last_state.power).
    """

    name: str
    uuid: str
    type: InstanceType
    image: str
    image_name: str
    pool: str
    profiles: tuple[str, ...] = ()
    description: str = ""
    config: Config = field(default_factory=dict)
    devices: Devices = field(default_factory=dict)
    expanded_config: Config = field(default_factory=dict)
    expanded_devices: Devices = field(default_factory=dict)
    volatile: Mapping[str, str] = field(default_factory=dict)
    created_at: str = ""
    work: Work | None = None

    @property
    def is_container(self) -> bool:
        return self.type is InstanceType.CONTAINER

    @property
    def root(self) -> Device:
        """The root disk; an empty one while a profile that may bring it does not exist yet (check mode)."""
        roots = (device for device in self.expanded_devices.values() if device.is_root)
        return next(roots, Device("disk"))

    def get(self, key: str) -> Any:
        """The value in force of a config option, its default when unset."""
        return INSTANCE.get(self.expanded_config, key)

    @property
    def starts_at_boot(self) -> bool:
        """boot.autostart; when unset, an instance that was meant to run when the host went down runs again."""
        was_up = self.volatile.get(LAST_POWER, Power.STOPPED.value) != Power.STOPPED.value
        return bool(self.expanded_config.get("boot.autostart", was_up))

    @property
    def is_whole(self) -> bool:
        """Whether there is an instance to speak of: not one that is being made or removed."""
        return self.work not in (Work.CREATE, Work.RECREATE, Work.DELETE)

    def with_work(self, work: Work | None) -> Record:
        return replace(self, work=work)

    def pools(self) -> list[str]:
        """Storage pools with volumes of the instance, the root disk's first."""
        named = (device.options.get("pool") for device in self.expanded_devices.values() if device.type == "disk")
        return [self.pool, *sorted({name for name in named if name is not None} - {self.pool})]

    def nics(self) -> list[tuple[str, Device]]:
        """NIC devices sorted by name: the order of the guest's interfaces."""
        return [(name, device) for name, device in sorted(self.expanded_devices.items()) if device.type == "nic"]


@dataclass(frozen=True, eq=False, repr=False)
class NicDefinition:
    """One network interface: bridge and host_name on the host, guest_name (containers only) in the guest."""

    device: str
    bridge: str
    host_name: str
    hwaddr: str
    guest_name: str
    mtu: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class DiskDefinition:
    """One disk beside the root: source is a directory of the host, path where the guest sees it."""

    device: str
    source: str
    path: str
    is_readonly: bool = False
    is_shifted: bool = False


def fstab_field(text: str) -> str:
    """text as fstab(5) writes it, blanks and backslashes in octal; it has no control characters."""
    return text.replace("\\", "\\134").replace(" ", "\\040").replace("#", "\\043")


@dataclass(frozen=True, eq=False, repr=False)
class Boot:
    """What a virtual machine boots: kernel files of its image, or firmware when kernel is None."""

    kernel: str | None = None
    initrd: str | None = None
    command_line: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class InstanceDefinition:
    """Everything a driver renders from. root is the root file system's directory or the VM's disk file.

    backing is the image's disk below a VM's own; directory and run_directory are absolute.
    """

    record: Record
    directory: str
    run_directory: str
    root: str
    backing: str = ""
    boot: Boot = field(default_factory=Boot)
    nics: tuple[NicDefinition, ...] = ()
    disks: tuple[DiskDefinition, ...] = ()
    memory_bytes: int | None = None

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def cgroup(self) -> str:
        """The instance's own control group, relative to each hierarchy; nobody else has its uuid."""
        return f"tandem.{self.record.name}.{self.record.uuid[:8]}"


@dataclass(frozen=True, eq=False, repr=False)
class Address:
    """One address of a guest's interface; scope is global or link."""

    interface: str
    family: str
    address: str
    prefix: int
    scope: str
    hwaddr: str = ""


@dataclass(frozen=True, eq=False, repr=False)
class Usage:
    """What an instance uses now; None where it is not known."""

    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    processes: int | None = None
    cpu_seconds: float | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Current:
    """What the host shows.

    in_force holds the LIVE config options read back from the kernel or QEMU, in normal form.
    started_with is the rendered expanded definition the running guest was started with.
    """

    record: Record | None = None
    power: Power = Power.STOPPED
    pid: int | None = None
    in_force: Config = field(default_factory=dict)
    started_with: Mapping[str, Any] | None = None
    is_defined: bool = True
    has_volume: bool = True
    root_size_bytes: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class Surroundings:
    """The rest of the host as far as a plan needs it.

    fingerprint is that of the wanted image, has_image whether there will be one at the instance's turn, image_types
    what it can be used for; is_image_ready says that nothing needs to be unpacked or made from it first.
    mounts_disks: a virtual machine of that image mounts its disks by itself.
    """

    profiles: Mapping[str, Profile] = field(default_factory=dict)
    fingerprint: str | None = None
    has_image: bool = False
    is_image_ready: bool = False
    image_types: frozenset[InstanceType] = frozenset(InstanceType)
    mounts_disks: bool = True
    pools: frozenset[str] = frozenset()
    bridges: frozenset[str] = frozenset()


def parse_devices(
    given: object, base: Devices, where: str, kind: InstanceType | None, inherited: Devices = EMPTY
) -> dict[str, Device]:
    """base with the given devices laid over it; a null device is removed, a null option too.

    A device that only inherited (from profiles) is overridden by its copy, so that size alone can be
    given. Raises InvalidRequest.
    """
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"{where}: devices must be a mapping of device name to options")
    devices = dict(base)
    for name, options in given.items():
        _require_device_name(name, where)
        if options is None:
            devices.pop(name, None)
        else:
            devices[name] = _parse_device(name, options, devices.get(name) or inherited.get(name), where, kind)
    return devices


def require_devices(given: Mapping[str, Any], where: str, kind: InstanceType | None) -> None:
    """InvalidRequest for devices that nothing could have. A device without a type changes one that is there already:
    what it may say is only known beside that."""
    for name, options in given.items():
        _require_device_name(name, where)
        if options is not None and not (isinstance(options, Mapping) and "type" not in options):
            type_name, rest = _split(name, options, None, where)
            DEVICES[type_name].parse(rest, f"{where}: device {name}", kind)


def _split(name: str, given: object, base: Device | None, where: str) -> tuple[str, dict[str, Any]]:
    """Type and other options of a device as given; the type is by default that of base."""
    if not isinstance(given, Mapping):
        raise InvalidRequest(f"{where}: device {name} must be a mapping of options")
    options = dict(given)
    type_name = options.pop("type", base.type if base else None)
    if not isinstance(type_name, str) or type_name not in DEVICES:
        known = ", ".join(sorted(DEVICES))
        raise InvalidRequest(f"{where}: device {name}: type {type_name!r} is not known; use one of {known}")
    return type_name, options


def _require_device_name(name: object, where: str) -> None:
    try:
        require_device(name)
    except InvalidRequest as error:
        raise InvalidRequest(f"{where}: {error}") from None


def _parse_device(name: str, given: object, base: Device | None, where: str, kind: InstanceType | None) -> Device:
    type_name, options = _split(name, given, base, where)
    table = DEVICES[type_name]
    merged = dict(base.options) if base is not None and base.type == type_name else {}
    for key, value in table.parse(options, f"{where}: device {name}", kind).items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    _check_device(name, type_name, merged, where)
    return Device(type_name, merged)


def _check_device(name: str, type_name: str, options: Config, where: str) -> None:
    for option in DEVICES[type_name]:
        if option.required and option.key not in options:
            raise InvalidRequest(f"{where}: device {name}: {option.key} is missing")
    if type_name == "nic":
        _check_nic(name, options, where)
    elif type_name == "disk":
        _check_disk(name, options, where)


def _check_nic(name: str, options: Config, where: str) -> None:
    if ("network" in options) == ("parent" in options):
        raise InvalidRequest(f"{where}: device {name}: give either network, or parent with nictype bridged")
    if "parent" in options and "nictype" not in options:
        raise InvalidRequest(f"{where}: device {name}: parent needs nictype: bridged")


def _check_disk(name: str, options: Config, where: str) -> None:
    if options["path"] == "/":
        if "pool" not in options:
            raise InvalidRequest(f"{where}: device {name}: the root disk needs a pool")
        if "source" in options:
            raise InvalidRequest(f"{where}: device {name}: the root disk has no source; it comes from the image")
        return
    source = options.get("source")
    if source is None:
        raise InvalidRequest(f"{where}: device {name}: source is missing: a host directory, or with pool a volume")
    if ("pool" not in options) != source.startswith("/"):
        raise InvalidRequest(
            f"{where}: device {name}: source {source!r} must be an absolute path, or with pool the name of a volume"
        )
    if "pool" in options:
        require_name(f"{where}: device {name}: storage volume", source)
    if "size" in options:
        raise InvalidRequest(f"{where}: device {name}: size is for the root disk; other disks have their own size")


def expand(
    profiles: Iterable[str], known: Mapping[str, Profile], config: Config, devices: Devices
) -> tuple[dict[str, Any], dict[str, Device]]:
    """Config and devices with the known profiles laid under, in order; devices of type none vanish."""
    expanded_config: dict[str, Any] = {}
    expanded_devices: dict[str, Device] = {}
    for name in profiles:
        if name not in known:
            continue
        expanded_config.update(known[name].config)
        expanded_devices.update(known[name].devices)
    expanded_config.update(config)
    expanded_devices.update(devices)
    return expanded_config, {name: device for name, device in expanded_devices.items() if device.type != "none"}


def require_root(devices: Devices, where: str) -> Device:
    """The one root disk; InvalidRequest without or with several."""
    roots = sorted(name for name, device in devices.items() if device.is_root)
    if not roots:
        raise InvalidRequest(
            f"{where}: no root disk: give a profile that has one, "
            "or devices: {root: {type: disk, path: /, pool: default}}"
        )
    if len(roots) > 1:
        raise InvalidRequest(f"{where}: more than one root disk: devices {' and '.join(roots)} both have path /")
    return devices[roots[0]]
