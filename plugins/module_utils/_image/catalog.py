# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Read the images of a host: by alias, by fingerprint, all of them. Changes nothing; store.py does.

images/ is root's alone (0700): unpacked trees with set-user-id files lie below it while a disk is made. An image is a
directory named by its fingerprint that holds a record. Aliases are links, and these links are their only place.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from .._core.errors import Conflict, InvalidRequest
from .._core.names import is_fingerprint, require_alias
from .._host.files import TEMPORARY_PREFIX, read_json
from .._host.paths import Paths
from .disk_files import RECORD, DiskFiles, find_disk_files
from .model import Image, parse_record


class ImageCatalog:
    """Names are aliases or whole fingerprints."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def find(self, name: str) -> Image | None:
        """The image of that alias or fingerprint."""
        fingerprint = name if is_fingerprint(name) else self._target(name)
        if fingerprint is None:
            return None
        return self._read(fingerprint, self._aliases().get(fingerprint, ()))

    def require(self, name: str) -> Image:
        """find, or Conflict."""
        image = self.find(name)
        if image is None:
            raise Conflict(f"image {name} does not exist: create it with tandem.machines.image")
        return image

    def all(self) -> tuple[Image, ...]:
        """All images that have a name, by name."""
        found = (self._read(fingerprint, aliases) for fingerprint, aliases in self._aliases().items())
        return tuple(sorted((image for image in found if image is not None), key=lambda image: image.aliases))

    def names(self) -> list[str]:
        """The first alias of each image that has one. No record is read."""
        return sorted(min(aliases) for aliases in self._aliases().values())

    def find_name(self, name: str, fingerprint: str) -> str | None:
        """What to call an image that was known by name: that while it means an image, be it a newer one, else what
        this image is called now, at last its fingerprint; None if it is gone. No record is read."""
        if self._target(name) is not None:
            return name
        if not (self._paths.image(fingerprint) / RECORD).exists():
            return None
        # Who asked for a fingerprint does not want what an alias may mean tomorrow.
        return name if is_fingerprint(name) else min(self._aliases().get(fingerprint, ()), default=fingerprint)

    def disk_files(self, fingerprint: str) -> DiskFiles:
        """The files of a VM half that exists; Conflict if it does not."""
        files = find_disk_files(self._paths, self.require(fingerprint).fingerprint)
        if files is None:
            raise Conflict(f"image {fingerprint[:12]} has no disk yet")
        return files

    def users(self, fingerprint: str) -> tuple[str, ...]:
        """Names of virtual machines whose disks stand on the image's disk."""
        found = []
        for path in sorted(self._paths.instances.glob("*/instance.json")):
            try:
                record = read_json(path)
            except Conflict:
                # A record that cannot be read may be that of a virtual machine: better keep than lose.
                record = {"image": fingerprint}
            if record and record.get("image") == fingerprint and record.get("type") != "container":
                found.append(path.parent.name)
        return tuple(found)

    def _read(self, fingerprint: str, aliases: Iterable[str]) -> Image | None:
        record = read_json(self._paths.image(fingerprint) / RECORD)
        return None if record is None else parse_record(record, tuple(aliases))

    def _fingerprints(self) -> list[str]:
        if not self._paths.images.is_dir():
            return []
        return sorted(path.name for path in self._paths.images.iterdir() if is_fingerprint(path.name))

    def _aliases(self) -> Mapping[str, tuple[str, ...]]:
        """Aliases by the fingerprint they mean."""
        found: dict[str, tuple[str, ...]] = {}
        if self._paths.aliases.is_dir():
            for path in sorted(self._paths.aliases.iterdir()):
                fingerprint = self._target(path.name.replace("+", "/"))
                if fingerprint is not None and not path.name.startswith(TEMPORARY_PREFIX):
                    found[fingerprint] = (*found.get(fingerprint, ()), path.name.replace("+", "/"))
        return found

    def _target(self, alias: str) -> str | None:
        try:
            target = os.readlink(self._alias_path(alias))
        except (OSError, InvalidRequest):
            return None
        fingerprint = target.rpartition("/")[2]
        return fingerprint if is_fingerprint(fingerprint) else None

    def _alias_path(self, alias: str) -> Path:
        return self._paths.aliases / file_name(alias)


def file_name(alias: str) -> str:
    """'+' cannot be part of an alias, so the name of the link can be turned back."""
    return (alias if is_fingerprint(alias) else require_alias(alias)).replace("/", "+")
