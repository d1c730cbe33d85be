# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The storage drivers by name. Imports only them."""

from __future__ import annotations

from collections.abc import Mapping

from .btrfs import BtrfsDriver
from .directory import DirectoryDriver

DRIVERS: Mapping[str, type[BtrfsDriver] | type[DirectoryDriver]] = {
    "btrfs": BtrfsDriver,
    "dir": DirectoryDriver,
}
