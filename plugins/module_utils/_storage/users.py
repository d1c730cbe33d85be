# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Who refers to a pool: what lies in it, and the records of instances and profiles. Reads only."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .._core.errors import Conflict
from .._host.files import read_json
from .._host.paths import Paths
from .record import Contents


def users_in(contents: Contents) -> tuple[str, ...]:
    """What in a pool is somebody's: everything but cached images."""
    instances = {f"instance {name}" for name in (*contents.containers, *contents.virtual_machines)}
    return (*sorted(instances), *(f"volume {name}" for name in contents.volumes))


def find_instance_users(paths: Paths, pool: str) -> tuple[str, ...]:
    """Instances whose record names the pool."""
    records = sorted(paths.instances.glob("*/instance.json")) if paths.instances.is_dir() else []
    return tuple(f"instance {path.parent.name}" for path in records if _names_pool(path, pool))


def find_profile_users(paths: Paths, pool: str) -> tuple[str, ...]:
    """Profiles with a disk in the pool: they do not hold it, an instance made from them does."""
    records = sorted(paths.profiles.glob("*.json")) if paths.profiles.is_dir() else []
    return tuple(f"profile {path.stem}" for path in records if _names_pool(path, pool))


def _names_pool(path: Path, pool: str) -> bool:
    """A record that cannot be read may name it: then it counts."""
    try:
        record = read_json(path)
    except Conflict:
        return True
    return record is not None and (record.get("pool") == pool or pool in _pools_of(record))


def _pools_of(record: dict[str, Any]) -> Iterator[str]:
    for key in ("devices", "expanded_devices"):
        devices = record.get(key)
        for device in devices.values() if isinstance(devices, dict) else ():
            if isinstance(device, dict) and device.get("type") == "disk":
                yield str(device.get("pool"))
