# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What pools lie on: loop file, block device, directory. Each verb may meet its own half-done work.

The pool's id is that of its file system too. It is in the record before anything is made, so that after a kill a device
that we had formatted is told from one that somebody else did.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from .._core.errors import CommandFailed, Conflict
from .._core.values import render_size
from .._host.run import run
from . import block
from . import btrfs_ioctl as btrfs
from .driver import Driver
from .layout import AREA_MODES, IMAGES, MARKER, Layout, is_temporary, marker_uuid
from .model import ROUNDING_BYTES
from .mounts import find_mount
from .record import Backing, Recorded

_FORMAT_SECONDS = 600


def make_backing(recorded: Recorded, layout: Layout, driver: Driver) -> None:
    """What the volumes will lie on, empty; Conflict if the source is not what it must be."""
    if recorded.backing is Backing.LOOP:
        _make_loop_file(recorded, layout)
    elif recorded.backing is Backing.BLOCK:
        _format_device(recorded)
    elif recorded.backing is Backing.DIRECTORY:
        _take_directory(recorded, driver)
    else:
        layout.volumes.mkdir(mode=0o711, exist_ok=True)


def _make_loop_file(recorded: Recorded, layout: Layout) -> None:
    if not (recorded.size_bytes is not None):
        raise AssertionError()
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(layout.image, flags, 0o600), "wb") as image:
        os.fchmod(image.fileno(), 0o600)
        image.truncate(recorded.size_bytes)
    _make_filesystem(recorded, os.fspath(layout.image))


def _format_device(recorded: Recorded) -> None:
    device = _require_source(recorded)
    if recorded.config.get("source.wipe"):
        block.wipe_device(device)
    content = block.describe_device(device)
    if content:
        raise Conflict(f"storage pool {recorded.name}: config option source: {device} holds something: {content}")
    _make_filesystem(recorded, device)


def _make_filesystem(recorded: Recorded, target: str) -> None:
    # Without --force it refuses a device that holds a file system or is in use.
    label = f"tandem-{recorded.name}"
    argv = ["mkfs.btrfs", "--quiet", "--uuid", recorded.uuid, "--label", label, "--", target]
    run(argv, timeout_seconds=_FORMAT_SECONDS)


def _take_directory(recorded: Recorded, driver: Driver) -> None:
    path = Path(recorded.source or "")
    if recorded.is_source_ours and not path.exists():
        driver.create(path)
    elif not path.is_dir():
        raise Conflict(
            f"storage pool {recorded.name}: config option source: {path} is not a directory: create it first"
        )
    elif any(path.iterdir()):
        raise Conflict(f"storage pool {recorded.name}: config option source: directory {path} is not empty")


def _require_source(recorded: Recorded) -> str:
    source = recorded.source or ""
    if not os.path.exists(source):
        raise Conflict(f"storage pool {recorded.name}: config option source: {source} does not exist: create it first")
    return source


def is_backing_there(recorded: Recorded, layout: Layout) -> bool:
    """Whether there is anything left that could hold volumes."""
    if recorded.backing is Backing.LOOP:
        return layout.image.exists()
    if recorded.backing is Backing.BLOCK:
        return _own_device(recorded) is not None
    return (layout.volumes if recorded.backing is Backing.PLAIN else Path(recorded.source or "")).exists()


def _own_device(recorded: Recorded) -> str | None:
    """The device that holds our file system now: named in the record, or elsewhere since a reboot."""
    source = recorded.source or ""
    if os.path.exists(source) and block.holds_filesystem(source, recorded.uuid):
        return source
    return block.find_device(recorded.uuid)


def observe_sizes(recorded: Recorded, layout: Layout, is_mounted: bool) -> tuple[int | None, int | None]:
    """Bytes of the loop file and of the file system in it; None where there is none or it is not mounted."""
    if recorded.backing is not Backing.LOOP:
        return None, None
    try:
        file_bytes = layout.image.stat().st_size
    except FileNotFoundError:
        return None, None
    return file_bytes, _filesystem_bytes(layout) if is_mounted else None


def _filesystem_bytes(layout: Layout) -> int:
    descriptor = os.open(layout.volumes, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return btrfs.device_bytes(descriptor)
    finally:
        os.close(descriptor)


def grow_loop_file(recorded: Recorded, layout: Layout) -> None:
    """File, loop device and file system to recorded.size_bytes; each is left alone if it has that already."""
    wanted = recorded.size_bytes or 0
    if layout.image.stat().st_size < wanted:
        os.truncate(layout.image, wanted)
    fit_filesystem(recorded, layout)


def fit_filesystem(recorded: Recorded, layout: Layout) -> None:
    """Give the mounted file system all of its loop file."""
    if layout.image.stat().st_size - _filesystem_bytes(layout) <= ROUNDING_BYTES:
        return
    mounted = find_mount(layout.volumes)
    if mounted is None or not mounted.source.startswith("/dev/loop"):
        raise Conflict(f"storage pool {recorded.name} is not mounted from its loop file: run the task again")
    try:
        run(["losetup", "--set-capacity", mounted.source])
        run(["btrfs", "filesystem", "resize", "max", layout.volumes])
    except CommandFailed as error:
        reason = " ".join(error.stderr.split())[-300:]
        size = render_size(layout.image.stat().st_size)
        raise Conflict(f"storage pool {recorded.name} cannot grow to {size}: {reason}") from None


def remove_backing(recorded: Recorded, layout: Layout, driver_of: Callable[[Path], Driver]) -> None:
    """Remove what make_backing made, from a pool that is not mounted; only what is provably ours."""
    if recorded.backing is Backing.LOOP:
        layout.image.unlink(missing_ok=True)
    elif recorded.backing is Backing.BLOCK:
        device = _own_device(recorded)
        if device is not None:
            block.wipe_device(device)
    elif recorded.backing is Backing.DIRECTORY:
        source = Path(recorded.source or "")
        _empty_directory(recorded, source, driver_of)
        if recorded.is_source_ours and source.exists():
            remove_if_empty(recorded, source)
    else:
        _empty_directory(recorded, layout.volumes, driver_of)


def _empty_directory(recorded: Recorded, volumes: Path, driver_of: Callable[[Path], Driver]) -> None:
    """Take cached images and unfinished volumes out of a directory, the marker last; Conflict if more is there."""
    if not volumes.is_dir():
        return
    is_ours = marker_uuid(volumes) == recorded.uuid
    driver = driver_of(volumes)
    for area in AREA_MODES:
        if not (volumes / area).is_dir():
            continue
        for volume in sorted((volumes / area).iterdir()) if is_ours else ():
            if area == IMAGES or is_temporary(volume.name):
                driver.remove(volume)
        remove_if_empty(recorded, volumes / area)
    if is_ours:
        (volumes / MARKER).unlink()
    elif marker_uuid(volumes) is None:
        for leftover in volumes.iterdir():
            if is_temporary(leftover.name) and leftover.name.endswith(MARKER):
                leftover.unlink()


def remove_if_empty(recorded: Recorded, directory: Path) -> None:
    try:
        directory.rmdir()
    except OSError:
        raise Conflict(
            f"storage pool {recorded.name}: {directory} is not empty and not all of it is ours: move it away"
        ) from None
