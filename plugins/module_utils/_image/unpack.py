# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Root archives: pack a plain tar into the form the store keeps, and unpack that into an empty directory, in a jail."""

from __future__ import annotations

import os
from pathlib import Path

from .._core.errors import CommandFailed, Conflict
from .jail import Limits, run_closed
from .model import Image

# Other attributes belong to the host (trusted.*, security.selinux) or to overlayfs (user.overlay.*): a root file system
# that brings its own could speak for the host.
_ATTRIBUTES = (
    "--xattrs",
    "--xattrs-include=user.*",
    "--xattrs-exclude=user.overlay.*",
    "--xattrs-include=security.capability",
)


def unpack_argv(root_prefix: str) -> list[str]:
    """tar's arguments: from standard input into the current directory."""
    argv = [
        "tar",
        "--extract",
        "--file=-",
        "--use-compress-program=zstd",
        "--numeric-owner",
        "--same-owner",
        "--preserve-permissions",
        *_ATTRIBUTES,
        "--anchored",
        "--exclude=dev/*",
        "--exclude=./dev/*",
    ]
    if root_prefix:
        # S: names of members and targets of hard links, not those of symbolic links.
        argv += [
            "--exclude=rootfs/dev/*",
            "--exclude=./rootfs/dev/*",
            "--exclude=metadata.yaml",
            "--exclude=./metadata.yaml",
            "--exclude=templates",
            "--exclude=./templates",
            r"--transform=s,^\(\./\)\?rootfs\(/\|$\),./,S",
        ]
    return argv


def unpack_root(archive: Path, image: Image, directory: Path) -> None:
    """Fill directory, which must exist and be empty, with the image's root file system; ids 0 to 65535 as stored.

    Conflict if directory is not empty or its file system fills up; what was unpacked until then stays in it.
    """
    if any(directory.iterdir()):
        raise Conflict(f"{directory} is not empty: an image is unpacked only into a new directory")
    limits = Limits(file_bytes=max(image.unpacked_bytes, 1024 * 1024))
    descriptor = os.open(archive, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        run_closed(unpack_argv(image.root_prefix), directory, stdin=descriptor, limits=limits)
    except CommandFailed as error:
        if "No space left on device" in error.stderr or "Disk quota exceeded" in error.stderr:
            raise Conflict(_full(image, directory)) from None
        raise
    finally:
        os.close(descriptor)


def _full(image: Image, directory: Path) -> str:
    free = os.statvfs(directory)
    return (
        f"image {image.fingerprint[:12]} needs {image.unpacked_bytes} bytes and more than"
        f" {free.f_bavail * free.f_frsize} are not free in {directory}: enlarge the pool or remove something"
    )


def pack_root(plain: Path, packed: Path) -> None:
    """Compress a plain tar; takes all processors, since a person waits for it."""
    source = os.open(plain, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    target = os.open(packed, flags, 0o600)
    try:
        run_closed(["zstd", "-q", "-T0", "-3", "-c"], None, stdin=source, stdout=target)
        os.fsync(target)
    finally:
        os.close(source)
        os.close(target)
