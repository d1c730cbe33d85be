# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Files that somebody else made: copy and digest them, then bring them into the store's two forms, in the jail.

A root file system ends as a plain tar that archive.py has read, a disk as a qcow2 that qemu-img has written anew.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .._core.errors import CommandFailed, Conflict, InvalidRequest
from .archive import Budget, Contents, read_contents
from .disk_files import DISK_FILE
from .jail import WORK, Limits, run_closed
from .model import FileFormat, FileSource, SourceStamp

COPY = "source"
PLAIN = "root.tar"
_CHUNK = 1024 * 1024
# Left free on the store's file system whatever is imported.
_RESERVE_BYTES = 256 * _CHUNK
_DISK_LIMIT_BYTES = 16 * 1024**4
_DECOMPRESSORS: Mapping[str, tuple[str, ...]] = {
    ".gz": ("gzip", "-dc"),
    ".tgz": ("gzip", "-dc"),
    ".xz": ("xz", "-dc"),
    ".txz": ("xz", "-dc"),
    ".bz2": ("bzip2", "-dc"),
    ".zst": ("zstd", "-dc"),
}


@dataclass(frozen=True)
class Imported:
    """contents is None for a whole disk, whose file then lies in the work directory."""

    contents: Contents | None


def stamp_source(source: FileSource, where: str) -> SourceStamp:
    """What the file looks like now; InvalidRequest if it is not there or no regular file."""
    with _opened(source, where) as stream:
        return _stamp(stream)


def digest_source(source: FileSource, where: str) -> tuple[str, SourceStamp]:
    """sha256 of the file's content, which is the image's fingerprint, and its stamp."""
    digest = hashlib.sha256()
    with _opened(source, where) as stream:
        stamp = _stamp(stream)
        for chunk in _chunks(stream):
            digest.update(chunk)
    return digest.hexdigest(), stamp


def copy_source(source: FileSource, work: Path, where: str) -> tuple[str, SourceStamp]:
    """Copy the file into work and digest the copy: what is checked is what is used. Fingerprint and stamp."""
    digest = hashlib.sha256()
    with _opened(source, where) as stream, (work / COPY).open("xb") as copy:
        stamp = _stamp(stream)
        if stamp.size > _free_bytes(work):
            raise Conflict(f"{where}: {source.path} has {stamp.size} bytes and {_free_bytes(work)} are free in {work}")
        for chunk in _chunks(stream):
            digest.update(chunk)
            copy.write(chunk)
    return digest.hexdigest(), stamp


def import_copy(source: FileSource, work: Path, where: str) -> Imported:
    """Bring the copy in work into a form of the store: PLAIN or disk.qcow2. InvalidRequest for what is not allowed."""
    try:
        if source.format is FileFormat.QCOW2:
            _convert_disk(work, where)
            return Imported(None)
        return Imported(_plain_root(source, work, where))
    except CommandFailed as error:
        raise InvalidRequest(f"{where}: {source.path} is no intact {source.format.value} file: {_end(error)}") from None


def _plain_root(source: FileSource, work: Path, where: str) -> Contents | None:
    budget = Budget(bytes=min(Budget.bytes, _free_bytes(work)))
    if source.format is FileFormat.SQUASHFS:
        _stream_out(["sqfs2tar", f"{WORK}/{COPY}"], work, budget, stdin=None)
    else:
        _decompress(source, work, budget)
    if (work / PLAIN).stat().st_size >= budget.bytes:
        raise InvalidRequest(f"{where}: {source.path} unpacks to more than {budget.bytes} bytes")
    with (work / PLAIN).open("rb") as stream:
        try:
            contents = read_contents(stream, budget)
        except InvalidRequest as error:
            raise InvalidRequest(f"{where}: {source.path} has {error}") from None
        if contents.disk is None:
            return contents
        _cut(stream, *contents.disk, work / COPY)
    _convert_disk(work, where)
    return None


def _decompress(source: FileSource, work: Path, budget: Budget) -> None:
    argv = next((argv for ending, argv in _DECOMPRESSORS.items() if source.path.lower().endswith(ending)), None)
    if argv is None:
        os.rename(work / COPY, work / PLAIN)
        return
    descriptor = os.open(work / COPY, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        _stream_out(list(argv), work, budget, stdin=descriptor)
    finally:
        os.close(descriptor)


def _stream_out(argv: list[str], work: Path, budget: Budget, stdin: int | None) -> None:
    """Run argv in the jail, its output into PLAIN, which the kernel keeps from growing beyond the budget."""
    target = os.open(work / PLAIN, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    directory = None if stdin is not None else work
    try:
        run_closed(argv, directory, stdin=stdin, stdout=target, limits=Limits(file_bytes=budget.bytes))
    except CommandFailed:
        # At the limit the tool dies by SIGXFSZ; the caller says so better.
        if os.fstat(target).st_size < budget.bytes:
            raise
    finally:
        os.close(target)


def _cut(stream: IO[bytes], offset: int, size: int, target: Path) -> None:
    stream.seek(offset)
    target.unlink(missing_ok=True)
    with target.open("xb") as copy:
        while size > 0:
            chunk = stream.read(min(size, _CHUNK))
            if not chunk:
                return
            copy.write(chunk)
            size -= len(chunk)


def _convert_disk(work: Path, where: str) -> None:
    """Have the disk written anew, so that no header, feature or snapshot of the given file survives."""
    limits = Limits(file_bytes=_free_bytes(work))
    answer = run_closed(
        ["qemu-img", "info", "-f", "qcow2", "--output=json", "--", f"{WORK}/{COPY}"], work, limits=limits
    )
    _require_plain_disk(json.loads(answer.stdout[:_CHUNK]), where)
    argv = ["qemu-img", "convert", "-q", "-f", "qcow2", "-O", "qcow2", "--", f"{WORK}/{COPY}", f"{WORK}/{DISK_FILE}"]
    run_closed(argv, work, limits=limits)


def _require_plain_disk(info: Mapping[str, Any], where: str) -> None:
    """Refuse a disk that would make QEMU open other files, or that nobody could store."""
    specific = info.get("format-specific", {}).get("data", {})
    for found, what in (
        (info.get("backing-filename") or info.get("full-backing-filename"), "a backing file"),
        (specific.get("data-file"), "an external data file"),
        (info.get("encrypted"), "encryption"),
    ):
        if found:
            raise InvalidRequest(f"{where}: the disk has {what}: flatten it with qemu-img convert where it was made")
    size = info.get("virtual-size", 0)
    if not 0 < size <= _DISK_LIMIT_BYTES:
        raise InvalidRequest(
            f"{where}: the disk has a virtual size of {size} bytes: 1 to {_DISK_LIMIT_BYTES} are allowed"
        )


@contextmanager
def _opened(source: FileSource, where: str) -> Iterator[IO[bytes]]:
    try:
        descriptor = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidRequest(f"{where}: source option path: {source.path}: {error.strerror}") from None
    # Before the stream, which Python does not make of a directory.
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidRequest(f"{where}: source option path: {source.path} is not a regular file")
    with os.fdopen(descriptor, "rb") as stream:
        yield stream


def _stamp(stream: IO[bytes]) -> SourceStamp:
    status = os.fstat(stream.fileno())
    return SourceStamp(status.st_size, status.st_mtime_ns, status.st_ino)


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _free_bytes(directory: Path) -> int:
    free = os.statvfs(directory)
    return max(free.f_bavail * free.f_frsize - _RESERVE_BYTES, 0)


def _end(error: CommandFailed) -> str:
    return " ".join(error.stderr.split())[-200:] or f"{error.argv[0]} ended with status {error.status}"
