# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The record of a pool as JSON, both directions, and the small values of an open pool. Pure: no I/O.

Apart from model.py, since every run that only uses a pool compiles this file, and few that one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from .._core.errors import Conflict, InvalidRequest
from .._core.kinds import Work
from .._core.options import Config
from .._core.values import parse_positive_size, render_size
from .._spec.storage import STORAGE_POOL_CONFIG

SCHEMA = 1


class Backing(str, Enum):
    """What a pool lies on. PLAIN is the directory volumes/ itself, DIRECTORY one that the user gave."""

    LOOP = "loop"
    BLOCK = "block"
    DIRECTORY = "directory"
    PLAIN = "plain"


class Presence(str, Enum):
    """What lies in a pool's directory volumes/: its own volumes, nothing, or those of something else."""

    MOUNTED = "mounted"
    UNMOUNTED = "unmounted"
    FOREIGN = "foreign"


@dataclass(frozen=True)
class Recorded:
    """The record of a pool. size_bytes is the loop file's size as chosen at creation, config.size given or not."""

    name: str
    uuid: str
    driver: str
    backing: Backing
    config: Config = field(default_factory=dict)
    description: str = ""
    work: Work | None = None
    size_bytes: int | None = None
    is_source_ours: bool = False

    @property
    def source(self) -> str | None:
        source = self.config.get("source")
        return None if source is None else str(source)

    @property
    def mount_options(self) -> str:
        return str(STORAGE_POOL_CONFIG.get(self.config, "btrfs.mount_options"))


@dataclass(frozen=True)
class Space:
    total_bytes: int
    used_bytes: int


@dataclass(frozen=True)
class Usage:
    """What a volume takes and what it may take, None if it is not known or not limited."""

    used_bytes: int | None
    total_bytes: int | None = None


@dataclass(frozen=True)
class Contents:
    """Names of whole volumes; images by fingerprint. Unfinished ones are not listed."""

    images: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    virtual_machines: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()


def render_record(recorded: Recorded) -> dict[str, Any]:
    volatile = {"backing": recorded.backing.value, "source.created": "true" if recorded.is_source_ours else "false"}
    if recorded.size_bytes is not None:
        volatile["size"] = render_size(recorded.size_bytes)
    return {
        "schema": SCHEMA,
        "kind": "storage-pool",
        "name": recorded.name,
        "uuid": recorded.uuid,
        "driver": recorded.driver,
        "work": recorded.work.value if recorded.work else None,
        "config": STORAGE_POOL_CONFIG.render(recorded.config),
        "description": recorded.description,
        "volatile": volatile,
    }


def parse_record(data: Mapping[str, Any], name: str) -> Recorded:
    """A record from its JSON; Conflict if it is damaged or was written by a newer version."""
    if data.get("schema") != SCHEMA:
        raise Conflict(
            f"storage pool {name}: its record has schema {data.get('schema')!r} and this collection reads "
            f"{SCHEMA}: upgrade it"
        )
    try:
        volatile = data["volatile"]
        return Recorded(
            name=name,
            uuid=str(data["uuid"]),
            driver=str(data["driver"]),
            backing=Backing(volatile["backing"]),
            config=STORAGE_POOL_CONFIG.parse(data["config"], f"record of storage pool {name}"),
            description=str(data["description"]),
            work=Work(data["work"]) if data["work"] else None,
            size_bytes=parse_positive_size(volatile["size"]) if "size" in volatile else None,
            is_source_ours=volatile.get("source.created") == "true",
        )
    except (KeyError, TypeError, ValueError, InvalidRequest) as error:
        raise Conflict(
            f"storage pool {name}: its record is damaged ({error}): restore storage/{name}/pool.json"
        ) from None
