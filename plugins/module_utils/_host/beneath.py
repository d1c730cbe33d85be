# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Files below a directory that a guest or an image may have written: every path is resolved by the kernel
with openat2(2) and RESOLVE_BENEATH, so no symbolic link, '..' or mount trick leads outside."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path

from .._core.errors import Conflict

_SYS_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_NO_SYMLINKS = 0x04
_RESOLVE_BENEATH = 0x08

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(directory: int, relative: str, flags: int, mode: int = 0) -> int:
    """A descriptor for relative below the open directory; OSError as open(2), ELOOP for a link on the way."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, _RESOLVE_BENEATH | _RESOLVE_NO_SYMLINKS | _RESOLVE_NO_MAGICLINKS)
    descriptor = int(
        _libc.syscall(_SYS_OPENAT2, directory, os.fsencode(relative), ctypes.byref(how), ctypes.sizeof(how))
    )
    if descriptor < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), relative)
    return descriptor


def write_beneath(root: Path, relative: str, data: bytes, mode: int = 0o600, owner: int = 0) -> None:
    """Write a file below root, making its directories; Conflict if a link or a special file is in the way."""
    *parents, name = relative.strip("/").split("/")
    with contextlib.ExitStack() as opened:

        def keep(descriptor: int) -> int:
            opened.callback(os.close, descriptor)
            return descriptor

        try:
            directory = keep(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            for parent in parents:
                directory = keep(_descend(directory, parent, owner))
            _replace(directory, name, data, mode, owner)
        except OSError as error:
            raise Conflict(f"{root}/{relative} cannot be written: {error.strerror}") from None


def read_beneath(root: Path, relative: str, limit_bytes: int) -> bytes | None:
    """Content of a regular file below root, None if there is none; at most limit_bytes of it."""
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = open_beneath(directory, relative.strip("/"), os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return None
    finally:
        os.close(directory)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(limit_bytes)


def remove_beneath(root: Path, relative: str) -> None:
    """Remove a file below root if it is there; Conflict if a link or a directory is in the way."""
    parent, _unused, name = relative.strip("/").rpartition("/")
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        inner = open_beneath(directory, parent or ".", os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.unlink(name, dir_fd=inner)
        finally:
            os.close(inner)
    except FileNotFoundError:
        return
    except OSError as error:
        raise Conflict(f"{root}/{relative} cannot be removed: {error.strerror}") from None
    finally:
        os.close(directory)


def _descend(directory: int, name: str, owner: int) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=directory)
        os.chown(name, owner, owner, dir_fd=directory, follow_symlinks=False)
    return open_beneath(directory, name, os.O_RDONLY | os.O_DIRECTORY)


def _replace(directory: int, name: str, data: bytes, mode: int, owner: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    descriptor = open_beneath(directory, name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        os.fchown(stream.fileno(), owner, owner)
        os.fchmod(stream.fileno(), mode)
        stream.write(data)
