# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""System calls for namespaces and id-mapped mounts that Python 3.9 does not wrap. No policy, no paths of ours."""

from __future__ import annotations

import ctypes
import os
import signal
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
_MNT_DETACH = 0x2

MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 0x1
_OPEN_TREE_CLOEXEC = 0o2000000
_MOVE_MOUNT_F_EMPTY_PATH = 0x4
_MOUNT_ATTR_IDMAP = 0x100000

_PR_SET_PDEATHSIG = 1
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
# One table for all architectures since Linux 5.1.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_MOUNT_SETATTR = 442

_libc = ctypes.CDLL(None, use_errno=True)


def _require(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _syscall(what: str, number: int, *arguments: object) -> int:
    return _require(int(_libc.syscall(ctypes.c_long(number), *arguments)), what)


def unshare(flags: int) -> None:
    _require(_libc.unshare(ctypes.c_int(flags)), "unshare")


def enter(descriptor: int, flags: int) -> None:
    """setns(2)."""
    _require(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(flags)), "setns")


def die_with_parent() -> None:
    """Ask for SIGKILL when the parent ends; the kernel forgets it at each change of credentials."""
    _require(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _require(result, f"mount {target}")


def pivot_to(path: str) -> None:
    """Make path (a mount point) the root directory and let go of everything outside it."""
    os.chdir(path)
    # Both arguments the same: the old root ends up under the new one, pivot_root(2) describes the trick.
    _syscall("pivot_root", _SYS_PIVOT_ROOT[os.uname().machine], b".", b".")
    detach(".")
    os.chdir("/")


def detach(path: str) -> None:
    """Take the mount at path out of the tree; it ends when nothing uses it any more."""
    _require(_libc.umount2(path.encode(), ctypes.c_int(_MNT_DETACH)), f"umount {path}")


def create_user_namespace(base: int, count: int) -> int:
    """Descriptor of a new user namespace in which 0 to count-1 are the host's base to base+count-1."""
    entered, entered_writer = os.pipe()
    keep_reader, keep = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(entered)
            os.close(keep)
            unshare(CLONE_NEWUSER)
            os.write(entered_writer, b"!")
            os.read(keep_reader, 1)
        finally:
            os._exit(0)
    os.close(entered_writer)
    os.close(keep_reader)
    try:
        if os.read(entered, 1) != b"!":
            raise OSError("this host does not allow new user namespaces (sysctl user.max_user_namespaces)")
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{child}/{name}", "w") as stream:
                stream.write(f"0 {base} {count}\n")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(entered)
        os.close(keep)
        os.waitpid(child, 0)


def clone_mount(path: str, user_namespace: int | None, attributes: int = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV) -> int:
    """A detached bind mount of path, id-mapped by user_namespace unless None; attributes as in mount_setattr(2),
    by default without set-user-id and devices."""
    flags = ctypes.c_uint(_OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC)
    tree = _syscall(f"open_tree {path}", _SYS_OPEN_TREE, ctypes.c_int(_AT_FDCWD), path.encode(), flags)
    if user_namespace is not None:
        attributes |= _MOUNT_ATTR_IDMAP
    # struct mount_attr: attr_set, attr_clr, propagation, userns_fd.
    wanted = struct.pack("=QQQQ", attributes, 0, 0, user_namespace or 0)
    try:
        _syscall(
            f"mount_setattr {path}",
            _SYS_MOUNT_SETATTR,
            ctypes.c_int(tree),
            b"",
            ctypes.c_uint(_AT_EMPTY_PATH),
            wanted,
            ctypes.c_size_t(len(wanted)),
        )
    except OSError:
        os.close(tree)
        raise
    return tree


def attach_mount(tree: int, target: str) -> None:
    """Attach a detached mount at target and close its descriptor."""
    try:
        _syscall(
            f"move_mount {target}",
            _SYS_MOVE_MOUNT,
            ctypes.c_int(tree),
            b"",
            ctypes.c_int(_AT_FDCWD),
            target.encode(),
            ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH),
        )
    finally:
        os.close(tree)
