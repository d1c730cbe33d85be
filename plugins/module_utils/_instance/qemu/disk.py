# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Disk images of virtual machines by qemu-img. Formats are always stated, never probed."""

from __future__ import annotations

import os
from pathlib import Path

from ..._core.errors import Conflict
from ..._host.run import run

_FORMAT = "qcow2"
_TIMEOUT_SECONDS = 120


def create_overlay(path: Path, backing: Path, size_bytes: int | None = None) -> None:
    """A qcow2 at path that starts as backing (qcow2, never written) and holds what the machine changes.

    size_bytes is the virtual size, at least backing's; None for the same. An existing path is replaced
    whole: the image is made beside it and renamed.
    """
    if size_bytes is not None and size_bytes < (least := virtual_size(backing)):
        raise Conflict(f"a disk of {size_bytes} bytes is too small for its image: give it a size of at least {least}")
    unfinished = path.with_name(f".new-{path.name}")
    unfinished.unlink(missing_ok=True)
    size = () if size_bytes is None else (str(size_bytes),)
    command = ("qemu-img", "create", "-q", "-f", _FORMAT, "-F", _FORMAT, "-b", str(backing))
    run([*command, "--", str(unfinished), *size], timeout_seconds=_TIMEOUT_SECONDS)
    unfinished.chmod(0o600)
    os.replace(unfinished, path)


def virtual_size(path: Path) -> int:
    """The size the machine sees, in bytes. Safe while the image is in use."""
    command = ("qemu-img", "info", "--force-share", "--output=json", "-f", _FORMAT, "--", str(path))
    answer = run(command, timeout_seconds=_TIMEOUT_SECONDS).json()
    return int(answer["virtual-size"])


def must_grow(path: Path, size_bytes: int) -> bool:
    """Whether a disk is smaller than size_bytes; Conflict if it is larger, since a disk only grows."""
    current = virtual_size(path)
    if size_bytes < current:
        raise Conflict(f"{path} has {current} bytes and cannot shrink to {size_bytes}: a disk only grows")
    return size_bytes > current


def grow(path: Path, size_bytes: int) -> bool:
    """Give a disk that no machine uses a larger virtual size; whether it changed. Conflict for a smaller one."""
    if not must_grow(path, size_bytes):
        return False
    run(("qemu-img", "resize", "-q", "-f", _FORMAT, "--", str(path), str(size_bytes)), timeout_seconds=_TIMEOUT_SECONDS)
    return True
