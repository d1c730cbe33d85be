# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Read the table of contents of a plain tar and decide whether it may become an image. Reads one stream, no paths.

This is the second of two walls: the tool that unpacks runs in a jail (jail.py) whatever is found here. What a root file
system never needs and every known attack does is refused: names that leave the root, a path made twice, a path below a
link, hard links to what is not in the archive, device nodes outside /dev.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

from .._core.errors import InvalidRequest
from .model import MOUNT_DISKS

# A header that is longer than this is no name and no attribute: tarfile would read it into memory.
_HEADER_LIMIT_BYTES = 1024 * 1024
_TEXT_LIMIT_BYTES = 64 * 1024
_NAME_LIMIT = 4096
# Deeper trees exist only to break those who walk them.
_DEPTH_LIMIT = 128
# What LXD's and Incus' archives have beside rootfs/ (doc/reference/image_format.md in both).
_UNIFIED_NAMES = frozenset({"metadata.yaml", "rootfs", "rootfs.img", "templates"})
_OS_RELEASE = ("etc/os-release", "usr/lib/os-release")


@dataclass(frozen=True)
class Budget:
    """What an unpacked root file system may take."""

    bytes: int = 64 * 1024**3
    files: int = 1_000_000


@dataclass(frozen=True)
class Contents:
    """prefix: '' or 'rootfs', where the root file system begins. disk: offset and size of an LXD rootfs.img in the
    archive. os_release: the text of that file. has_kernel: /boot has a vmlinuz-*. mounts_disks: it has our program
    for that. bytes and files: sums."""

    prefix: str = ""
    disk: tuple[int, int] | None = None
    os_release: str = ""
    has_kernel: bool = False
    mounts_disks: bool = False
    bytes: int = 0
    files: int = 0

    @property
    def has_root(self) -> bool:
        return self.disk is None


@dataclass
class _Scan:
    """Mutable state of one reading."""

    budget: Budget
    # True for a directory, False for anything else; paths have neither ./ nor a trailing slash.
    seen: dict[str, bool] = field(default_factory=dict)
    regular: set[str] = field(default_factory=set)
    texts: dict[str, str] = field(default_factory=dict)
    disk: tuple[int, int] | None = None
    bytes: int = 0
    files: int = 0


class _CappedReader:
    """Refuses the long reads with which a forged header would fill the memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _HEADER_LIMIT_BYTES:
            raise InvalidRequest(f"a header of {size} bytes, more than {_HEADER_LIMIT_BYTES}")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def read_contents(stream: IO[bytes], budget: Budget | None = None) -> Contents:
    """Contents of a plain, seekable tar; InvalidRequest completes the sentence 'the archive has ...'."""
    scan = _Scan(budget or Budget())
    try:
        for member, archive in _members(stream):
            _take(scan, member, archive)
    except (tarfile.TarError, ValueError, OSError, OverflowError) as error:
        raise InvalidRequest(f"damaged content ({error})") from None
    return _conclude(scan)


def _members(stream: IO[bytes]) -> Iterator[tuple[tarfile.TarInfo, tarfile.TarFile]]:
    last = -1
    reader = _CappedReader(stream)
    with tarfile.open(fileobj=reader, mode="r:", errors="surrogateescape") as archive:  # type: ignore[call-overload]
        for member in archive:
            # A forged size can lead older versions of tarfile back to where it has been (CVE-2025-8194).
            if member.offset_data <= last:
                raise InvalidRequest(f"a member {_shown(member.name)} that points backwards")
            last = member.offset_data
            # tarfile keeps every member it has seen.
            archive.members = []
            yield member, archive


def _take(scan: _Scan, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
    path = _require_path(member.name)
    scan.files += 1
    scan.bytes += max(member.size, 0)
    if scan.files > scan.budget.files:
        raise InvalidRequest(f"more than {scan.budget.files} files")
    if scan.bytes > scan.budget.bytes:
        raise InvalidRequest(f"more than {scan.budget.bytes} bytes unpacked")
    _require_new(scan, path, member.isdir())
    _require_kind(scan, path, member)
    scan.seen[path] = member.isdir()
    if member.isreg() or member.islnk():
        scan.regular.add(path)
    _keep(scan, path, member, archive)


def _keep(scan: _Scan, path: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
    if path == "rootfs.img" and member.isreg():
        scan.disk = member.offset_data, member.size
    if member.isreg() and member.size <= _TEXT_LIMIT_BYTES and path.endswith(_OS_RELEASE):
        stream = archive.extractfile(member)
        if stream is not None:
            scan.texts[path] = stream.read(_TEXT_LIMIT_BYTES).decode("utf-8", "replace")


def _require_path(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name or len(name) > _NAME_LIMIT:
        raise InvalidRequest(f"a member {_shown(name)} that leaves its directory")
    if len(parts) > _DEPTH_LIMIT:
        raise InvalidRequest(f"a member {_shown(name)} deeper than {_DEPTH_LIMIT} directories")
    return "/".join(parts)


def _require_new(scan: _Scan, path: str, is_directory: bool) -> None:
    if path in scan.seen and not (is_directory and scan.seen[path]):
        raise InvalidRequest(f"two members {_shown(path)}")
    parent = path
    while "/" in parent:
        parent = parent.rpartition("/")[0]
        if not scan.seen.setdefault(parent, True):
            raise InvalidRequest(f"a member {_shown(path)} below a link or file")


def _require_kind(scan: _Scan, path: str, member: tarfile.TarInfo) -> None:
    if member.isreg() or member.isdir() or member.issym() or member.isfifo():
        return
    if member.islnk():
        if _require_path(member.linkname) not in scan.regular:
            raise InvalidRequest(f"a hard link {_shown(path)} to what is not in it")
        return
    # Nodes in /dev are left out when unpacking: containers and VMs make their own.
    if member.isdev() and (path.startswith(("dev/", "rootfs/dev/"))):
        return
    raise InvalidRequest(f"a member {_shown(path)} that is neither file, directory nor link")


def _conclude(scan: _Scan) -> Contents:
    top = {path.partition("/")[0] for path in scan.seen} - {""}
    is_unified = scan.disk is not None or ("rootfs" in top and not {"etc", "usr"} & top)
    if not is_unified:
        return _root_contents(scan, "")
    if not top <= _UNIFIED_NAMES:
        odd = sorted(top - _UNIFIED_NAMES)[0]
        raise InvalidRequest(f"a member {_shown(odd)} beside {', '.join(sorted(_UNIFIED_NAMES))}")
    if scan.disk is not None:
        return Contents(disk=scan.disk, bytes=scan.bytes, files=scan.files)
    if not scan.seen.get("rootfs", True):
        raise InvalidRequest("a member 'rootfs' that is no directory")
    return _root_contents(scan, "rootfs")


def _root_contents(scan: _Scan, prefix: str) -> Contents:
    start = f"{prefix}/" if prefix else ""
    if not any(scan.seen.get(f"{start}{name}") is not None for name in ("etc", "usr", "bin")):
        raise InvalidRequest("no root file system: neither etc, usr nor bin")
    texts = (scan.texts.get(f"{start}{name}", "") for name in _OS_RELEASE)
    return Contents(
        prefix=prefix,
        os_release=next((text for text in texts if text), ""),
        has_kernel=any(path.startswith(f"{start}boot/vmlinuz-") for path in scan.regular),
        mounts_disks=f"{start}{MOUNT_DISKS}" in scan.regular,
        bytes=scan.bytes,
        files=scan.files,
    )


def parse_os_release(text: str) -> dict[str, str]:
    """Name and value pairs of os-release(5), quotes removed; anything odd is left out."""
    values = {}
    for line in text.splitlines():
        name, separator, value = line.strip().partition("=")
        plain = value.strip().strip("\"'")
        if separator and name.isidentifier() and plain.isprintable():
            values[name] = plain[:200]
    return values


def _shown(name: str) -> str:
    text = ascii(name)
    return text if len(text) <= 80 else text[:77] + "..."
