# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The files a virtual machine of an image boots from, found without the rest of the images' code: every run that
looks at a machine needs them, and Ansible ships source that is compiled each time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .._core.names import is_fingerprint
from .._host.files import read_json
from .._host.paths import Paths

RECORD = "image.json"
DISK_FILE = "disk.qcow2"
KERNEL_FILE = "vmlinuz"
INITRD_FILE = "initrd.img"


@dataclass(frozen=True)
class DiskFiles:
    """What a VM boots: the read-only base disk, and for direct boot kernel, initrd and command line ('' without)."""

    disk: Path
    kernel: Path | None
    initrd: Path | None
    command_line: str


def find_disk_files(paths: Paths, fingerprint: str) -> DiskFiles | None:
    """The VM half of an image; None while it is not made, and without the image."""
    directory = paths.image(fingerprint)
    record = read_json(directory / RECORD) if is_fingerprint(fingerprint) else None
    if record is None or not record["has_disk"]:
        return None
    kernel, initrd = (directory / name if name in record["files"] else None for name in (KERNEL_FILE, INITRD_FILE))
    return DiskFiles(directory / DISK_FILE, kernel, initrd, record["kernel_command_line"])


def mounts_disks(paths: Paths, fingerprint: str) -> bool:
    """Whether a virtual machine of that image mounts its disks by itself; False without the image."""
    record = read_json(paths.image(fingerprint) / RECORD) if is_fingerprint(fingerprint) else None
    return record is not None and bool(record.get("mounts_disks"))
