# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What each storage driver can do, as data: planners ask this, never a driver's name. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Features:
    """Abilities of a driver.

    instant_clone: a container is cloned from its image at once, whatever its size. quota: a container or volume can
    be limited in size. formats: the driver makes a file system of its own on a block device or a loop file, and a
    directory given as source must lie on filesystem. tools are the programs it needs.
    """

    instant_clone: bool = False
    quota: bool = False
    formats: bool = False
    filesystem: str | None = None
    tools: tuple[str, ...] = ()


FEATURES: Mapping[str, Features] = {
    "btrfs": Features(
        instant_clone=True,
        quota=True,
        formats=True,
        filesystem="btrfs",
        tools=("mkfs.btrfs", "btrfs", "mount", "wipefs", "losetup"),
    ),
    "dir": Features(tools=("cp", "rm", "du")),
}
