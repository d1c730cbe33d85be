# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Files of a pool: where they lie, its record and its marker. Knows no driver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .._core.errors import Conflict
from .._host.files import TEMPORARY_PREFIX, ensure_directory, read_json, write_json
from .._host.paths import Paths
from .record import SCHEMA, Presence, Recorded, parse_record, render_record

MARKER = ".tandem-pool.json"
IMAGES = "images"
CONTAINERS = "containers"
VIRTUAL_MACHINES = "virtual-machines"
VOLUMES = "custom"

# An idmapped container's root walks down to its root file system and its volumes as a stranger; images and disks are
# opened by the host's root alone.
AREA_MODES: Mapping[str, int] = {IMAGES: 0o700, CONTAINERS: 0o711, VIRTUAL_MACHINES: 0o700, VOLUMES: 0o711}


@dataclass(frozen=True)
class Layout:
    """Paths of one pool; directory is storage/NAME."""

    directory: Path

    @property
    def record(self) -> Path:
        return self.directory / "pool.json"

    @property
    def image(self) -> Path:
        return self.directory / "pool.img"

    @property
    def fstab(self) -> Path:
        return self.directory / "fstab"

    @property
    def volumes(self) -> Path:
        return self.directory / "volumes"


def layout_of(paths: Paths, name: str) -> Layout:
    return Layout(paths.pool(name))


def read_record(paths: Paths, name: str) -> Recorded | None:
    """The record of a pool, None if there is none; Conflict if it is damaged."""
    data = read_json(layout_of(paths, name).record)
    return parse_record(data, name) if data is not None else None


def write_record(paths: Paths, recorded: Recorded) -> None:
    ensure_directory(paths.root, 0o711)
    ensure_directory(paths.pools, 0o711)
    layout = layout_of(paths, recorded.name)
    ensure_directory(layout.directory, 0o711)
    write_json(layout.record, render_record(recorded))


def pool_names(paths: Paths) -> list[str]:
    if not paths.pools.is_dir():
        return []
    return sorted(path.parent.name for path in paths.pools.glob("*/pool.json"))


def marker_uuid(volumes: Path) -> str | None:
    """The id of the pool whose volumes lie in this directory, None if none do."""
    try:
        marker = read_json(volumes / MARKER)
    except Conflict:
        return ""
    return None if marker is None else str(marker.get("uuid", ""))


def write_marker(volumes: Path, recorded: Recorded) -> None:
    write_json(
        volumes / MARKER, {"schema": SCHEMA, "kind": "storage-pool", "name": recorded.name, "uuid": recorded.uuid}
    )


def observe_presence(layout: Layout, recorded: Recorded) -> Presence:
    """By the marker alone: the directory below a mount point has none, and a foreign pool has another id."""
    found = marker_uuid(layout.volumes)
    if found is None:
        return Presence.UNMOUNTED
    return Presence.MOUNTED if found == recorded.uuid else Presence.FOREIGN


def is_temporary(name: str) -> bool:
    return name.startswith(TEMPORARY_PREFIX)
