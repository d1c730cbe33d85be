# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""From what is wanted and what is, to changes and steps. Pure: no I/O.

The phases are a fixed list: settle interrupted work, create or record, define, grow, live settings, power.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .._core.errors import Conflict, InvalidRequest
from .._core.kinds import LIVE, NONE, InstanceType, Power, State, Work
from .._core.options import merge
from .._core.plan import HIDDEN, Change, Plan, Step, compare
from .._spec.instance import INSTANCE
from .model import LAST_POWER, Current, Desired, Device, Record, Surroundings, expand, parse_devices, require_root
from .record import render_devices

if TYPE_CHECKING:
    from .steps import InstanceHost

    InstanceStep = Step[InstanceHost]

DEFAULT_PROFILE = "default"
# What a task asks for that leaves the power as it is.
STATES = {Power.RUNNING: State.STARTED, Power.STOPPED: State.STOPPED, Power.FROZEN: State.FROZEN}


def plan_instance(desired: Desired, current: Current, around: Surroundings) -> Plan[InstanceHost]:
    """The whole plan for one instance; raises InvalidRequest or Conflict for what cannot be."""
    record = current.record
    if desired.state is State.ABSENT:
        return _plan_absent(desired, current)
    if record is None or record.work in (Work.CREATE, Work.DELETE):
        return _plan_creation(desired, current, around)
    if record.work is Work.RECREATE or _must_recreate(desired, record, around):
        return _plan_recreation(desired, current, around)
    return _plan_existing(desired, current, record, around)


def where(name: str) -> str:
    """How messages name the object."""
    return f"instance {name}"


def target_power(state: State, power: Power) -> Power:
    """The power an existing instance shall have after the task."""
    return {
        State.STARTED: Power.RUNNING,
        State.RESTARTED: Power.RUNNING,
        State.STOPPED: Power.STOPPED,
        State.FROZEN: Power.FROZEN,
    }.get(state, power)


def wanted_record(desired: Desired, record: Record, around: Surroundings) -> Record:
    """The record the task asks for, made from the present one."""
    profiles = record.profiles if desired.profiles is None else desired.profiles
    config = merge(record.config, desired.config, desired.replace_config)
    place = where(desired.name)
    for key in config:
        INSTANCE.require_meaning(key, place, record.type)
    inherited: dict[str, Device] = {}
    for name in profiles:
        inherited.update(around.profiles[name].devices if name in around.profiles else {})
    base = {} if desired.replace_devices else record.devices
    devices = parse_devices(desired.devices, base, place, record.type, inherited)
    expanded_config, expanded_devices = expand(profiles, around.profiles, config, devices)
    is_complete = all(name in around.profiles for name in profiles)
    root = require_root(expanded_devices, place) if is_complete else Device("disk", {"pool": record.pool})
    return replace(
        record,
        profiles=profiles,
        config=config,
        devices=devices,
        expanded_config=_meaningful(expanded_config, record.type),
        expanded_devices=expanded_devices,
        description=record.description if desired.description is None else desired.description,
        pool=root.options["pool"],
    )


def _meaningful(config: Mapping[str, Any], kind: InstanceType) -> dict[str, Any]:
    """A profile serves both types: what has no meaning for this one is left out."""
    return {key: value for key, value in config.items() if INSTANCE.require(key, "profile").apply_for(kind) is not NONE}


def _plan_absent(desired: Desired, current: Current) -> Plan[InstanceHost]:
    record = current.record
    if record is None:
        return Plan()
    from . import steps as act  # only when there is something to do

    steps = (*_removal_stops(desired, current, record), act.Remove(record.name))
    return Plan((Change("state", current.power.value, "absent"),), steps)


def _removal_stops(desired: Desired, current: Current, record: Record) -> tuple[InstanceStep, ...]:
    """What stops an instance that is to be deleted; Conflict if it is protected from that."""
    if not record.is_whole:
        return ()
    if record.get("security.protection.delete"):
        raise Conflict(f"{where(record.name)}: security.protection.delete is set: set it to false to delete it")
    return tuple(_stop_steps(desired, current))


def _plan_creation(
    desired: Desired, current: Current, around: Surroundings, base: Record | None = None
) -> Plan[InstanceHost]:
    """base is the instance that is created anew: what the task does not manage stays as it was."""
    from . import steps as act  # only when there is something to do

    power = target_power(desired.state, Power.STOPPED)
    blank = _blank_record(desired, around, base)
    volatile = {LAST_POWER: power.value}
    work = Work.CREATE if base is None else Work.RECREATE
    record = replace(wanted_record(desired, blank, around), work=work, volatile=volatile)
    obstacles = _missing_prerequisites(record, around)
    steps: list[InstanceStep] = []
    if current.record is not None:
        steps.append(act.Remove(current.record.name, " left by an interrupted run"))
    steps += [act.Allocate(record), act.CreateVolume(record.name, record.pool), act.Define(record.name)]
    if power is Power.STOPPED:
        steps.append(act.Mark(record.name, None))
    else:
        # From here on the guest may hold data: an interrupted start is finished, never taken back.
        steps += [act.Mark(record.name, Work.POWER), act.Start(record.name)]
        steps += [act.Freeze(record.name)] if power is Power.FROZEN else []
        steps.append(act.Mark(record.name, None))
    changes = (
        Change("state", "absent", power.value),
        Change("type", None, record.type.value),
        Change("image", None, record.image_name),
        *_definition_changes(None, record),
    )
    return Plan(changes, tuple(steps), warnings=tuple(_mount_warnings(record, around)), obstacles=obstacles)


def _blank_record(desired: Desired, around: Surroundings, base: Record | None) -> Record:
    if desired.image is None:
        raise InvalidRequest(f"{where(desired.name)} does not exist yet: give image to create it")
    kind = desired.type or InstanceType.CONTAINER
    if kind not in around.image_types:
        raise InvalidRequest(f"{where(desired.name)}: image {desired.image} cannot be used for a {kind.value}")
    blank = Record(
        name=desired.name,
        uuid="",
        type=kind,
        image=around.fingerprint or "",
        image_name=desired.image,
        pool="",
        profiles=(DEFAULT_PROFILE,),
    )
    if base is None:
        return blank
    config = _meaningful(base.config, kind)
    return replace(blank, profiles=base.profiles, config=config, devices=base.devices, description=base.description)


def _missing_prerequisites(record: Record, around: Surroundings) -> tuple[str, ...]:
    """What does not exist yet; an earlier task of the same play may make it, so only check mode goes on."""
    missing = []
    if not around.has_image:
        missing.append(f"image {record.image_name} does not exist: create it with tandem.machines.image")
    if record.pool and record.pool not in around.pools:
        missing.append(f"storage pool {record.pool} does not exist: create it with tandem.machines.storage_pool")
    texts = (f"{where(record.name)}: {text}" for text in missing)
    return (*_missing_profiles(record, around), *texts, *_missing_networks(record, around))


def _missing_profiles(record: Record, around: Surroundings) -> Iterator[str]:
    for name in record.profiles:
        if name not in around.profiles:
            yield f"{where(record.name)}: profile {name} does not exist: create it with tandem.machines.profile"


def _missing_networks(record: Record, around: Surroundings) -> Iterator[str]:
    for name, nic in record.nics():
        bridge = nic.options.get("network") or nic.options.get("parent")
        if bridge not in around.bridges:
            what = f"device {name}: network {bridge} does not exist"
            yield f"{where(record.name)}: {what}: create it with tandem.machines.network"


def _mount_warnings(record: Record, around: Surroundings) -> Iterator[str]:
    """How to mount disks in a guest that does not do so by itself; said when they are given, not in each run."""
    if record.is_container or around.mounts_disks:
        return
    from shlex import quote

    from .qemu.spec import share_tag

    for name, device in sorted(record.expanded_devices.items()):
        if device.type == "disk" and not device.is_root:
            path = quote(device.options["path"])
            yield (
                f"{where(record.name)}: device {name}: image {record.image_name} cannot mount it at boot, as images of "
                f"source type build do: in the guest, run mkdir -p {path} && mount -t virtiofs {share_tag(name)} {path}"
            )


def _must_recreate(desired: Desired, record: Record, around: Surroundings) -> bool:
    """Whether what is fixed at creation differs and may be made anew; Conflict if it may not."""
    if desired.recreate == "always":
        return True
    differing = list(_fixed_differences(desired, record, around))
    if not differing:
        return False
    if desired.recreate == "on-change":
        return True
    what, is_now, wanted = differing[0]
    raise Conflict(
        f"{where(record.name)}: {what} is {is_now} and fixed at creation, {wanted} is asked for: "
        "set recreate: on-change to delete the instance and create it anew"
    )


def _fixed_differences(desired: Desired, record: Record, around: Surroundings) -> Iterator[tuple[str, str, str]]:
    if desired.type is not None and desired.type is not record.type:
        yield "type", record.type.value, desired.type.value
        return
    # An alias that has moved to a newer image is no reason to touch what was made from it.
    is_same = desired.image in (None, record.image_name, record.image) or around.fingerprint == record.image
    if not is_same and desired.image is not None:
        yield "image", record.image_name, desired.image
    pool = wanted_record(desired, record, around).pool
    if pool != record.pool:
        yield "root disk's pool", record.pool, pool


def _plan_recreation(desired: Desired, current: Current, around: Surroundings) -> Plan[InstanceHost]:
    from . import steps as act  # only when there is something to do

    if current.record is None:
        raise AssertionError("nothing to create anew")
    image = desired.image or current.record.image_name
    kind = desired.type or current.record.type
    creation = _plan_creation(replace(desired, image=image, type=kind), Current(), around, current.record)
    allocation = next(step for step in creation.steps if isinstance(step, act.Allocate))
    changes = (Change("recreated", False, True), *creation.changes)
    stop = _removal_stops(desired, current, current.record)
    steps = (act.Require(allocation.record), *stop, act.Clear(current.record.name), *creation.steps)
    return Plan(changes, steps, warnings=creation.warnings, obstacles=creation.obstacles)


def _plan_existing(desired: Desired, current: Current, record: Record, around: Surroundings) -> Plan[InstanceHost]:
    if desired.state is State.PRESENT and record.work is Work.POWER:
        # A restart that was interrupted between stop and start is finished, though present leaves the power alone.
        desired = replace(desired, state=STATES[Power(record.volatile.get(LAST_POWER, current.power.value))])
    target = target_power(desired.state, current.power)
    wanted = wanted_record(desired, record, around)
    wanted = replace(wanted, volatile={**wanted.volatile, LAST_POWER: target.value})
    _check_root_size(record, wanted)
    changes = [*_definition_changes(record, wanted), *_drift_changes(current, record, wanted)]
    live = _live_keys(current, record, wanted)
    resize = _grows(record, wanted, current)
    pending = pending_options(current, wanted)
    restart = _plan_restart(desired, current, pending)
    power = list(_power_steps(desired, current, restart))
    if current.power is not target_power(desired.state, current.power) or desired.state is State.RESTARTED or restart:
        changes.append(_power_change(desired, current, restart))
    if record.work is not None:
        changes.append(Change("interrupted work", record.work.value, None))
    if not changes:
        return Plan(pending=pending)
    from . import steps as act  # only when there is something to do

    names_other_parts = _names_other_parts(record, wanted)
    return Plan(
        tuple(changes),
        (
            act.WriteRecord(wanted.with_work(Work.POWER if power else Work.UPDATE)),
            *([act.GrowRoot(record.name, _root_size(wanted) or "no limit")] if resize else []),
            act.Define(record.name),
            *([act.SetLive(record.name, live)] if live else []),
            *power,
            act.Mark(record.name, None),
        ),
        pending=() if restart or _stops(desired, current) else pending,
        warnings=tuple(_mount_warnings(wanted, around)) if names_other_parts else (),
        # Without a profile the definition would silently lose what it brings; of networks only new ones matter.
        obstacles=(
            *_missing_profiles(wanted, around),
            *(_missing_networks(wanted, around) if names_other_parts else ()),
        ),
    )


def _names_other_parts(before: Record, after: Record) -> bool:
    """Whether profiles or devices differ: an instance that only stops needs nothing of what it names."""
    devices = [render_devices(record.expanded_devices) for record in (before, after)]
    return before.profiles != after.profiles or devices[0] != devices[1]


def _definition_changes(before: Record | None, after: Record) -> tuple[Change, ...]:
    old_config = _shown_config(before)
    new_config = _shown_config(after)
    changes = list(compare("config", old_config, new_config))
    changes += compare("devices", render_devices(before.devices) if before else {}, render_devices(after.devices))
    old_profiles = list(before.profiles) if before else None
    if old_profiles != list(after.profiles):
        changes.append(Change("profiles", old_profiles, list(after.profiles)))
    if (before.description if before else "") != after.description:
        changes.append(Change("description", before.description if before else None, after.description))
    if before is not None and not changes:
        changes += _expanded_changes(before, after)
    return tuple(_redact(change, before, after) for change in changes)


def _expanded_changes(before: Record, after: Record) -> list[Change]:
    """What a changed profile brings to an instance whose own options stay."""
    return [
        *compare("expanded_config", INSTANCE.render(before.expanded_config), INSTANCE.render(after.expanded_config)),
        *compare("expanded_devices", render_devices(before.expanded_devices), render_devices(after.expanded_devices)),
    ]


def _shown_config(record: Record | None) -> dict[str, str]:
    return INSTANCE.render(record.config) if record is not None else {}


def _redact(change: Change, before: Record | None, after: Record) -> Change:
    section, _unused, key = change.path.partition("/")
    option = INSTANCE.find(key) if section in ("config", "expanded_config") else None
    if option is None or not option.secret:
        return change
    return Change(change.path, change.before and HIDDEN, change.after and f"{HIDDEN[:-1]}, changed)")


def _drift_changes(current: Current, record: Record, wanted: Record) -> Iterator[Change]:
    """Differences between the record and the host that no task asked for."""
    if not current.has_volume:
        raise Conflict(
            f"{where(record.name)}: its root disk is gone from pool {record.pool}: "
            "restore it, or set state: absent to remove what is left"
        )
    if not current.is_defined:
        yield Change("native configuration", "differs", "current")
    for key, value in sorted(current.in_force.items()):
        option = INSTANCE.require(key, where(record.name))
        recorded = record.get(key)
        if value != recorded and wanted.get(key) == recorded:
            yield Change(
                f"in force/{key}",
                None if value is None else option.type.render(value),
                None if recorded is None else option.type.render(recorded),
            )


def _live_keys(current: Current, record: Record, wanted: Record) -> tuple[str, ...]:
    """LIVE options of a running guest whose value in force is not the wanted one."""
    if current.power is Power.STOPPED:
        return ()
    return tuple(sorted(key for key, value in current.in_force.items() if value != wanted.get(key)))


def pending_options(current: Current, wanted: Record) -> tuple[str, ...]:
    """Options the running guest was started without; they wait for a restart."""
    if current.power is Power.STOPPED or current.started_with is None:
        return ()
    wanted_config = INSTANCE.render(wanted.expanded_config)
    config = [
        change.path.partition("/")[2]
        for change in compare("config", current.started_with["config"], wanted_config)
        if INSTANCE.require(change.path.partition("/")[2], "record").apply_for(wanted.type) is not LIVE
    ]
    old, new = current.started_with["devices"], render_devices(wanted.expanded_devices)
    devices = [
        f"devices.{name}"
        for name in sorted(set(old) | set(new))
        if _restart_view(old.get(name), wanted.type) != _restart_view(new.get(name), wanted.type)
    ]
    return (*config, *devices)


def _restart_view(device: Mapping[str, str] | None, kind: InstanceType) -> Mapping[str, str] | None:
    """A device without the options that take effect at once."""
    if device is None:
        return None
    table = Device(device["type"]).table
    return {
        key: value
        for key, value in device.items()
        if key == "type" or table.require(key, "record").apply_for(kind) is not LIVE
    }


def _plan_restart(desired: Desired, current: Current, pending: tuple[str, ...]) -> bool:
    """Whether pending options make the task restart the guest; Conflict if it says that must not be needed."""
    if not pending or current.power is Power.STOPPED or _stops(desired, current):
        return False
    if desired.when_restart_needed == "fail":
        raise Conflict(
            f"{where(desired.name)}: {', '.join(pending)} need a restart, and when_restart_needed is fail: "
            "set it to restart or report"
        )
    return desired.when_restart_needed == "restart"


def _sizes(record: Record, wanted: Record) -> tuple[int | None, int | None]:
    """The root disk's size as recorded and as wanted."""
    return record.root.options.get("size"), wanted.root.options.get("size")


def _check_root_size(record: Record, wanted: Record) -> None:
    before, after = _sizes(record, wanted)
    if not record.is_container and after and before and after < before:
        raise Conflict(f"{where(record.name)}: the root disk of a virtual machine cannot shrink; give a larger size")


def _root_size(record: Record) -> str | None:
    return record.root.render().get("size")


def _grows(record: Record, wanted: Record, current: Current) -> bool:
    """Whether the root disk gets its size now: at once for a container, before the next start for a VM.

    After an interrupted run the record does not tell whether the size was reached: it is given again.
    """
    before, after = _sizes(record, wanted)
    differs = before != after or (record.work is not None and after is not None)
    return differs and (record.is_container or current.power is Power.STOPPED)


def _stops(desired: Desired, current: Current) -> bool:
    return desired.state is State.RESTARTED or target_power(desired.state, current.power) is Power.STOPPED


def _power_change(desired: Desired, current: Current, restart: bool) -> Change:
    after = target_power(desired.state, current.power).value
    return Change("state", current.power.value, f"{after} (restarted)" if restart or _is_restart(desired) else after)


def _is_restart(desired: Desired) -> bool:
    return desired.state is State.RESTARTED


def _stop_steps(desired: Desired, current: Current) -> Iterator[InstanceStep]:
    name = desired.name
    if current.power is Power.STOPPED:
        return
    from . import steps as act  # only when there is something to do

    if desired.state is State.ABSENT and desired.force_stop:
        yield act.Kill(name)
        return
    if current.power is Power.FROZEN:
        yield act.Thaw(name)
    yield act.Stop(name, desired.stop_timeout_seconds, desired.force_stop)


def _power_steps(desired: Desired, current: Current, restart: bool) -> Iterator[InstanceStep]:
    target = target_power(desired.state, current.power)
    power = current.power
    if power is target and not restart and not _is_restart(desired):
        return
    from . import steps as act  # only when there is something to do

    if power is not Power.STOPPED and (target is Power.STOPPED or restart or _is_restart(desired)):
        yield from _stop_steps(desired, current)
        power = Power.STOPPED
    if power is Power.STOPPED and target is not Power.STOPPED:
        yield act.Start(desired.name)
        power = Power.RUNNING
    if power is Power.FROZEN and target is Power.RUNNING:
        yield act.Thaw(desired.name)
    if power is Power.RUNNING and target is Power.FROZEN:
        yield act.Freeze(desired.name)
