# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Which control group layout this host has, and groups of our own in it."""

from __future__ import annotations

import contextlib
import os
from functools import lru_cache
from pathlib import Path

from .._core.errors import Conflict
from .process import Process

CGROUP_ROOT = Path("/sys/fs/cgroup")


@lru_cache(maxsize=1)
def cgroup_version() -> int:
    """2 where the unified hierarchy carries the controllers, 1 otherwise (also hybrid)."""
    return 2 if (CGROUP_ROOT / "cgroup.controllers").exists() else 1


def read_item(relative: str, item: str) -> str:
    """Content of the control file ITEM (such as memory.max) of group RELATIVE, stripped; empty without it."""
    try:
        return _item_path(relative, item).read_text().strip()
    except OSError:
        return ""


def write_item(relative: str, item: str, value: str) -> None:
    """Set a control file; Conflict with the kernel's reason if it refuses the value."""
    try:
        _item_path(relative, item).write_text(value)
    except OSError as error:
        raise Conflict(f"control group {relative}: {item} cannot be set to {value}: {error.strerror}") from None


def _item_path(relative: str, item: str) -> Path:
    if cgroup_version() == 2:
        return CGROUP_ROOT / relative / item
    return CGROUP_ROOT / item.partition(".")[0] / relative / item


def usable_cpus() -> tuple[int, ...]:
    """Numbers of the CPUs that control groups of ours can be given: those of the group around all of them. Unlike
    the affinity of this process, they do not depend on who runs the module."""
    for name in ("cpuset.cpus.effective", "cpuset/cpuset.effective_cpus", "cpuset/cpuset.cpus"):
        with contextlib.suppress(OSError):
            found = parse_cpu_list((CGROUP_ROOT / name).read_text().strip())
            if found:
                return found
    return parse_cpu_list(Path("/sys/devices/system/cpu/online").read_text().strip())


def parse_cpu_list(text: str) -> tuple[int, ...]:
    """The kernel's list format: 0-1,3."""
    numbers: list[int] = []
    for part in filter(None, text.split(",")):
        first, _unused, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return tuple(numbers)


def find_groups(relative: str) -> list[Path]:
    """Every directory RELATIVE below the mounted hierarchies, deepest first."""
    bases = [CGROUP_ROOT] if cgroup_version() == 2 else [path for path in CGROUP_ROOT.iterdir() if path.is_dir()]
    found: list[Path] = []
    for base in bases:
        top = base / relative
        if top.is_dir() and not top.is_symlink():
            found += [Path(directory) for directory, _unused, _unused in os.walk(top, topdown=False)]
    return found


def release_frozen(relative: str, timeout_seconds: float) -> None:
    """On version 1, let processes below RELATIVE end that were killed while frozen; TimedOut."""
    found: list[Process | None] = []
    for path in find_groups(relative):
        # liblxc may be removing it; other hierarchies have no such file.
        with contextlib.suppress(OSError):
            pids = (path / "cgroup.procs").read_text().split()
            (path / "freezer.state").write_text("THAWED")
            found += [Process.of(int(pid)) for pid in pids]
    for process in filter(None, found):
        process.wait(timeout_seconds)


def remove_groups(relative: str) -> None:
    """Remove the empty groups RELATIVE and below from all hierarchies; a group in use is left alone."""
    for path in find_groups(relative):
        with contextlib.suppress(OSError):
            path.rmdir()
