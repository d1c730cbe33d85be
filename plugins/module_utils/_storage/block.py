# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a path given as source is, and what a block device holds. Reads only, but for wipe_device."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from .._core.errors import CommandFailed, Conflict
from .._host.run import run
from . import btrfs_ioctl as btrfs
from .model import Source, SourceKind

_PROBE_SECONDS = 30


def observe_source(path: str) -> Source:
    """The source as it is on this host."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return Source(path, SourceKind.MISSING, _filesystem_of(os.path.dirname(path)))
    if stat.S_ISBLK(status.st_mode):
        return Source(path, SourceKind.BLOCK, content=describe_device(path))
    if stat.S_ISDIR(status.st_mode):
        return Source(path, SourceKind.DIRECTORY, _filesystem_of(path), is_empty=not os.listdir(path))
    return Source(path, SourceKind.OTHER)


def _filesystem_of(directory: str) -> str:
    """'btrfs', or '' for any other and for none."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return "btrfs" if btrfs.is_btrfs(descriptor) else ""
    finally:
        os.close(descriptor)


def describe_device(path: str, ignored_uuid: str | None = None) -> str:
    """What is on a block device, in words; '' for nothing, and for the file system that has ignored_uuid."""
    if is_claimed(path):
        return "in use (mounted, or part of something else)"
    found = [
        signature for signature in signatures(path) if ignored_uuid is None or signature.get("uuid") != ignored_uuid
    ]
    kinds = sorted({str(signature["type"]) for signature in found})
    return f"signatures of {', '.join(kinds)}" if kinds else ""


def is_claimed(path: str) -> bool:
    """Whether the kernel uses the device or a partition of it: mounted, swap, RAID, device mapper."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        if error.errno == errno.EBUSY:
            return True
        raise
    return False


def signatures(path: str | Path) -> list[dict[str, str]]:
    """Signatures of file systems, partition tables, RAID and LVM, each with type and perhaps uuid."""
    found = run(["wipefs", "--no-act", "--json", "--", path], timeout_seconds=_PROBE_SECONDS).json()
    return list(found["signatures"]) if found else []


def holds_filesystem(path: str, uuid: str) -> bool:
    return any(signature.get("uuid") == uuid for signature in signatures(path))


def find_device(uuid: str) -> str | None:
    """The device with the file system of that id, None if there is none."""
    # Low-level probing of all devices: the cache and the links of udev may be old.
    result = run(
        ["blkid", "--cache-file", "/dev/null", "--list-one", "--output", "device", "--match-token", f"UUID={uuid}"],
        check=False,
        timeout_seconds=_PROBE_SECONDS,
    )
    return result.text.strip() or None


def wipe_device(path: str) -> None:
    """Erase the signatures, which leaves the device blank for everybody; Conflict while it is in use."""
    try:
        run(["wipefs", "--all", "--quiet", "--", path], timeout_seconds=_PROBE_SECONDS)
    except CommandFailed as error:
        reason = " ".join(error.stderr.split())[-200:]
        # Containers and image builds have copies of the host's mounts, which can outlive the host's own for a while.
        raise Conflict(f"{path} cannot be wiped, something still uses it: {reason}; run the task again later") from None
