# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Files that must never be torn: atomic writes with fsync, capped reads, JSON records."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from .._core.errors import Conflict

# Texts of up to 1 MiB stand in a record twice, and JSON may need six bytes for one.
RECORD_LIMIT_BYTES = 64 * 1024 * 1024
TEMPORARY_PREFIX = ".new-"


def ensure_directory(path: Path, mode: int = 0o700) -> None:
    """Create path and its parents; path gets exactly mode, parents we create 0711.

    A symbolic link in place of the directory is refused with Conflict.
    """
    if not path.parent.is_dir():
        ensure_directory(path.parent, 0o711)
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        if not stat.S_ISDIR(path.lstat().st_mode):
            raise Conflict(f"{path} exists and is not a directory: move it away") from None
    if stat.S_IMODE(path.lstat().st_mode) != mode:
        path.chmod(mode)


def write_atomic(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace path by data: temporary file beside it, fsync, rename, fsync of the directory."""
    temporary = path.parent / f"{TEMPORARY_PREFIX}{path.name}"
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and removals in path durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_capped(path: Path, limit_bytes: int) -> bytes | None:
    """Content of a regular file, None if it does not exist; Conflict if it is no regular file or larger."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        return None
    except OSError as error:
        raise Conflict(f"{path} cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise Conflict(f"{path} is not a regular file: move it away")
        data = stream.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise Conflict(f"{path} is larger than {limit_bytes} bytes")
    return data


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object from path, None if there is no file, Conflict if it is damaged."""
    data = read_capped(path, RECORD_LIMIT_BYTES)
    if data is None:
        return None
    try:
        value = json.loads(data)
    except ValueError as error:
        raise Conflict(f"{path} is damaged ({error}): restore it or move it away") from None
    if not isinstance(value, dict):
        raise Conflict(f"{path} does not hold a JSON object: restore it or move it away")
    return value


def write_json(path: Path, value: dict[str, Any], mode: int = 0o600) -> None:
    """Write value as a record: sorted keys, indented so that people can read it, atomic and durable."""
    write_atomic(path, (json.dumps(value, indent=2, sort_keys=True) + "\n").encode(), mode)


def write_if_changed(path: Path, data: bytes, mode: int = 0o600) -> bool:
    """Write data unless path already holds exactly it; whether it was written."""
    if read_capped(path, 16 * RECORD_LIMIT_BYTES) == data and stat.S_IMODE(path.stat().st_mode) == mode:
        return False
    write_atomic(path, data, mode)
    return True
