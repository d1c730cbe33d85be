# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The console log of a running machine: a small file that only QEMU has open, reached through /proc."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from ..._host.files import read_capped, write_atomic

# The launch program puts the log on a file system of its own, so this is its whole path.
_LINK = "/console.log"
_KEPT_BYTES = 4 * 1024 * 1024
_LIVE_LIMIT_BYTES = 2 * 1024 * 1024


def open_live_log(pid: int) -> int | None:
    """A descriptor of a running machine's log, which stays readable when the machine ends; None if it has none."""
    directory = Path(f"/proc/{pid}/fd")
    with suppress(OSError):
        for name in os.listdir(directory):
            if os.readlink(directory / name) == _LINK:
                return os.open(directory / name, os.O_RDWR | os.O_CLOEXEC)
    return None


def move_log(descriptor: int, path: Path) -> None:
    """Move what was printed since the last time to the end of the file at path, which keeps its last 4 MiB."""
    printed = os.pread(descriptor, _LIVE_LIMIT_BYTES, 0)
    if not printed:
        return
    # QEMU appends: the next byte goes to the new end. What it prints in between is lost.
    os.ftruncate(descriptor, 0)
    before = read_capped(path, 2 * _KEPT_BYTES) or b""
    write_atomic(path, (before + printed)[-_KEPT_BYTES:])
