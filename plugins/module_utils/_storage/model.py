# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Storage pools as values: what a task wants, what the record says, what the host shows. Pure: no I/O."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .._core.errors import InvalidRequest
from .._core.kinds import NONE, Work
from .._core.names import require_name
from .._spec.storage import POOL_DRIVERS, POOL_OPTION_DRIVERS, STORAGE_POOL_CONFIG
from .record import Presence, Recorded, Space

GIB = 1024**3
# btrfs takes whole sectors of 4 KiB from its device, a loop device whole ones of 512: a smaller difference is rounding.
ROUNDING_BYTES = 64 * 1024
# mkfs.btrfs takes a little less, but the kernel does not resize to less than that (btrfs_ioctl_resize).
SMALLEST_LOOP_BYTES = 256 * 1024**2

# btrfs(5), without those that choose another subvolume or device or mount read-only: they would break the pool.
MOUNT_OPTIONS = (
    "acl", "autodefrag", "barrier", "commit", "compress", "compress-force", "datacow", "datasum", "degraded", "discard",
    "enospc_debug", "flushoncommit", "lazytime", "max_inline", "metadata_ratio", "noacl", "noatime", "noautodefrag",
    "nobarrier", "nodatacow", "nodatasum", "nodiratime", "nodiscard", "noflushoncommit", "nossd", "nossd_spread",
    "notreelog", "relatime", "skip_balance", "space_cache", "ssd", "ssd_spread", "strictatime", "thread_pool",
    "treelog", "user_subvol_rm_allowed",
)  # fmt: skip
_MOUNT_VALUE = re.compile(r"[a-z0-9:-]{1,32}", re.ASCII)


class SourceKind(str, Enum):
    """What is at the path given as source."""

    MISSING = "missing"
    BLOCK = "block"
    DIRECTORY = "directory"
    OTHER = "other"


@dataclass(frozen=True)
class Desired:
    """What a task wants; None is unmanaged. config holds normal forms, where None removes a key.

    uuid is for a pool that is to be made: chosen before anything is done, so that leftovers are known by it.
    """

    name: str
    uuid: str
    is_absent: bool = False
    driver: str | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    replace_config: bool = False
    description: str | None = None


@dataclass(frozen=True)
class Source:
    """The path given as source, as it is. filesystem is that of the directory, or of its parent while it is missing.

    content says in words what a block device already holds, '' for nothing.
    """

    path: str
    kind: SourceKind
    filesystem: str = ""
    is_empty: bool = True
    content: str = ""


@dataclass(frozen=True)
class Current:
    """A pool as the host shows it.

    users hold the pool in place, used_by lists everything that refers to it. backing_bytes is the loop file's size,
    filesystem_bytes the size of the file system in it; None where that is not known.
    """

    recorded: Recorded | None = None
    presence: Presence = Presence.UNMOUNTED
    has_empty_directory: bool = False
    foreign_file: str | None = None
    backing_bytes: int | None = None
    filesystem_bytes: int | None = None
    is_unit_installed: bool = True
    users: tuple[str, ...] = ()
    used_by: tuple[str, ...] = ()
    space: Space | None = None
    source: Source | None = None
    free_bytes: int = 0
    missing_tools: tuple[str, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether there is a pool as far as users are concerned: not one that is half made or half removed."""
        return self.recorded is not None and self.recorded.work not in (Work.CREATE, Work.DELETE)


def default_loop_bytes(free_bytes: int) -> int:
    """LXD's rule: 20 % of the free space, at least 5 GiB, at most 30 GiB; in whole GiB."""
    return min(max(free_bytes // 5 // GIB, 5), 30) * GIB


def parse_desired(params: Mapping[str, Any], uuid: str) -> Desired:
    """The task's parameters in normal form; InvalidRequest for what is wrong on any host."""
    name = require_name("storage pool", params["name"])
    where = f"storage pool {name}"
    config = STORAGE_POOL_CONFIG.parse(params.get("config") or {}, where)
    driver = params.get("driver")
    if driver is not None and driver not in POOL_DRIVERS:
        raise InvalidRequest(f"{where}: driver {driver!r} is not known: use one of {', '.join(POOL_DRIVERS)}")
    for key, value in config.items():
        option = STORAGE_POOL_CONFIG.require(key, where)
        if option.container is NONE:
            raise InvalidRequest(f"{where}: config option {key} has no meaning here: {option.why_not}")
        if key == "btrfs.mount_options" and value is not None:
            _require_mount_options(value, where)
    return Desired(
        name=name,
        uuid=uuid,
        is_absent=params.get("state") == "absent",
        driver=driver,
        config=config,
        replace_config=params.get("config_mode") == "replace",
        description=params.get("description"),
    )


def require_options_of_driver(driver: str, config: Mapping[str, Any], where: str) -> None:
    """InvalidRequest for an option that this driver does not have."""
    for key, value in config.items():
        drivers = POOL_OPTION_DRIVERS.get(key)
        if value is not None and drivers is not None and driver not in drivers:
            raise InvalidRequest(
                f"{where}: config option {key} is for pools of driver {' or '.join(drivers)}, not {driver}: remove it"
            )


def _require_mount_options(text: str, where: str) -> None:
    for option in text.split(","):
        key, equals, value = option.partition("=")
        if key not in MOUNT_OPTIONS:
            near = difflib.get_close_matches(key, MOUNT_OPTIONS, n=1, cutoff=0.6)
            hint = f"did you mean {near[0]}?" if near else "it takes options of btrfs such as noatime,compress=zstd"
            raise InvalidRequest(f"{where}: config option btrfs.mount_options: {key!r} is not allowed; {hint}")
        if equals and not _MOUNT_VALUE.fullmatch(value):
            raise InvalidRequest(
                f"{where}: config option btrfs.mount_options: {option!r} has a value that is not valid"
            )
