# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A storage pool as the host shows it. Reads only: a pool that is not mounted stays so."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from .._core.errors import Conflict
from .._host.files import TEMPORARY_PREFIX
from .._host.paths import Paths
from .._host.run import find_tool, require_tool
from .._host.supervisor import open_supervisor
from .._host.unit import Unit
from .backing import observe_sizes
from .block import describe_device, observe_source
from .features import FEATURES
from .layout import AREA_MODES, MARKER, Layout, layout_of, marker_uuid, observe_presence, read_record
from .model import Current, Source, SourceKind
from .mounts import find_mount, mount_argv, unmount_argv
from .pool import Pool
from .record import Backing, Presence, Recorded
from .users import find_instance_users, find_profile_users, users_in


def observe_pool(paths: Paths, name: str, wanted_source: str | None = None, driver: str | None = None) -> Current:
    """The pool as it is. wanted_source and driver are those of a task: looked at only while there is no pool."""
    recorded = read_record(paths, name)
    layout = layout_of(paths, name)
    current = Current(recorded=recorded, has_empty_directory=_is_empty_directory(layout.directory))
    if current.exists:
        return _observe_existing(paths, layout, current)
    return replace(
        current,
        foreign_file=_find_foreign_file(layout) if recorded is None else None,
        source=_observe_wanted_source(wanted_source, recorded, layout) if wanted_source else None,
        free_bytes=_free_bytes(paths.pools),
        missing_tools=_missing_tools(driver) if driver else (),
    )


def _missing_tools(driver: str) -> tuple[str, ...]:
    return tuple(tool for tool in FEATURES[driver].tools if find_tool(tool) is None)


def _observe_existing(paths: Paths, layout: Layout, current: Current) -> Current:
    recorded = current.recorded
    if not (recorded is not None):
        raise AssertionError()
    presence = observe_presence(layout, recorded)
    is_mounted = presence is Presence.MOUNTED
    pool = Pool(paths, recorded, layout.volumes) if is_mounted else None
    contents = pool.list_contents() if pool else None
    inside = users_in(contents) if contents else ()
    users = tuple(dict.fromkeys((*inside, *find_instance_users(paths, recorded.name))))
    images = tuple(f"image {fingerprint}" for fingerprint in contents.images) if contents else ()
    backing_bytes, filesystem_bytes = observe_sizes(recorded, layout, is_mounted)
    return replace(
        current,
        presence=presence,
        backing_bytes=backing_bytes,
        filesystem_bytes=filesystem_bytes,
        is_unit_installed=is_unit_installed(paths, recorded, layout),
        users=users,
        used_by=(*users, *images, *find_profile_users(paths, recorded.name)),
        space=pool.space() if pool else None,
    )


def pool_unit(recorded: Recorded, layout: Layout) -> Unit:
    """What mounts the pool at boot. mount --all leaves alone what is mounted already."""
    mount, *mount_words = mount_argv(layout)
    unmount, *unmount_words = unmount_argv(layout)
    return Unit(
        kind="pool",
        name=recorded.name,
        description=f"Storage pool {recorded.name}",
        setup=((require_tool(mount), *mount_words),),
        teardown=((require_tool(unmount), *unmount_words),),
    )


def is_unit_installed(paths: Paths, recorded: Recorded, layout: Layout) -> bool:
    if recorded.backing is Backing.PLAIN:
        return True
    return open_supervisor(paths).is_installed(pool_unit(recorded, layout))


def _observe_wanted_source(path: str, recorded: Recorded | None, layout: Layout) -> Source:
    """The source a task names. What an interrupted run of ours left there is not held against it."""
    source = observe_source(path)
    if recorded is None or recorded.source != path:
        return source
    if source.kind is SourceKind.DIRECTORY and _is_leftover(Path(path), recorded):
        return replace(source, is_empty=True)
    if source.kind is SourceKind.BLOCK and source.content:
        mounted = find_mount(layout.volumes)
        if mounted is not None and os.path.realpath(mounted.source) == os.path.realpath(path):
            return replace(source, content="")
        return replace(source, content=describe_device(path, ignored_uuid=recorded.uuid))
    return source


def _is_leftover(directory: Path, recorded: Recorded) -> bool:
    known = {*AREA_MODES, MARKER, f"{TEMPORARY_PREFIX}{MARKER}"}
    return marker_uuid(directory) in (None, recorded.uuid) and known.issuperset(os.listdir(directory))


def _is_empty_directory(directory: Path) -> bool:
    """Whether a killed run may have left it: nothing in it but the temporary file of a record."""
    try:
        return all(name == f"{TEMPORARY_PREFIX}pool.json" for name in os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return False


def _find_foreign_file(layout: Layout) -> str | None:
    """Something in the directory of a pool that has no record."""
    if layout.directory.exists() and not layout.directory.is_dir():
        raise Conflict(f"{layout.directory} is not a directory: move it away")
    names = sorted(os.listdir(layout.directory)) if layout.directory.is_dir() else []
    return next((str(layout.directory / name) for name in names if name != f"{TEMPORARY_PREFIX}pool.json"), None)


def _free_bytes(directory: Path) -> int:
    while not directory.exists():
        directory = directory.parent
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize
