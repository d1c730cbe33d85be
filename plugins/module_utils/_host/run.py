# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The only place that starts processes: short helpers here, long-lived ones in supervisor.py through spawn().

Helpers get a fixed environment, argv lists, a deadline, capped output and die with this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .._core.errors import CommandFailed, MissingDependency, TimedOut
from .priority import restore_priority

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT: Mapping[str, str] = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"}
_OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024
_PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)

# Debian and Ubuntu packages, so that a missing tool is named with its remedy.
PACKAGES: Mapping[str, str] = {
    "btrfs": "btrfs-progs",
    "mkfs.btrfs": "btrfs-progs",
    "dnsmasq": "dnsmasq-base",
    "nft": "nftables",
    "ip": "iproute2",
    "bridge": "iproute2",
    "lxc-start": "lxc",
    "lxc-attach": "lxc",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mcopy": "mtools",
    "mmd": "mtools",
    "sfdisk": "fdisk",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "setpriv": "util-linux",
    "unsquashfs": "squashfs-tools",
    "sqfs2tar": "squashfs-tools-ng",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "zstd": "zstd",
    "xz": "xz-utils",
    "losetup": "mount",
}


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What a finished program left: exit status (negative: minus the signal), stdout and stderr as bytes."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        return self.stdout.decode("utf-8", "replace")

    @property
    def error_text(self) -> str:
        return self.stderr.decode("utf-8", "replace")

    def json(self) -> Any:
        """Parsed stdout; an empty answer is an empty list, as ip -j prints for nothing."""
        return json.loads(self.stdout) if self.stdout.strip() else []


def find_tool(name: str) -> str | None:
    """Absolute path of a program on the fixed search path, or None."""
    return shutil.which(name, path=_PATH)


def require_tool(name: str) -> str:
    """Absolute path of a program, else MissingDependency with the package that has it."""
    path = find_tool(name)
    if path is None:
        package = PACKAGES.get(name, name)
        raise MissingDependency(
            f"{name} is not installed on this host: install package {package} (role tandem.machines.host does)"
        )
    return path


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    stdin: bytes | int | None = None,
    stdout: int | None = None,
    check: bool = True,
    timeout_seconds: float = 60,
    environment: Mapping[str, str] | None = None,
    pass_fds: Sequence[int] = (),
    cwd: str | None = None,
    prepare: Callable[[], None] | None = None,
) -> Result:
    """Run a program to its end and return what it left.

    argv[0] is looked up on a fixed path. stdin is bytes or a descriptor; stdout may be a descriptor.
    prepare runs in the child before exec (namespaces, limits). Raises CommandFailed for a non-zero
    status unless check is false, TimedOut at the deadline, MissingDependency without the program.
    """
    command = [require_tool(os.fspath(argv[0])), *(os.fspath(word) for word in argv[1:])]
    process = subprocess.Popen(
        command,
        stdin=stdin if isinstance(stdin, int) else subprocess.PIPE if stdin is not None else subprocess.DEVNULL,
        stdout=stdout if stdout is not None else subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**ENVIRONMENT, **(environment or {})},
        cwd=cwd or "/",
        pass_fds=tuple(pass_fds),
        start_new_session=True,
        preexec_fn=_child_setup(prepare),
    )
    try:
        out, err = process.communicate(stdin if isinstance(stdin, bytes) else None, timeout=timeout_seconds)
    except subprocess.TimeoutExpired:
        _kill_group(process)
        raise TimedOut(f"{command[0]} to finish", timeout_seconds) from None
    except BaseException:
        _kill_group(process)
        raise
    result = Result(process.returncode, (out or b"")[:_OUTPUT_LIMIT_BYTES], (err or b"")[:_OUTPUT_LIMIT_BYTES])
    if check and result.status != 0:
        raise CommandFailed(command, result.status, result.error_text)
    return result


@contextmanager
def events(argv: Sequence[str]) -> Iterator[Callable[[float], bool]]:
    """Run a program that prints a line for each event, such as ip monitor, as long as the block lasts.

    Gives a function that blocks until something was printed or the given seconds have passed; whether
    something was.
    """
    command = [require_tool(argv[0]), *argv[1:]]
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=dict(ENVIRONMENT),
        cwd="/",
        start_new_session=True,
        preexec_fn=_child_setup(None),
    )
    if not (process.stdout is not None):
        raise AssertionError()
    output = process.stdout

    def wait(seconds: float) -> bool:
        ready, _unused, _unused = select.select([output], [], [], max(seconds, 0))
        return bool(ready) and bool(os.read(output.fileno(), 65536))

    try:
        yield wait
    finally:
        _kill_group(process)
        output.close()


def _child_setup(prepare: Callable[[], None] | None) -> Callable[[], None]:
    def setup() -> None:
        # A helper whose parent is killed must not go on changing the host.
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        restore_priority()
        if prepare is not None:
            prepare()

    return setup


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
