# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Storage driver btrfs: a volume is a subvolume, a clone a snapshot, a limit a quota group.

Quotas. Full quota groups make every snapshot slower the more there are: with 40 clones of one image a clone took
200 ms instead of 8 (Linux 6.18, measured), and removing them kept the kernel busy for minutes. Simple quotas
(Linux 6.7) cost nothing, so a file system of our own gets them at creation; on older kernels full ones are enabled when
the first limit is set, as LXD does. The difference to a user: a simple limit is on what the volume itself has written,
a full one includes what it shares with its image.
With simple quotas the limit is on a group 1/ID around the volume: subvolumes that a guest makes join it by themselves,
and so cannot be used to get around the limit.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .._core.errors import NotSupported
from . import btrfs_ioctl as btrfs
from .features import FEATURES
from .record import Usage
from .tree import remove_tree

_NO_GROUP = (errno.ENOENT, errno.ENOTCONN, errno.EINVAL)
_GROUP_IN_USE = (errno.EBUSY, *_NO_GROUP)
_FORBIDDEN = (errno.EROFS, errno.EPERM, errno.EACCES)


@contextmanager
def _opened(path: Path | bytes, directory: int | None = None) -> Iterator[int]:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class BtrfsDriver:
    """See driver.py. owns_filesystem is false where the pool is a directory on somebody else's file system: quotas are
    then used if they are enabled, but never enabled."""

    features = FEATURES["btrfs"]

    def __init__(self, volumes: Path, owns_filesystem: bool) -> None:
        self._volumes = volumes
        self._owns_filesystem = owns_filesystem

    def prepare(self) -> None:
        if not self._owns_filesystem or self._quota_mode() is not None:
            return
        with _opened(self._volumes) as top, _ignoring(errno.EINVAL):
            btrfs.enable_quota(top, simple=True)

    def create(self, path: Path) -> None:
        with _opened(path.parent) as parent:
            btrfs.create_subvolume(parent, path.name)
        path.chmod(0o700)

    def clone(self, source: Path, target: Path) -> None:
        with _opened(source) as volume, _opened(target.parent) as parent:
            btrfs.create_snapshot(parent, target.name, volume)

    def seal(self, path: Path) -> None:
        with _opened(path) as volume:
            btrfs.sync(volume)
            btrfs.set_read_only(volume, True)

    def store_disks(self, path: Path) -> None:
        # Copy on write of a disk image fragments it, and keeps old extents alive long after they were overwritten.
        with _opened(path) as volume:
            btrfs.disable_copy_on_write(volume)

    def remove(self, path: Path) -> None:
        try:
            with _opened(path) as volume:
                if not btrfs.is_subvolume(volume):
                    remove_tree(path)
                    return
                identity = btrfs.tree_of(volume)
                # Deleting writes, so what is in a full volume could not be deleted.
                self.set_limit(path, None)
                for child in reversed(btrfs.descendants(volume, identity)):
                    _destroy_inner(volume, identity, child)
            with _opened(path.parent) as parent:
                btrfs.destroy_subvolume(parent, identity)
                self._remove_groups(parent, identity)
        except FileNotFoundError:
            return

    def set_limit(self, path: Path, size_bytes: int | None) -> None:
        mode = self._quota_mode()
        if mode is None and size_bytes is None:
            return
        with _opened(path) as volume:
            identity = btrfs.tree_of(volume)
        # Through a descriptor outside: changes of groups are refused through one of a volume that is full.
        with _opened(self._volumes) as top:
            if mode is None:
                mode = self._enable_full_quota(top, path)
            if mode == "squota" and self._owns_filesystem:
                _limit_around(top, identity, size_bytes)
            else:
                _limit(top, btrfs.group_of(0, identity), size_bytes)

    def usage(self, path: Path) -> Usage:
        with _opened(path) as volume:
            identity = btrfs.tree_of(volume)
            around = btrfs.find_group(volume, btrfs.group_of(1, identity)) if self._owns_filesystem else None
            found = around or btrfs.find_group(volume, btrfs.group_of(0, identity))
        return Usage(*found) if found is not None else Usage(None)

    def sweep(self) -> None:
        """The kernel removes groups 0/ID with their subvolume, some time after it is gone. Ours it does not know."""
        if not self._owns_filesystem:
            return
        with _opened(self._volumes) as top:
            for group in btrfs.groups(top, 1):
                identity = group & (btrfs.group_of(1, 0) - 1)
                if btrfs.find_group(top, btrfs.group_of(0, identity)) is None:
                    with _ignoring(*_GROUP_IN_USE):
                        btrfs.remove_group(top, group)

    def _quota_mode(self) -> str | None:
        """'squota' for simple quotas, 'qgroup' for full ones, None without; Linux before 6.7 shows no mode."""
        with _opened(self._volumes) as top:
            identity = btrfs.filesystem_uuid(top).hex()
        # Formatted here, since module uuid takes longer to load than all of this file.
        parts = (identity[:8], identity[8:12], identity[12:16], identity[16:20], identity[20:])
        directory = Path(f"/sys/fs/btrfs/{'-'.join(parts)}/qgroups")
        try:
            if (directory / "enabled").read_text().strip() != "1":
                return None
            return (directory / "mode").read_text().strip()
        except FileNotFoundError:
            return "qgroup" if (directory / "enabled").exists() else None

    def _enable_full_quota(self, top: int, path: Path) -> str:
        if not self._owns_filesystem:
            raise NotSupported(
                f"the file system of {self._volumes} has no quotas, so the size of {path.name.replace('.new-', '')} "
                "cannot be limited: run 'btrfs quota enable' on it, or leave the size out"
            )
        btrfs.enable_quota(top, simple=False)
        btrfs.wait_for_rescan(top)
        return "qgroup"

    def _remove_groups(self, parent: int, identity: int) -> None:
        for level in (0, 1) if self._owns_filesystem else (0,):
            with _ignoring(*_GROUP_IN_USE):
                btrfs.remove_group(parent, btrfs.group_of(level, identity))
        self.sweep()


@contextmanager
def _ignoring(*numbers: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in numbers:
            raise


def _limit(top: int, group: int, size_bytes: int | None) -> None:
    with _ignoring(*_NO_GROUP) if size_bytes is None else contextlib.nullcontext():
        btrfs.limit_group(top, group, size_bytes)


def _limit_around(top: int, identity: int, size_bytes: int | None) -> None:
    """Limit the group 1/ID, made for it, which holds the volume and what a guest makes in it."""
    group = btrfs.group_of(1, identity)
    if size_bytes is not None:
        btrfs.create_group(top, group)
        btrfs.assign_group(top, btrfs.group_of(0, identity), group)
    _limit(top, group, size_bytes)


def _destroy_inner(volume: int, top: int, child: btrfs.Child) -> None:
    """Delete a subvolume that a guest made inside its own; it may have made things read-only or immutable."""
    try:
        btrfs.destroy_subvolume(volume, child.identity)
        return
    except OSError as error:
        if error.errno not in _FORBIDDEN:
            raise
    with _opened_inside(volume, top, child.parent) as around:
        btrfs.set_read_only(around, False)
        directory = btrfs.path_in_tree(around, child.parent, child.directory)
        with _opened_below(around, directory) as parent, _opened(child.name, parent) as inner:
            btrfs.unlock(parent)
            btrfs.set_read_only(inner, False)
            btrfs.unlock(inner)
    btrfs.destroy_subvolume(volume, child.identity)


@contextmanager
def _opened_inside(volume: int, top: int, identity: int) -> Iterator[int]:
    """A subvolume below volume (whose id is top) by its id, reached without following links."""
    path: list[bytes] = []
    by_identity = {child.identity: child for child in btrfs.descendants(volume, top)}
    while identity != top:
        child = by_identity[identity]
        directory = btrfs.path_in_tree(volume, child.parent, child.directory)
        path.insert(0, os.path.join(directory, child.name))
        identity = child.parent
    with _opened_below(volume, b"/".join(path)) as descriptor:
        yield descriptor


@contextmanager
def _opened_below(directory: int, path: bytes) -> Iterator[int]:
    """A directory by its path below another, component by component: of any depth, and no link is followed."""
    descriptor = os.dup(directory)
    try:
        for name in filter(None, path.split(b"/")):
            with _opened(name, descriptor) as inner:
                os.dup2(inner, descriptor, inheritable=False)
        yield descriptor
    finally:
        os.close(descriptor)
