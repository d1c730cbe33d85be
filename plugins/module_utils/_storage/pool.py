# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""An open storage pool and what other layers do with it; driver.py describes the whole.

One class with many short verbs, since together they are the one interface of storage to instances and images.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from .._core.errors import CommandFailed, Conflict, InvalidRequest, Locked
from .._core.kinds import Work
from .._core.names import is_fingerprint, require_name
from .._core.values import render_size
from .._host.files import TEMPORARY_PREFIX, sync_directory
from .._host.locks import Lock, hold
from .._host.paths import Paths
from .driver import Driver
from .features import FEATURES
from .layout import (
    CONTAINERS,
    IMAGES,
    VIRTUAL_MACHINES,
    VOLUMES,
    Layout,
    is_temporary,
    layout_of,
    observe_presence,
    read_record,
)
from .record import Backing, Contents, Presence, Recorded, Space, Usage

ROOT = "rootfs"
_MOUNT_LOCK_SECONDS = 60
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Whose lock says that somebody is working on the unfinished volume.
_AREA_LOCKS = {IMAGES: "unpacking", CONTAINERS: "instance", VIRTUAL_MACHINES: "instance", VOLUMES: "volume"}


def open_pool(paths: Paths, name: str) -> Pool:
    """The pool, mounted if it was not; InvalidRequest if there is none, Conflict if it cannot be used."""
    recorded = _require_record(paths, name)
    layout = layout_of(paths, name)
    if observe_presence(layout, recorded) is not Presence.MOUNTED:
        _mount(paths, recorded, layout)
    return Pool(paths, recorded, layout.volumes)


def find_pool(paths: Paths, name: str) -> Pool | None:
    """The pool if it exists and is mounted; changes nothing on the host."""
    recorded = read_record(paths, name)
    if recorded is None or recorded.work in (Work.CREATE, Work.DELETE):
        return None
    layout = layout_of(paths, name)
    return Pool(paths, recorded, layout.volumes) if observe_presence(layout, recorded) is Presence.MOUNTED else None


def driver_of(recorded: Recorded, volumes: Path) -> Driver:
    """The pool's driver, working below volumes."""
    # Drivers are compiled where they act; most runs only ask whether a volume is there.
    from .registry import DRIVERS

    return DRIVERS[recorded.driver](volumes, recorded.backing in (Backing.LOOP, Backing.BLOCK))


def _require_record(paths: Paths, name: str) -> Recorded:
    recorded = read_record(paths, require_name("storage pool", name))
    if recorded is None:
        raise InvalidRequest(f"storage pool {name} does not exist: create it with tandem.machines.storage_pool")
    if recorded.work in (Work.CREATE, Work.DELETE):
        raise Conflict(
            f"storage pool {name}: its {recorded.work.value} was interrupted: run its task for "
            "tandem.machines.storage_pool again"
        )
    return recorded


def _mount(paths: Paths, recorded: Recorded, layout: Layout) -> None:
    """Mount it, once however many runs want it. What is found there is not written to before its marker is read."""
    # Not part of the common case, and so not compiled for it.
    from .mounts import mount

    with hold(paths, [Lock("allocation", f"mount-{recorded.name}")], _MOUNT_LOCK_SECONDS):
        presence = observe_presence(layout, recorded)
        if presence is Presence.UNMOUNTED and recorded.backing is not Backing.PLAIN:
            mount(recorded, layout)
            presence = observe_presence(layout, recorded)
    if presence is not Presence.MOUNTED:
        raise Conflict(
            f"storage pool {recorded.name}: what lies at {layout.volumes} is not this pool (its marker is "
            f"{'missing' if presence is Presence.UNMOUNTED else 'another one'}): nothing is written there"
        )


class Pool:
    """See driver.py. Names are checked here; a full file system becomes a Conflict here."""

    def __init__(self, paths: Paths, recorded: Recorded, volumes: Path) -> None:
        self.name = recorded.name
        self.driver = recorded.driver
        self.uuid = recorded.uuid
        self.volumes = volumes
        self._paths = paths
        self._recorded = recorded
        self.features = FEATURES[recorded.driver]

    @cached_property
    def _acts(self) -> Driver:
        return driver_of(self._recorded, self.volumes)

    # Images.

    def has_image(self, fingerprint: str) -> bool:
        return self._image(fingerprint).is_dir()

    def begin_image(self, fingerprint: str) -> Path:
        """An empty directory .new-FINGERPRINT; the caller makes and fills rootfs in it. Leftovers of it are removed."""
        return self._begin(self._image(fingerprint))

    def finish_image(self, fingerprint: str) -> None:
        """Make what was begun durable, read-only and visible; Conflict if it holds anything but a filled rootfs."""
        image = self._image(fingerprint)
        unfinished = _unfinished(image)
        if image.is_dir() and not os.path.lexists(unfinished):
            return
        _require_root_only(unfinished, f"image {fingerprint[:12]}")
        with self.reporting_full():
            self._acts.seal(unfinished)
            self._finish(image)

    def image_root(self, fingerprint: str) -> Path:
        return self._require_root(self._image(fingerprint), f"image {fingerprint[:12]}")

    def remove_image(self, fingerprint: str) -> None:
        """Containers made from it keep what they have."""
        self._remove(self._image(fingerprint))

    # Containers.

    def create_container(self, name: str, fingerprint: str, owner_id: int, size_bytes: int | None = None) -> None:
        """Clone the image for a container whose root is owner_id on the host.

        One that exists is kept, and gets owner and limit: remove_container first where it may be an old one.
        """
        container = self._container(name)
        if container.is_dir():
            self._own(container, owner_id, 0o100)
            self._limit(container, size_bytes)
            return
        image = self._image(fingerprint)
        if not image.is_dir():
            raise Conflict(f"storage pool {self.name} does not have image {fingerprint[:12]}: unpack it there first")
        unfinished = _unfinished(container)
        with self.reporting_full():
            self._discard(unfinished)
            self._acts.clone(image, unfinished)
            self._own(unfinished, owner_id, 0o100)
            if size_bytes is not None:
                self._limit(unfinished, size_bytes)
            self._finish(container)

    def has_container(self, name: str) -> bool:
        return self._container(name).is_dir()

    def container_root(self, name: str) -> Path:
        """The root file system: a real directory, not a link that somebody left in its place."""
        return self._require_root(self._container(name), f"container {name}")

    def resize_container(self, name: str, size_bytes: int | None) -> None:
        """Limit it to size_bytes, None for no limit; Conflict if it holds more already."""
        container = self._container(name)
        used = self._acts.usage(container).used_bytes if size_bytes is not None and self.features.quota else None
        if size_bytes is not None and used is not None and used > size_bytes:
            raise Conflict(
                f"container {name} holds {render_size(used)} and cannot be limited to {render_size(size_bytes)}: "
                "remove files in it first"
            )
        self._limit(container, size_bytes)

    def container_usage(self, name: str) -> Usage:
        return self._acts.usage(self._container(name))

    def remove_container(self, name: str) -> None:
        self._remove(self._container(name))

    # Virtual machines.

    def create_vm(self, name: str) -> Path:
        """A directory for the disks of a virtual machine; one that exists is kept."""
        machine = self._machine(name)
        if not machine.is_dir():
            unfinished = self._begin(machine)
            with self.reporting_full():
                self._acts.store_disks(unfinished)
                self._finish(machine)
        return machine

    def has_vm(self, name: str) -> bool:
        return self._machine(name).is_dir()

    def vm_directory(self, name: str) -> Path:
        return self._require_directory(self._machine(name), f"virtual machine {name}")

    def vm_usage(self, name: str) -> Usage:
        return self._acts.usage(self._machine(name))

    def remove_vm(self, name: str) -> None:
        self._remove(self._machine(name))

    # Custom volumes.

    def create_volume(self, name: str, size_bytes: int | None = None) -> Path:
        """An empty directory owned by root; one that exists is kept and gets the limit."""
        volume = self._volume(name)
        if volume.is_dir():
            self._limit(volume, size_bytes)
            return volume
        unfinished = self._begin(volume)
        with self.reporting_full():
            self._own(unfinished, 0, 0o711)
            if size_bytes is not None:
                self._limit(unfinished, size_bytes)
            self._finish(volume)
        return volume

    def has_volume(self, name: str) -> bool:
        return self._volume(name).is_dir()

    def volume_path(self, name: str) -> Path:
        return self._require_directory(self._volume(name), f"volume {name}")

    def volume_usage(self, name: str) -> Usage:
        return self._acts.usage(self._volume(name))

    def remove_volume(self, name: str) -> None:
        self._remove(self._volume(name))

    # The whole.

    def list_contents(self) -> Contents:
        return Contents(*(self._names(area) for area in (IMAGES, CONTAINERS, VIRTUAL_MACHINES, VOLUMES)))

    def space(self) -> Space:
        found = os.statvfs(self.volumes)
        return Space(found.f_blocks * found.f_frsize, (found.f_blocks - found.f_bfree) * found.f_frsize)

    def remove_leftovers(self) -> None:
        """Remove unfinished volumes unless a living run holds the lock of what they are for."""
        for area, kind in _AREA_LOCKS.items():
            for name in sorted(filter(is_temporary, os.listdir(self.volumes / area))):
                try:
                    with hold(self._paths, [Lock(kind, name[len(TEMPORARY_PREFIX) :])], 0):
                        self._discard(self.volumes / area / name)
                except Locked:
                    continue
        self._acts.sweep()

    @contextmanager
    def reporting_full(self) -> Iterator[None]:
        """Turns 'no space left' and 'quota exceeded' of what is done in it into a Conflict that says what to do."""
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
        except CommandFailed as error:
            if not any(os.strerror(number) in error.stderr for number in _FULL):
                raise
        else:
            return
        space = self.space()
        remedy = (
            "grow it with config.size" if self._recorded.backing is Backing.LOOP else "make room on its file system"
        )
        raise Conflict(
            f"storage pool {self.name} is full: {render_size(space.used_bytes)} of {render_size(space.total_bytes)} "
            f"are in use; {remedy}, or remove something"
        )

    def _image(self, fingerprint: str) -> Path:
        if not is_fingerprint(fingerprint):
            raise InvalidRequest(f"image fingerprint {ascii(fingerprint)[:80]} is not 64 hexadecimal digits")
        return self.volumes / IMAGES / fingerprint

    def _container(self, name: str) -> Path:
        return self.volumes / CONTAINERS / require_name("instance", name)

    def _machine(self, name: str) -> Path:
        return self.volumes / VIRTUAL_MACHINES / require_name("instance", name)

    def _volume(self, name: str) -> Path:
        return self.volumes / VOLUMES / require_name("volume", name)

    def _begin(self, path: Path) -> Path:
        unfinished = _unfinished(path)
        with self.reporting_full():
            self._discard(unfinished)
            self._acts.create(unfinished)
        return unfinished

    def _finish(self, path: Path) -> None:
        """Give the whole volume its name, durably: a record that says it exists may be written right after."""
        os.rename(_unfinished(path), path)
        sync_directory(path.parent)

    def _discard(self, unfinished: Path) -> None:
        if os.path.lexists(unfinished):
            self._acts.remove(unfinished)

    def _remove(self, path: Path) -> None:
        """First out of sight, durably: a volume that came back after a power cut would pass for a new one's own."""
        unfinished = _unfinished(path)
        self._discard(unfinished)
        if os.path.lexists(path):
            os.rename(path, unfinished)
            sync_directory(path.parent)
            self._acts.remove(unfinished)

    def _own(self, path: Path, owner_id: int, mode: int) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if (status.st_uid, status.st_gid) != (owner_id, owner_id):
                os.fchown(descriptor, owner_id, owner_id)
            if stat.S_IMODE(status.st_mode) != mode:
                os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def _limit(self, path: Path, size_bytes: int | None) -> None:
        self._acts.set_limit(path, size_bytes)

    def _require_directory(self, path: Path, what: str) -> Path:
        try:
            if stat.S_ISDIR(path.lstat().st_mode):
                return path
        except FileNotFoundError:
            pass
        raise Conflict(f"storage pool {self.name} does not have {what}")

    def _require_root(self, path: Path, what: str) -> Path:
        return self._require_directory(self._require_directory(path, what) / ROOT, f"the root file system of {what}")

    def _names(self, area: str) -> tuple[str, ...]:
        return tuple(sorted(name for name in os.listdir(self.volumes / area) if not is_temporary(name)))


def _unfinished(path: Path) -> Path:
    return path.parent / f"{TEMPORARY_PREFIX}{path.name}"


def _require_root_only(directory: Path, what: str) -> None:
    """Nothing but a root file system is taken from an archive: whatever else lay beside it could pass for ours."""
    entries = os.listdir(directory)
    root = directory / ROOT
    if entries != [ROOT] or not stat.S_ISDIR(root.lstat().st_mode) or not os.listdir(root):
        raise Conflict(f"{what} was not unpacked: {directory} must hold a filled directory {ROOT} and nothing else")
