# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""btrfs through its ioctls: subvolumes, quota groups, sizes. Knows numbers and structures, no pool.

Why not the btrfs program: creating a container is to cost what a snapshot costs (1 ms here; the program takes 3 ms and
starting it 5 more), and what has to be read (subvolumes inside a subvolume, quota groups) it prints only for people.
Structures and numbers are those of linux/btrfs.h and linux/btrfs_tree.h; ioctl structures are in host order, items of
trees are little-endian. The encoding of ioctl numbers is the generic one, which PowerPC, MIPS and SPARC do not share.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_WRITE, _READ = 1, 2
_MAGIC = 0x94

FIRST_INODE = 256
FIRST_FREE_ID = 256
_ROOT_TREE = 1
_QUOTA_TREE = 8
_ROOT_REF = 156
_QGROUP_INFO = 242
_QGROUP_LIMIT = 244
_LEVEL_SHIFT = 48
_READ_ONLY = 1 << 1
_BY_ID = 1 << 4
_QUOTA_ENABLE = 1
_QUOTA_ENABLE_SIMPLE = 4
_LIMIT_REFERENCED = 1
_NO_LIMIT = 2**64 - 1

_IMMUTABLE = 0x10
_APPEND_ONLY = 0x20
_NO_COPY_ON_WRITE = 0x00800000

_SEARCH_KEY = struct.Struct("=7Q4I4Q")
_SEARCH_HEADER = struct.Struct("=3Q2I")
_SEARCH_BYTES = 4096


def _number(direction: int, number: int, size: int, magic: int = _MAGIC) -> int:
    return direction << 30 | size << 16 | magic << 8 | number


_SUBVOLUME_CREATE = _number(_WRITE, 24, 4096)
_SNAPSHOT_CREATE = _number(_WRITE, 23, 4096)
_SUBVOLUME_DESTROY = _number(_WRITE, 63, 4096)
_GET_FLAGS = _number(_READ, 25, 8)
_SET_FLAGS = _number(_WRITE, 26, 8)
_TREE_SEARCH = _number(_READ | _WRITE, 17, 4096)
_INODE_LOOKUP = _number(_READ | _WRITE, 18, 4096)
_SYNC = _number(0, 8, 0)
_DEVICE_INFO = _number(_READ | _WRITE, 30, 4096)
_FILESYSTEM_INFO = _number(_READ, 31, 1024)
_QUOTA_CONTROL = _number(_READ | _WRITE, 40, 16)
_QGROUP_ASSIGN = _number(_WRITE, 41, 24)
_QGROUP_CREATE = _number(_WRITE, 42, 16)
_QGROUP_SET_LIMIT = _number(_READ, 43, 48)
_RESCAN_WAIT = _number(0, 46, 0)
_GET_ATTRIBUTES = _number(_READ, 1, struct.calcsize("l"), ord("f"))
_SET_ATTRIBUTES = _number(_WRITE, 2, struct.calcsize("l"), ord("f"))


def _call(descriptor: int, request: int, argument: bytes = b"") -> bytearray:
    # fcntl copies immutable arguments into a buffer of 1 KiB; a bytearray is handed to the kernel as it is.
    buffer = bytearray(argument)
    fcntl.ioctl(descriptor, request, buffer)
    return buffer


def _volume_arguments(name: str, source: int = 0) -> bytes:
    return struct.pack("=qQQ32s4040s", source, 0, 0, b"", os.fsencode(name))


def create_subvolume(parent: int, name: str) -> None:
    """An empty subvolume name in the directory parent (a descriptor, as everywhere here)."""
    _call(parent, _SUBVOLUME_CREATE, _volume_arguments(name))


def create_snapshot(parent: int, name: str, source: int) -> None:
    """A writable snapshot of the subvolume source; it is on disk when this returns."""
    _call(parent, _SNAPSHOT_CREATE, _volume_arguments(name, source))


def destroy_subvolume(anywhere: int, identity: int) -> None:
    """Delete a subvolume of the file system that anywhere is on, by id: needs no path to it (Linux 5.7).

    It must not hold other subvolumes. OSError EROFS if the subvolume around it is read-only, EPERM if attributes forbid
    it, EDQUOT if a quota group of the one around it is full.
    """
    _call(anywhere, _SUBVOLUME_DESTROY, struct.pack("=qQQ32sQ4032s", 0, 0, _BY_ID, b"", identity, b""))


def is_subvolume(descriptor: int) -> bool:
    return os.fstat(descriptor).st_ino == FIRST_INODE and is_btrfs(descriptor)


def is_btrfs(descriptor: int) -> bool:
    try:
        filesystem_uuid(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP):
            return False
        raise
    return True


def filesystem_uuid(descriptor: int) -> bytes:
    """The 16 bytes of the file system's id."""
    return bytes(_call(descriptor, _FILESYSTEM_INFO, bytes(1024))[16:32])


def device_bytes(descriptor: int) -> int:
    """Size of the file system on its first device."""
    answer = _call(descriptor, _DEVICE_INFO, struct.pack("=Q", 1).ljust(4096, b"\0"))
    return int(struct.unpack_from("=Q", answer, 32)[0])


def set_read_only(descriptor: int, read_only: bool) -> None:
    """Whether the subvolume can be written to."""
    (flags,) = struct.unpack("=Q", _call(descriptor, _GET_FLAGS, bytes(8)))
    wanted = flags | _READ_ONLY if read_only else flags & ~_READ_ONLY
    if wanted != flags:
        _call(descriptor, _SET_FLAGS, struct.pack("=Q", wanted))


def sync(descriptor: int) -> None:
    """Write everything of the file system to its device."""
    fcntl.ioctl(descriptor, _SYNC)


def disable_copy_on_write(descriptor: int) -> None:
    """Files made in this directory from now on are overwritten in place, without checksums (chattr +C)."""
    _change_attributes(descriptor, add=_NO_COPY_ON_WRITE)


def unlock(descriptor: int) -> None:
    """Take away the attributes that forbid deletion (chattr -i -a)."""
    _change_attributes(descriptor, remove=_IMMUTABLE | _APPEND_ONLY)


def _change_attributes(descriptor: int, add: int = 0, remove: int = 0) -> None:
    # Declared as long, but the kernel reads and writes an int at that place.
    empty = bytes(struct.calcsize("l"))
    (attributes,) = struct.unpack_from("=I", _call(descriptor, _GET_ATTRIBUTES, empty))
    wanted = (attributes | add) & ~remove
    if wanted != attributes:
        _call(descriptor, _SET_ATTRIBUTES, struct.pack("=I", wanted).ljust(len(empty), b"\0"))


def tree_of(descriptor: int) -> int:
    """Id of the subvolume that a file or directory lies in."""
    answer = _call(descriptor, _INODE_LOOKUP, struct.pack("=QQ4080s", 0, FIRST_INODE, b""))
    return int(struct.unpack_from("=Q", answer)[0])


def path_in_tree(descriptor: int, tree: int, inode: int) -> bytes:
    """Path of a directory below the root of subvolume tree; '' for the root. OSError ENAMETOOLONG above 4 KiB."""
    answer = _call(descriptor, _INODE_LOOKUP, struct.pack("=QQ4080s", tree, inode, b""))
    return bytes(answer[16:]).split(b"\0", 1)[0].rstrip(b"/")


@dataclass(frozen=True)
class Child:
    """A subvolume inside another: its id, that of the one around it, the inode of its directory there, its name."""

    identity: int
    parent: int
    directory: int
    name: bytes


def children(descriptor: int, parent: int) -> Iterator[Child]:
    """The subvolumes directly inside subvolume parent."""
    for (_objectid, _kind, identity), item in _search(descriptor, _ROOT_TREE, parent, _ROOT_REF, 0, _NO_LIMIT):
        directory, _sequence, length = struct.unpack_from("<QQH", item)
        yield Child(identity, parent, directory, item[18 : 18 + length])


def descendants(descriptor: int, top: int) -> list[Child]:
    """All subvolumes below top, each after the one it lies in."""
    found: list[Child] = []
    waiting = [top]
    while waiting:
        inside = list(children(descriptor, waiting.pop()))
        found += inside
        waiting += [child.identity for child in inside]
    return found


def enable_quota(descriptor: int, simple: bool) -> None:
    """Simple quotas (Linux 6.7, else OSError EINVAL) count an extent for the subvolume that wrote it; the others for
    each that refers to it, which costs time for every snapshot there is."""
    _call(descriptor, _QUOTA_CONTROL, struct.pack("=QQ", _QUOTA_ENABLE_SIMPLE if simple else _QUOTA_ENABLE, 0))


def wait_for_rescan(descriptor: int) -> None:
    """Until the usage that existed before quotas were enabled is counted."""
    fcntl.ioctl(descriptor, _RESCAN_WAIT)


def group_of(level: int, subvolume: int) -> int:
    """Id of a quota group, as in 1/257."""
    return level << _LEVEL_SHIFT | subvolume


def create_group(descriptor: int, group: int) -> None:
    """Idempotent."""
    try:
        _call(descriptor, _QGROUP_CREATE, struct.pack("=QQ", 1, group))
    except FileExistsError:
        return


def remove_group(descriptor: int, group: int) -> None:
    """OSError EBUSY while it counts anything, ENOENT without it, ENOTCONN without quotas."""
    _call(descriptor, _QGROUP_CREATE, struct.pack("=QQ", 0, group))


def assign_group(descriptor: int, member: int, group: int) -> None:
    """Count member's usage in group too. With simple quotas subvolumes made inside member join the same group."""
    try:
        _call(descriptor, _QGROUP_ASSIGN, struct.pack("=QQQ", 1, member, group))
    except FileExistsError:
        return


def limit_group(descriptor: int, group: int, size_bytes: int | None) -> None:
    """OSError ENOENT without the group, ENOTCONN without quotas."""
    limit = _NO_LIMIT if size_bytes is None else size_bytes
    _call(descriptor, _QGROUP_SET_LIMIT, struct.pack("=6Q", group, _LIMIT_REFERENCED, limit, 0, 0, 0))


def find_group(descriptor: int, group: int) -> tuple[int, int | None] | None:
    """Referenced bytes and their limit, as of the last commit (30 s at most); None without the group or quotas."""
    used = limit = None
    try:
        for _key, item in _search(descriptor, _QUOTA_TREE, 0, _QGROUP_INFO, group, group):
            used = int(struct.unpack_from("<QQ", item)[1])
        for _key, item in _search(descriptor, _QUOTA_TREE, 0, _QGROUP_LIMIT, group, group):
            flags, maximum = struct.unpack_from("<QQ", item)
            limit = int(maximum) if flags & _LIMIT_REFERENCED and maximum != _NO_LIMIT else None
    except FileNotFoundError:
        return None
    return None if used is None else (used, limit)


def groups(descriptor: int, level: int) -> list[int]:
    """Ids of all quota groups of a level."""
    first, last = group_of(level, 0), group_of(level + 1, 0) - 1
    try:
        return [key[2] for key, _item in _search(descriptor, _QUOTA_TREE, 0, _QGROUP_INFO, first, last)]
    except FileNotFoundError:
        return []


def _search(
    descriptor: int, tree: int, objectid: int, kind: int, first: int, last: int
) -> Iterator[tuple[tuple[int, int, int], bytes]]:
    """Items (objectid, kind, first..last) of a tree with their keys."""
    while first <= last:
        key = _SEARCH_KEY.pack(tree, objectid, objectid, first, last, 0, _NO_LIMIT, kind, kind, 4096, 0, 0, 0, 0, 0)
        answer = _call(descriptor, _TREE_SEARCH, key.ljust(_SEARCH_BYTES, b"\0"))
        count = _SEARCH_KEY.unpack_from(answer)[9]
        if count == 0:
            return
        place = _SEARCH_KEY.size
        for _unused in range(count):
            _transid, found, offset, found_kind, length = _SEARCH_HEADER.unpack_from(answer, place)
            place += _SEARCH_HEADER.size
            yield (found, found_kind, offset), bytes(answer[place : place + length])
            place += length
            first = offset + 1
