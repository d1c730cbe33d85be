# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The jail: run a tool over bytes that somebody else made. Knows namespaces and limits, no archive format.

What it gives. The tool runs as user 0 of a user namespace of its own whose ids exist nowhere else on the host, so
the host's root files, other people's processes and devices are those of a stranger to it. Its one directory is
id-mapped: what it creates as 0 to 65535 is stored as 0 to 65535, which is what containers need. In a *closed* jail the
whole file system is that directory (/work) and a read-only /usr; there is no network, no /proc, no /dev, no other
process, and no capability but those for changing owners and modes of its own files. Bytes per file, CPU time, memory,
open files and wall time are limited. An *open* jail sees the host's files as a stranger and keeps its network and the
capabilities of its own namespace: for building from a distribution's signed packages.

Where the file system cannot be id-mapped (ZFS before 2.2, NFS, Linux before 5.12) the namespace maps ids to
themselves: everything else stays, but then only the mount namespace keeps the tool from files of the host's root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from .._core.errors import CommandFailed, NotSupported
from .._host import namespaces
from .._host.run import Result, require_tool, run

# Ids that are handed to the kernel while a tool runs and are never stored: far above /etc/subuid's ranges and
# outside those systemd uses (its "UIDs and GIDs" page), below 2^31, which some tools read as negative.
JAIL_BASE = 2_100_000_000
JAIL_COUNT = 65536

WORK = "/work"
OPEN_WORK = "/mnt"

_SETUP_FAILED = 125
_SETUP_MARK = "tandem jail: "
# What tar and mke2fs need to give files away and to read them all; no CAP_MKNOD, no CAP_SYS_ADMIN.
_CAPABILITIES = "-all,+chown,+dac_override,+fowner,+fsetid,+setfcap"
_CANNOT_IDMAP = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)


@dataclass(frozen=True)
class Limits:
    """Per process of the jail, but wall_seconds, which is for all of it."""

    file_bytes: int = 64 * 1024**3
    cpu_seconds: int = 600
    memory_bytes: int = 2 * 1024**3
    open_files: int = 256
    wall_seconds: float = 900


def run_closed(
    argv: Sequence[str],
    directory: Path | None,
    *,
    stdin: int | None = None,
    stdout: int | None = None,
    limits: Limits | None = None,
) -> Result:
    """Run argv with nothing but directory, at /work (None: nothing at all); raises like run()."""
    limits = limits or Limits()
    prefix = ["unshare", "--pid", "--net", "--ipc", "--uts", "--fork", "--kill-child", "--"]
    prefix += [
        "setpriv",
        "--no-new-privs",
        "--bounding-set",
        _CAPABILITIES,
        "--inh-caps=-all",
        "--pdeathsig",
        "KILL",
        "--",
    ]
    return _run([*prefix, *argv], lambda: _enter_closed(directory, limits), argv, stdin, stdout, limits.wall_seconds)


def run_open(argv: Sequence[str], directory: Path, *, wall_seconds: float, **environment: str) -> Result:
    """Run argv with directory at /mnt, the host's files readable to strangers, and its network; raises like run()."""
    prefix = ["unshare", "--pid", "--mount", "--ipc", "--uts", "--fork", "--kill-child", "--mount-proc", "--"]
    return _run([*prefix, *argv], lambda: _enter_open(directory), argv, None, None, wall_seconds, environment)


def _run(
    command: Sequence[str],
    enter: Callable[[], None],
    shown: Sequence[str],
    stdin: int | None,
    stdout: int | None,
    wall_seconds: float,
    environment: dict[str, str] | None = None,
) -> Result:
    require_tool(shown[0])
    result = run(
        command,
        stdin=stdin,
        stdout=stdout,
        check=False,
        timeout_seconds=wall_seconds,
        environment=environment,
        prepare=lambda: _guarded(enter),
    )
    if result.status == _SETUP_FAILED and result.error_text.startswith(_SETUP_MARK):
        raise NotSupported(f"{shown[0]} cannot be confined on this host: {result.error_text[len(_SETUP_MARK) :]}")
    if result.status != 0:
        raise CommandFailed(shown, result.status, result.error_text)
    return result


def _guarded(enter: Callable[[], None]) -> None:
    """Runs between fork and exec, where an exception's text would be lost: say it on stderr."""
    try:
        enter()
    except BaseException as error:
        _give_up(str(error))


def _give_up(text: str) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, f"{_SETUP_MARK}{text}".encode("utf-8", "replace"))
    os._exit(_SETUP_FAILED)


def _enter_closed(directory: Path | None, limits: Limits) -> None:
    user_namespace, tree = _isolate(directory)
    namespaces.mount("tmpfs", OPEN_WORK, "tmpfs", namespaces.MS_NOSUID | namespaces.MS_NODEV, "mode=0755,size=1m")
    _bind_system(OPEN_WORK)
    if tree is not None:
        os.mkdir(f"{OPEN_WORK}{WORK}", 0o755)
        namespaces.attach_mount(tree, f"{OPEN_WORK}{WORK}")
    namespaces.pivot_to(OPEN_WORK)
    flags = namespaces.MS_REMOUNT | namespaces.MS_BIND | namespaces.MS_RDONLY
    namespaces.mount("", "/", "", flags | namespaces.MS_NOSUID | namespaces.MS_NODEV)
    _become_stranger(user_namespace)
    os.chdir(WORK if tree is not None else "/")
    _limit(limits)


def _enter_open(directory: Path) -> None:
    user_namespace, tree = _isolate(directory)
    if tree is not None:
        namespaces.attach_mount(tree, OPEN_WORK)
    _become_stranger(user_namespace)
    os.chdir(OPEN_WORK)
    os.umask(0o022)


def _isolate(directory: Path | None) -> tuple[int, int | None]:
    """A mount namespace nobody else sees; the user namespace to enter and the detached mount of directory."""
    namespaces.unshare(namespaces.CLONE_NEWNS)
    namespaces.mount("", "/", "", namespaces.MS_REC | namespaces.MS_PRIVATE)
    user_namespace = namespaces.create_user_namespace(JAIL_BASE, JAIL_COUNT)
    if directory is None:
        return user_namespace, None
    try:
        return user_namespace, namespaces.clone_mount(str(directory), user_namespace)
    except OSError as error:
        if error.errno not in _CANNOT_IDMAP:
            raise
    identity = namespaces.create_user_namespace(0, JAIL_COUNT)
    return identity, namespaces.clone_mount(str(directory), None)


def _bind_system(root: str) -> None:
    """/usr, read-only, and the links or directories beside it that programs and the loader are found by."""
    for name in ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        source, target = f"/{name}", f"{root}/{name}"
        if os.path.islink(source):
            os.symlink(os.readlink(source), target)
        elif os.path.isdir(source):
            os.mkdir(target, 0o755)
            namespaces.mount(source, target, "", namespaces.MS_BIND)
            flags = namespaces.MS_REMOUNT | namespaces.MS_BIND | namespaces.MS_RDONLY
            namespaces.mount("", target, "", flags | namespaces.MS_NOSUID | namespaces.MS_NODEV)


def _become_stranger(user_namespace: int) -> None:
    namespaces.enter(user_namespace, namespaces.CLONE_NEWUSER)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # Changing ids has cleared what _host/run.py asked the kernel for.
    namespaces.die_with_parent()


def _limit(limits: Limits) -> None:
    for kind, value in (
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CORE, 0),
    ):
        _unused, hard = resource.getrlimit(kind)
        # A limit that is already lower cannot and need not be raised.
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))
