# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The effects behind the steps: make images from their sources and put them into the store."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .._host.paths import Paths
from .._spec.image import DISTRIBUTIONS
from .archive import Contents, parse_os_release, read_contents
from .disk_files import DISK_FILE
from .model import (
    ROOT_FILE,
    BuildSource,
    Current,
    Desired,
    FileSource,
    Image,
    Source,
    State,
)
from .store import ImageStore, stored_file


class ImageHostOnDisk:
    """ImageHost on this machine. The caller holds the image's lock."""

    def __init__(self, paths: Paths) -> None:
        self.store = ImageStore(paths)

    def observe(self, desired: Desired) -> Current:
        image = self.store.find(desired.name)
        return Current(
            image=image,
            source_fingerprint=self.find_source_fingerprint(desired, image),
            is_under_work=self.store.work_directory(desired.name).exists(),
            has_leftovers=self.store.has_unused(),
            users=self.store.users(image.fingerprint) if image and desired.state is State.ABSENT else (),
        )

    def find_source_fingerprint(self, desired: Desired, image: Image | None) -> str | None:
        """The digest of the wanted file; a file that looks as it did when it was imported is not read again."""
        source = desired.source
        if not isinstance(source, FileSource) or desired.state is State.ABSENT:
            return None
        from .foreign import digest_source, stamp_source

        where = f"image {desired.name}"
        # The file may be deleted once it is imported.
        is_known = image is not None and image.source == source
        if image is not None and is_known and not os.path.lexists(source.path):
            return image.fingerprint
        if image is not None and is_known and image.stamp == stamp_source(source, where):
            return image.fingerprint
        return digest_source(source, where)[0]

    def remove_leftovers(self, name: str) -> None:
        self.store.remove_leftovers(name)
        self.store.remove_unused()

    def create(self, name: str, source: Source) -> None:
        with self.store.working(name) as work:
            image = (
                self._build(name, source, work) if isinstance(source, BuildSource) else self._import(name, source, work)
            )
            self.store.commit(name, image, work)
        self.store.remove_unused()

    def set_aliases(self, name: str, aliases: Sequence[str]) -> None:
        self.store.set_aliases(self.store.require(name).fingerprint, aliases)

    def remove(self, name: str) -> None:
        image = self.store.find(name)
        if image is not None:
            self.store.set_aliases(image.fingerprint, ())
        self.store.remove_unused()

    def _build(self, name: str, source: BuildSource, work: Path) -> Image:
        from .build import build_root

        plain = build_root(source, name, work)
        with plain.open("rb") as stream:
            contents = read_contents(stream)
        image = self._with_root(self._blank(source), contents, plain, work)
        distribution = DISTRIBUTIONS[source.distribution]
        return replace(
            image,
            fingerprint=image.files[ROOT_FILE].sha256,
            os=distribution.name,
            release=source.release,
            properties={**image.properties, "variant": "default"},
        )

    def _import(self, name: str, source: FileSource, work: Path) -> Image:
        from .foreign import PLAIN, copy_source, import_copy

        where = f"image {name}"
        fingerprint, stamp = copy_source(source, work, where)
        present = self.store.find(fingerprint)
        if present is not None:
            return present
        blank = replace(self._blank(source), fingerprint=fingerprint, stamp=stamp)
        contents = import_copy(source, work, where).contents
        if contents is None:
            return replace(blank, has_disk=True, files={DISK_FILE: stored_file(work / DISK_FILE)})
        return self._with_root(blank, contents, work / PLAIN, work)

    def _with_root(self, image: Image, contents: Contents, plain: Path, work: Path) -> Image:
        from .unpack import pack_root

        pack_root(plain, work / ROOT_FILE)
        os.unlink(plain)
        release = parse_os_release(contents.os_release)
        return replace(
            image,
            os=release.get("NAME", image.os),
            release=release.get("VERSION_CODENAME") or release.get("VERSION_ID") or image.release,
            has_root=True,
            has_kernel=contents.has_kernel,
            mounts_disks=contents.mounts_disks,
            root_prefix=contents.prefix,
            unpacked_bytes=contents.bytes,
            unpacked_files=contents.files,
            files={ROOT_FILE: stored_file(work / ROOT_FILE)},
            properties={"description": release["PRETTY_NAME"]} if "PRETTY_NAME" in release else {},
        )

    def _blank(self, source: Source) -> Image:
        return Image(
            fingerprint="",
            os="unknown",
            release="unknown",
            architecture=source.architecture,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            source=source,
            has_root=False,
            has_disk=False,
            has_kernel=False,
        )
