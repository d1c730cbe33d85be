# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Facts about this host that decide what can run on it. Reads only."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

from .files import read_capped
from .run import find_tool, run

_SYS_LANDLOCK_CREATE_RULESET = 444  # the same number on every architecture
_LANDLOCK_CREATE_RULESET_VERSION = 1
_VERSION = re.compile(r"[0-9]+(?:\.[0-9]+)+")
_FILE_LIMIT_BYTES = 65536


def landlock_abi() -> int:
    """The kernel's Landlock ABI version, 0 where it has none (landlock_create_ruleset(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    answer = libc.syscall(_SYS_LANDLOCK_CREATE_RULESET, None, 0, _LANDLOCK_CREATE_RULESET_VERSION)
    return max(int(answer), 0)


def has_apparmor() -> bool:
    """Whether AppArmor is enabled in the running kernel."""
    return _line("/sys/module/apparmor/parameters/enabled") == "Y"


def has_file_system(name: str) -> bool:
    """Whether the kernel has the file system now; a module that is not loaded yet does not count."""
    data = read_capped(Path("/proc/filesystems"), _FILE_LIMIT_BYTES) or b""
    return name in data.decode().split()


def seccomp_actions() -> tuple[str, ...]:
    """System call filter actions of the kernel; empty without seccomp."""
    return tuple(_line("/proc/sys/kernel/seccomp/actions_avail").split())


def os_release() -> dict[str, str]:
    """os-release(5): ID, VERSION_ID and the rest, unquoted."""
    data = (read_capped(Path("/etc/os-release").resolve(), _FILE_LIMIT_BYTES) or b"").decode("utf-8", "replace")
    pairs = (line.partition("=") for line in data.splitlines() if "=" in line and not line.startswith("#"))
    return {key: value.strip().strip("\"'") for key, _unused, value in pairs}


def tool_version(program: str, *arguments: str) -> str | None:
    """The first dotted number a program prints about itself, None if it is not installed."""
    if find_tool(program) is None:
        return None
    result = run([program, *(arguments or ("--version",))], check=False, timeout_seconds=10)
    match = _VERSION.search(result.text + result.error_text)
    return match[0] if match else "unknown"


def memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _line(path: str) -> str:
    return (read_capped(Path(path), _FILE_LIMIT_BYTES) or b"").decode().strip()
