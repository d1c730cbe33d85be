# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Storage driver dir: volumes are plain directories on whatever file system there is, clones are copies."""

from __future__ import annotations

from pathlib import Path

from .._core.errors import NotSupported
from .features import FEATURES
from .record import Usage
from .tree import copy_tree, remove_tree, tree_bytes, write_out


class DirectoryDriver:
    """See driver.py."""

    features = FEATURES["dir"]

    def __init__(self, volumes: Path, owns_filesystem: bool) -> None:
        self._volumes = volumes

    def prepare(self) -> None:
        return

    def create(self, path: Path) -> None:
        path.mkdir(mode=0o700)

    def clone(self, source: Path, target: Path) -> None:
        copy_tree(source, target)
        # A directory's rename may reach the disk before the files in it do.
        write_out(target)

    def seal(self, path: Path) -> None:
        write_out(path)

    def store_disks(self, path: Path) -> None:
        return

    def remove(self, path: Path) -> None:
        remove_tree(path)

    def set_limit(self, path: Path, size_bytes: int | None) -> None:
        if size_bytes is not None:
            raise NotSupported(
                f"a pool of driver dir cannot limit the size of {path.name.replace('.new-', '')}: "
                "leave the size out, or use a pool of driver btrfs"
            )

    def usage(self, path: Path) -> Usage:
        return Usage(tree_bytes(path))

    def sweep(self) -> None:
        return
