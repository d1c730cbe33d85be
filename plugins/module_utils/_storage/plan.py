# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What to do to a storage pool. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from .._core.errors import Conflict, InvalidRequest, NotSupported
from .._core.kinds import CREATE, Work
from .._core.options import Config, merge
from .._core.plan import Change, Plan, Step, compare
from .._core.values import render_size
from .._spec.storage import STORAGE_POOL_CONFIG
from .features import FEATURES
from .model import (
    ROUNDING_BYTES,
    SMALLEST_LOOP_BYTES,
    Current,
    Desired,
    Source,
    SourceKind,
    default_loop_bytes,
    require_options_of_driver,
)
from .record import Backing, Presence, Recorded
from .steps import (
    ClearPool,
    GrowPool,
    InstallUnit,
    LayOut,
    MakeBacking,
    MountPool,
    PoolHost,
    RemountPool,
    RemoveEmptyDirectory,
    RequireUnused,
    WriteRecord,
)

PoolStep = Step[PoolHost]


def plan_storage_pool(desired: Desired, current: Current) -> Plan[PoolHost]:
    """Raises InvalidRequest, Conflict and NotSupported for what cannot be."""
    if desired.is_absent:
        return _plan_absent(desired, current)
    if current.exists:
        return _plan_update(desired, current)
    return _plan_create(desired, current)


def plan_undo(current: Current) -> Plan[PoolHost]:
    """Take back an unfinished creation."""
    recorded = current.recorded
    if recorded is None or recorded.work is not Work.CREATE:
        return Plan()
    return Plan((), (ClearPool(recorded),))


def _plan_absent(desired: Desired, current: Current) -> Plan[PoolHost]:
    recorded = current.recorded
    if recorded is None:
        return Plan((), (RemoveEmptyDirectory(desired.name),) if current.has_empty_directory else ())
    if not current.exists:
        work = recorded.work.value if recorded.work else None
        return Plan((Change("unfinished work", work, None),), (ClearPool(recorded),))
    steps = (RequireUnused(recorded), WriteRecord(replace(recorded, work=Work.DELETE)), ClearPool(recorded))
    obstacles = (users_message(desired.name, current.users),) if current.users else ()
    return Plan((Change("state", "present", "absent"),), steps, obstacles=obstacles)


def users_message(name: str, users: tuple[str, ...]) -> str:
    shown = ", ".join(users[:10]) + (f" and {len(users) - 10} more" if len(users) > 10 else "")
    return f"storage pool {name} is used by {shown}: remove them first"


def _plan_create(desired: Desired, current: Current) -> Plan[PoolHost]:
    recorded = _new_record(desired, current)
    steps: list[PoolStep] = [ClearPool(current.recorded)] if current.recorded is not None else []
    steps.append(WriteRecord(replace(recorded, work=Work.CREATE)))
    steps.append(MakeBacking(recorded))
    if recorded.backing is not Backing.PLAIN:
        steps.append(MountPool(recorded))
    steps.append(LayOut(recorded))
    if recorded.backing is not Backing.PLAIN:
        steps.append(InstallUnit(recorded))
    steps.append(WriteRecord(recorded))
    changes = (
        Change("state", "absent", "present"),
        Change("driver", None, recorded.driver),
        *compare("config", {}, STORAGE_POOL_CONFIG.render(recorded.config)),
        *_description_changes("", recorded.description),
    )
    return Plan(changes, tuple(steps), warnings=tuple(_creation_warnings(recorded, current)))


def _description_changes(before: str, after: str) -> tuple[Change, ...]:
    return (Change("description", before, after),) if before != after else ()


def _new_record(desired: Desired, current: Current) -> Recorded:
    where = f"storage pool {desired.name}"
    if desired.driver is None:
        raise InvalidRequest(f"{where} does not exist: give a driver to create it ({', '.join(sorted(FEATURES))})")
    if current.foreign_file is not None:
        raise Conflict(f"{where}: {current.foreign_file} exists but there is no record of the pool: move it away")
    config = merge({}, desired.config, replace=True)
    require_options_of_driver(desired.driver, config, where)
    backing = _choose_backing(desired.driver, current.source, where)
    _require_options_of_backing(backing, config, where)
    if "size" in config:
        _require_loop_size(config["size"], where)
    if backing is Backing.BLOCK and current.source is not None and current.source.content:
        _require_wiping(current.source, bool(config.get("source.wipe")), where)
    return Recorded(
        name=desired.name,
        uuid=desired.uuid,
        driver=desired.driver,
        backing=backing,
        config=config,
        description=desired.description or "",
        size_bytes=config.get("size", default_loop_bytes(current.free_bytes)) if backing is Backing.LOOP else None,
        is_source_ours=backing is Backing.DIRECTORY and _makes_source(desired.driver, config["source"], current),
    )


def _choose_backing(driver: str, source: Source | None, where: str) -> Backing:
    features = FEATURES[driver]
    if source is None:
        return Backing.LOOP if features.formats else Backing.PLAIN
    if source.kind is SourceKind.OTHER:
        raise InvalidRequest(f"{where}: config option source: {source.path} is neither a directory nor a block device")
    if source.kind is SourceKind.BLOCK:
        if features.formats:
            return Backing.BLOCK
        raise InvalidRequest(
            f"{where}: config option source: {source.path} is a block device and {driver} takes a directory"
        )
    if source.kind is SourceKind.MISSING:
        return _backing_of_missing(features.filesystem, source)
    if features.filesystem is not None and source.filesystem != features.filesystem:
        raise InvalidRequest(
            f"{where}: config option source: {source.path} is not on {features.filesystem}: "
            f"give a block device, a directory on {features.filesystem}, or no source for a loop file"
        )
    if not source.is_empty:
        raise Conflict(f"{where}: config option source: directory {source.path} is not empty: give an empty one")
    return Backing.DIRECTORY


def _backing_of_missing(filesystem: str | None, source: Source) -> Backing:
    """A path on btrfs becomes a subvolume, as with LXD. Else an earlier task may yet make it: below /dev a device."""
    if filesystem is not None and source.filesystem == filesystem:
        return Backing.DIRECTORY
    return Backing.BLOCK if source.path.startswith("/dev/") else Backing.DIRECTORY


def _require_options_of_backing(backing: Backing, config: Config, where: str) -> None:
    if backing is not Backing.BLOCK and config.get("source.wipe"):
        raise InvalidRequest(f"{where}: config option source.wipe needs a block device as source: remove it")
    if backing is not Backing.LOOP and "size" in config:
        raise InvalidRequest(f"{where}: config option size is for a loop file: a source has the size it has, remove it")
    if backing is Backing.DIRECTORY and "btrfs.mount_options" in config:
        raise InvalidRequest(
            f"{where}: config option btrfs.mount_options: the source's file system is mounted by its owner: remove it"
        )


def _require_loop_size(size_bytes: int, where: str) -> None:
    if size_bytes < SMALLEST_LOOP_BYTES:
        smallest = render_size(SMALLEST_LOOP_BYTES)
        raise InvalidRequest(
            f"{where}: config option size: {render_size(size_bytes)} is too small for btrfs: write {smallest} or more"
        )


def _require_wiping(source: Source, is_wiping: bool, where: str) -> None:
    if source.content.startswith("in use"):
        raise Conflict(f"{where}: config option source: {source.path} is {source.content}: give a device that is free")
    if not is_wiping:
        raise Conflict(
            f"{where}: config option source: {source.path} already holds {source.content}: "
            "give an empty device, or set source.wipe to true, which destroys what is on it"
        )


def _creation_warnings(recorded: Recorded, current: Current) -> Iterator[str]:
    where = f"storage pool {recorded.name}"
    source = current.source
    if source is not None and source.kind is SourceKind.MISSING and not recorded.is_source_ours:
        yield f"{where}: config option source: {source.path} does not exist yet"
    if current.missing_tools:
        yield f"{where}: not installed yet: {', '.join(current.missing_tools)}"
    if recorded.size_bytes is not None and recorded.size_bytes > current.free_bytes:
        yield (
            f"{where}: its loop file of {render_size(recorded.size_bytes)} is larger than the free space: "
            "the pool can fail before it is full"
        )


def _makes_source(driver: str, path: str, current: Current) -> bool:
    """Whether the source is a subvolume that we make, or made before the run was interrupted."""
    source, recorded = current.source, current.recorded
    if recorded is not None and recorded.is_source_ours and recorded.source == path:
        return True
    filesystem = FEATURES[driver].filesystem
    return source is not None and source.kind is SourceKind.MISSING and source.filesystem == filesystem


def _plan_update(desired: Desired, current: Current) -> Plan[PoolHost]:
    before = current.recorded
    if not (before is not None):
        raise AssertionError()
    after = _updated_record(desired, before)
    after = replace(after, size_bytes=_wanted_size(after, current))
    _require_usable(before, current)
    changes = (
        *compare("config", STORAGE_POOL_CONFIG.render(before.config), STORAGE_POOL_CONFIG.render(after.config)),
        *_description_changes(before.description, after.description),
        *_condition_changes(before, after, current),
    )
    effects = tuple(_update_steps(before, after, current))
    if after == before:
        return Plan(changes, effects)
    return Plan(changes, (WriteRecord(replace(after, work=Work.UPDATE)), *effects, WriteRecord(after)))


def _updated_record(desired: Desired, before: Recorded) -> Recorded:
    """The record after the task; Conflict for a change of what is fixed at creation. work is done then."""
    where = f"storage pool {before.name}"
    if desired.driver not in (None, before.driver):
        raise Conflict(
            f"{where} has driver {before.driver}, which is fixed at creation: it cannot become {desired.driver}; "
            "create another pool"
        )
    config = merge(before.config, desired.config, desired.replace_config)
    require_options_of_driver(before.driver, config, where)
    shown, wanted = STORAGE_POOL_CONFIG.render(before.config), STORAGE_POOL_CONFIG.render(config)
    for option in STORAGE_POOL_CONFIG:
        if option.container is CREATE and shown.get(option.key) != wanted.get(option.key):
            was = shown.get(option.key, "not set")
            raise Conflict(
                f"{where}: config option {option.key} is fixed at creation: it is {was}; create another pool"
            )
    _require_options_of_backing(before.backing, config, where)
    description = before.description if desired.description is None else desired.description
    return replace(before, config=config, description=description, work=None)


def _wanted_size(after: Recorded, current: Current) -> int | None:
    """The loop file's size; NotSupported if that is less than it is."""
    if after.backing is not Backing.LOOP:
        return None
    actual = current.backing_bytes or 0
    wanted = after.config.get("size")
    if wanted is None:
        return after.size_bytes
    if wanted < actual:
        raise NotSupported(
            f"storage pool {after.name} has {render_size(actual)} and cannot shrink to {render_size(wanted)}: "
            "set config option size to what it has, or create a smaller pool and move what is in it"
        )
    return int(wanted)


def _require_usable(before: Recorded, current: Current) -> None:
    where = f"storage pool {before.name}"
    if current.presence is Presence.FOREIGN:
        raise Conflict(f"{where}: something else is mounted at storage/{before.name}/volumes: unmount it")
    if before.backing is Backing.LOOP and current.backing_bytes is None:
        raise Conflict(f"{where}: its file storage/{before.name}/pool.img is gone: restore it, or remove the pool")
    if before.backing is Backing.PLAIN and current.presence is Presence.UNMOUNTED:
        raise Conflict(f"{where}: storage/{before.name}/volumes has lost its marker: restore it, or remove the pool")


def _must_grow(after: Recorded, current: Current) -> bool:
    if after.size_bytes is None:
        return False
    if after.size_bytes > (current.backing_bytes or 0):
        return True
    return current.filesystem_bytes is not None and after.size_bytes - current.filesystem_bytes > ROUNDING_BYTES


def _update_steps(before: Recorded, after: Recorded, current: Current) -> Iterator[PoolStep]:
    is_resumed = before.work is not None and after.backing in (Backing.LOOP, Backing.BLOCK)
    if current.presence is Presence.UNMOUNTED:
        yield MountPool(after)
    if _must_grow(after, current):
        yield GrowPool(after)
    if before.mount_options != after.mount_options or is_resumed:
        yield RemountPool(after)
    if not current.is_unit_installed:
        yield InstallUnit(after)


def _condition_changes(before: Recorded, after: Recorded, current: Current) -> Iterator[Change]:
    """Differences that are not in the configuration: what a reboot, a person or an interrupted run left."""
    if before.work is not None:
        yield Change("unfinished work", before.work.value, None)
    if current.presence is Presence.UNMOUNTED:
        yield Change("mounted", False, True)
    elif _must_grow(after, current) and after.config.get("size") == before.config.get("size"):
        # Only the file system: somebody enlarged the file, or was killed before.
        yield Change("size", current.filesystem_bytes, after.size_bytes)
    if not current.is_unit_installed:
        yield Change("mounted at boot", False, True)
