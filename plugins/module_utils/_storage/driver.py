# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a storage driver gives a pool: acts on single volumes, each a directory. Types only; pool.py is the user.

Where things lie, below a pool's directory volumes/:

    .tandem-pool.json              the marker: without it nothing is ever written here
    images/FINGERPRINT/rootfs      unpacked images, read-only where the driver can; mode 0700
    containers/NAME/rootfs         mode 0100 and the container's root as owner: nobody else comes near its setuid files
    virtual-machines/NAME/         root.qcow2, made by the QEMU side; mode 0700
    custom/NAME                    custom volumes; mode 0711

Other layers use Pool (pool.py) and nothing else of this package:

    pool = open_pool(paths, name)  mounts it if need be; find_pool(paths, name) never does and may give None
    pool.features, pool.driver (its name), pool.volumes, pool.space(), pool.list_contents()

    pool.has_image(fp), begin_image(fp) -> empty directory in which the caller makes and fills rootfs, finish_image(fp),
    image_root(fp), remove_image(fp)
    pool.create_container(name, fp, owner_id, size_bytes), has_container(name), container_root(name),
    resize_container(name, size_bytes), container_usage(name), remove_container(name)
    pool.create_vm(name) -> directory, has_vm(name), vm_directory(name), vm_usage(name), remove_vm(name)
    pool.create_volume(name, size_bytes) -> directory, has_volume(name), volume_path(name), remove_volume(name)
    pool.remove_leftovers()        what killed runs left unfinished
    pool.reporting_full()          context: turns "no space" of whatever is done in it into a Conflict with the remedy

Every verb is idempotent and may be killed anywhere: unfinished things are named .new-NAME and renamed when whole,
removed things are renamed to .new-NAME first. So a remove_ verb is to be called without asking has_ before. Whoever
calls a verb holds the lock of the instance, image or volume it is about; a pool is removed under the host lock.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from .features import Features
from .record import Usage


class Driver(Protocol):
    """Acts below the mounted volumes/ of one pool. Paths are absolute and their parents are root's alone.

    All raise OSError (ENOSPC, EDQUOT) or CommandFailed; the pool turns a full file system into a Conflict.
    """

    features: Features

    def prepare(self) -> None:
        """Once, in the new and empty pool."""

    def create(self, path: Path) -> None:
        """A new, empty volume, mode 0700, owned by root."""

    def clone(self, source: Path, target: Path) -> None:
        """A writable copy of a volume, owners, modes and attributes included."""

    def seal(self, path: Path) -> None:
        """Make what was written to the volume durable, and the volume read-only if the driver can."""

    def store_disks(self, path: Path) -> None:
        """Tell an empty volume that it will hold disk images, which are overwritten in place."""

    def remove(self, path: Path) -> None:
        """Remove a volume with whatever a guest has made in it."""

    def set_limit(self, path: Path, size_bytes: int | None) -> None:
        """Limit a volume's size; None takes the limit away. NotSupported for a size if features.quota is false."""

    def usage(self, path: Path) -> Usage: ...

    def sweep(self) -> None:
        """Remove what removed volumes have left in the driver's own books."""
