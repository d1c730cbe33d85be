# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The options of storage pools, with LXD's and Incus' names. Data only."""

from __future__ import annotations

from collections.abc import Mapping

from .._core.kinds import CREATE, NONE
from .._core.options import Option, OptionTable
from .._core.values import BOOL, PATH, SIZE, STRING

POOL_DRIVERS = ("btrfs", "dir")

STORAGE_POOL_CONFIG = OptionTable(
    "storage pool config",
    (
        Option(
            "btrfs.create_options",
            STRING,
            container=NONE,
            doc="Options for mkfs.btrfs.",
            why_not="make the file system yourself and give an empty directory of it as source",
        ),
        Option(
            "btrfs.mount_options",
            STRING,
            default="user_subvol_rm_allowed",
            doc="Mount options, separated by commas. A change is applied by remounting; what btrfs cannot change then "
            "takes effect at the next boot.",
        ),
        Option(
            "rsync.bwlimit",
            STRING,
            container=NONE,
            doc="Bandwidth limit for copies made by rsync.",
            why_not="no volume is copied by rsync",
        ),
        Option(
            "rsync.compression",
            BOOL,
            container=NONE,
            doc="Compression for copies made by rsync.",
            why_not="no volume is copied by rsync",
        ),
        Option(
            "size",
            SIZE,
            doc="Size of the loop file; it can grow while in use and never shrinks. When not given it is a fifth of "
            "the free space, at least 5GiB and at most 30GiB.",
        ),
        Option(
            "source",
            PATH,
            container=CREATE,
            doc="Where the pool lies: for btrfs a block device, or an empty or new directory on a mounted btrfs; for "
            "dir an empty directory. When not given btrfs makes a loop file and dir a directory of its own.",
        ),
        Option(
            "source.recover",
            BOOL,
            container=NONE,
            doc="Adopt a source that already holds a pool.",
            why_not="a pool is found again by its record storage/NAME/pool.json: restore that file",
        ),
        Option(
            "source.wipe",
            BOOL,
            container=CREATE,
            default=False,
            doc="Wipe the signatures of file systems and partition tables from the block device before it is used.",
        ),
        Option("user.*", STRING, doc="Free keys for notes and tools of your own."),
    ),
)

# Options that only some drivers have; the others are for all.
POOL_OPTION_DRIVERS: Mapping[str, tuple[str, ...]] = {
    "btrfs.create_options": ("btrfs",),
    "btrfs.mount_options": ("btrfs",),
    "size": ("btrfs",),
    "source.wipe": ("btrfs",),
}
