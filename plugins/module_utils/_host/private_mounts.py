# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Id-mapped mounts that one process and its descendants alone see: they end with it, whoever ends it. Pure: no I/O.

liblxc can make them itself (idmap=container), but up to 5.0.2 at least not again when the guest reboots: it restarts
the container without, every file then belongs to nobody and its root cannot write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# How mountinfo writes blanks and backslashes.
_OCTAL = re.compile(r"\\([0-7]{3})")
# Nothing but memory and the kernel is behind these.
_KERNEL_FILE_SYSTEMS = frozenset(
    (
        "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "efivarfs",
        "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore", "ramfs", "rpc_pipefs", "securityfs", "selinuxfs",
        "sysfs", "tmpfs", "tracefs",
    )
)  # fmt: skip
# Where programs, their libraries, settings and caches are, and what lxcfs shows.
_PROGRAMS = (
    "/bin", "/etc", "/lib", "/lib64", "/sbin", "/usr/bin", "/usr/lib", "/usr/libexec", "/usr/sbin", "/usr/share",
    "/var/cache", "/var/lib/lxcfs",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class PrivateMounts:
    """directory, empty for everybody else, holds the mounts; mapped and plain are their source directories
    by name.

    Ids 0 to count-1 of mapped sources appear as base to base+count-1, those of plain ones as they are. keep names
    further paths of the host that the process uses: file systems of disks and of the network on which nothing lies
    that it needs are let go of, or else nobody could ever detach them while it runs.
    """

    directory: str
    mapped: Mapping[str, str]
    plain: Mapping[str, str]
    base: int
    count: int
    keep: tuple[str, ...] = ()

    def path(self, name: str) -> str:
        """Where the mount of that name appears."""
        return f"{self.directory}/{name}"


def not_needed(mountinfo: str, needed: tuple[str, ...]) -> list[str]:
    """Mount points that can go, the innermost first: of file systems with a disk or a server behind them, those
    where no needed path lies. mountinfo is as in proc(5). Pure."""
    found = []
    for line in mountinfo.splitlines():
        place, _unused, source = line.partition(" - ")
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), place.split()[4])
        has_backing = source.split()[0] not in _KERNEL_FILE_SYSTEMS
        if has_backing and not any(_is_beneath(path, point) for path in (*_PROGRAMS, *needed)):
            found.append(point)
    return found[::-1]


def _is_beneath(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")
