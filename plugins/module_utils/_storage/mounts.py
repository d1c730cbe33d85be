# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Mounts of pools. Each pool has a fstab of one line: mount(8) then does the same at boot as we do, and only once."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from .._core.errors import CommandFailed, Conflict, NotSupported
from .._host.files import write_if_changed
from .._host.run import run
from .layout import Layout
from .record import Backing, Recorded

_OCTAL = re.compile(r"\\([0-7]{3})")
_MOUNT_SECONDS = 300


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo: root is the path within the file system, source its device."""

    target: str
    root: str
    filesystem: str
    source: str


def find_mount(target: Path) -> Mount | None:
    """What is mounted at target: the topmost, if several are stacked."""
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            place, _unused, device = line.partition(" - ")
            fields, (filesystem, source) = place.split(" "), device.split(" ")[:2]
            if _unescape(fields[4]) == os.fspath(target):
                found = Mount(os.fspath(target), _unescape(fields[3]), filesystem, _unescape(source))
    return found


def _unescape(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)


def render_fstab(recorded: Recorded, layout: Layout) -> str:
    """The pool's line as in fstab(5)."""
    if recorded.backing is Backing.LOOP:
        source, kind, options = os.fspath(layout.image), recorded.driver, f"loop,{recorded.mount_options}"
    elif recorded.backing is Backing.BLOCK:
        # Names of devices change from boot to boot; the id is ours.
        source, kind, options = f"UUID={recorded.uuid}", recorded.driver, recorded.mount_options
    else:
        source, kind, options = recorded.source or "", "none", "bind"
    fields = (source, os.fspath(layout.volumes), kind, options)
    return " ".join(_escape(field) for field in fields) + " 0 0\n"


def _escape(text: str) -> str:
    """White space, '\\' and '#' as fstab(5) wants them; control characters never get this far."""
    return "".join(f"\\{ord(character):03o}" if character in " \t\\#" else character for character in text)


def mount_argv(layout: Layout) -> tuple[str, ...]:
    """Mounts what is in the pool's fstab unless it is mounted: harmless when done twice."""
    return "mount", "--fstab", os.fspath(layout.fstab), "--all"


def unmount_argv(layout: Layout) -> tuple[str, ...]:
    return "umount", "--", os.fspath(layout.volumes)


def mount(recorded: Recorded, layout: Layout) -> None:
    """Mount the pool; Conflict with the reason if it cannot be, or if something is mounted there."""
    found = find_mount(layout.volumes)
    if found is not None:
        raise Conflict(
            f"storage pool {recorded.name}: {found.source} is mounted at {layout.volumes} and is not this pool: "
            "unmount it"
        )
    layout.volumes.mkdir(mode=0o711, exist_ok=True)
    write_if_changed(layout.fstab, render_fstab(recorded, layout).encode())
    try:
        run(mount_argv(layout), timeout_seconds=_MOUNT_SECONDS)
    except CommandFailed as error:
        if recorded.backing in (Backing.LOOP, Backing.BLOCK) and not _has_filesystem(recorded.driver):
            raise NotSupported(
                f"storage pool {recorded.name}: this kernel has no {recorded.driver}: use a pool of driver dir"
            ) from None
        reason = " ".join(error.stderr.split())[-300:]
        raise Conflict(f"storage pool {recorded.name} cannot be mounted: {reason}") from None


def _has_filesystem(name: str) -> bool:
    return name in Path("/proc/filesystems").read_text().split()


def remount(recorded: Recorded, layout: Layout) -> None:
    """Apply the mount options to the mounted pool; the new fstab serves the next boot."""
    write_if_changed(layout.fstab, render_fstab(recorded, layout).encode())
    options = f"remount,{recorded.mount_options}"
    argv = ["mount", "--options-mode", "ignore", "--options", options, "--", os.fspath(layout.volumes)]
    try:
        run(argv, timeout_seconds=_MOUNT_SECONDS)
    except CommandFailed as error:
        reason = " ".join(error.stderr.split())[-300:]
        raise Conflict(
            f"storage pool {recorded.name}: config option btrfs.mount_options: the kernel refuses "
            f"{recorded.mount_options}: {reason}"
        ) from None


def unmount(name: str, layout: Layout) -> None:
    """Unmount whatever is mounted there; Conflict if it is in use."""
    while find_mount(layout.volumes) is not None:
        try:
            run(unmount_argv(layout), timeout_seconds=_MOUNT_SECONDS)
        except CommandFailed as error:
            reason = " ".join(error.stderr.split())[-300:]
            raise Conflict(f"storage pool {name} cannot be unmounted, a process uses it: {reason}") from None
