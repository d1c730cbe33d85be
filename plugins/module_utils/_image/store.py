# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Change the images of a host: whole or absent at every moment, whoever is killed.

An image is made below a .new- name and renamed when its record is in it. Who changes what it finds in images/ holds one
short lock, which is always the last to be taken.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from .._core.errors import Conflict
from .._core.names import is_fingerprint, require_alias
from .._host.files import TEMPORARY_PREFIX, ensure_directory, sync_directory, write_json
from .._host.locks import Lock, hold
from .._host.paths import Paths
from .catalog import ImageCatalog, file_name
from .disk_files import RECORD, DiskFiles
from .model import ROOT_FILE, Image, StoredFile, render_record

_DISK_WORK = f"{TEMPORARY_PREFIX}disk"
_SHORT_SECONDS = 60
_DISK_SECONDS = 900


class ImageStore(ImageCatalog):
    """Makes, changes and removes what the catalog shows."""

    def unpack_root(self, fingerprint: str, directory: Path) -> None:
        """Fill directory (new or empty) with the image's root file system, ids 0 to 65535 as stored.

        Conflict if the image has none, the directory is in use, or its file system is full.
        """
        from .unpack import unpack_root

        image = self.require(fingerprint)
        if not image.has_root:
            raise Conflict(f"image {fingerprint[:12]} has no root file system: it serves virtual machines only")
        ensure_directory(directory, 0o755)
        unpack_root(self._paths.image(image.fingerprint) / ROOT_FILE, image, directory)

    def ensure_disk(self, fingerprint: str) -> DiskFiles:
        """Make the image's VM half unless it is there; one run makes it, others wait."""
        if not self.require(fingerprint).has_disk:
            with hold(self._paths, [Lock("image", f".disk-{fingerprint}")], _DISK_SECONDS):
                image = self.require(fingerprint)
                if not image.has_disk:
                    self._make_disk(image)
        return self.disk_files(fingerprint)

    # What follows is for the image module alone.

    def work_directory(self, name: str) -> Path:
        """Where an image is made; its presence says that a run is at work, or was when it was killed."""
        return self._paths.images / f"{TEMPORARY_PREFIX}{file_name(name)}"

    @contextmanager
    def working(self, name: str) -> Iterator[Path]:
        """A new work directory, gone afterwards whatever happens. The caller holds the image's lock."""
        ensure_directory(self._paths.images, 0o700)
        self.remove_leftovers(name)
        work = self.work_directory(name)
        # apt fetches as a user of its own in the jail; images/ itself keeps everybody else out.
        ensure_directory(work, 0o711)
        try:
            yield work
        finally:
            self.remove_leftovers(name)

    def remove_leftovers(self, name: str) -> None:
        """Remove what an interrupted run left of the image it was making."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.work_directory(name))

    def commit(self, name: str, image: Image, work: Path) -> None:
        """Give image.files, which lie in work, to the store, and let name mean the image from now on.

        An image of that fingerprint that is there already stays as it is.
        """
        with self._changing():
            if self._read(image.fingerprint, ()) is None:
                self._place(image, work)
            ensure_directory(self._paths.aliases, 0o700)
            self._link(require_alias(name), image.fingerprint)
            sync_directory(self._paths.aliases)

    def _place(self, image: Image, work: Path) -> None:
        ready = work / "image"
        ensure_directory(ready, 0o700)
        for name in image.files:
            os.rename(work / name, ready / name)
        write_json(ready / RECORD, render_record(image))
        os.rename(ready, self._paths.image(image.fingerprint))
        sync_directory(self._paths.images)

    def set_aliases(self, fingerprint: str, wanted: Iterable[str]) -> None:
        """Make wanted the image's aliases; Conflict if one belongs to another image."""
        with self._changing():
            current = self._aliases()
            taken = {alias: owner for owner, aliases in current.items() for alias in aliases}
            names = [require_alias(name) for name in wanted]
            for name in names:
                if taken.get(name, fingerprint) != fingerprint:
                    raise Conflict(
                        f"alias {name} belongs to image {taken[name][:12]}: remove that image or its alias first"
                    )
            ensure_directory(self._paths.aliases, 0o700)
            for name in names:
                self._link(name, fingerprint)
            for name in set(current.get(fingerprint, ())) - set(names):
                self._alias_path(name).unlink(missing_ok=True)
            sync_directory(self._paths.aliases)

    def has_unused(self) -> bool:
        """Whether remove_unused has anything to do."""
        if not self._unused() and not self._scraps():
            return False
        # Perhaps another run is giving a new image its name right now.
        with self._changing():
            return bool(self._unused() or self._scraps())

    def remove_unused(self) -> None:
        """Remove images without a name on which no virtual machine's disk stands, and what is half removed."""
        with self._changing():
            for scrap in self._scraps():
                shutil.rmtree(scrap) if scrap.is_dir() and not scrap.is_symlink() else scrap.unlink()
            for fingerprint in self._unused():
                # Renamed first, so that a half-removed image is never found.
                doomed = self._paths.images / f"{TEMPORARY_PREFIX}{fingerprint}"
                os.rename(self._paths.image(fingerprint), doomed)
                shutil.rmtree(doomed)
                sync_directory(self._paths.images)

    def _unused(self) -> list[str]:
        named = self._aliases()
        return [found for found in self._fingerprints() if found not in named and not self.users(found)]

    def _scraps(self) -> list[Path]:
        """Half-removed images and half-made aliases."""
        doomed = self._paths.images.glob(f"{TEMPORARY_PREFIX}*")
        halves = [path for path in doomed if is_fingerprint(path.name[len(TEMPORARY_PREFIX) :])]
        return [*halves, *self._paths.aliases.glob(f"{TEMPORARY_PREFIX}*")]

    def _make_disk(self, image: Image) -> None:
        from .disk import make_disk

        directory = self._paths.image(image.fingerprint)
        work = directory / _DISK_WORK
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(work)
        ensure_directory(work, 0o700)
        try:
            self.unpack_root(image.fingerprint, work / "root")
            made = make_disk(image, work)
            files = {**image.files, **{name: stored_file(work / name) for name in made.names}}
            for name in made.names:
                os.rename(work / name, directory / name)
            sync_directory(directory)
            complete = replace(image, has_disk=True, kernel_command_line=made.kernel_command_line, files=files)
            write_json(directory / RECORD, render_record(complete))
        finally:
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(work)

    def _link(self, alias: str, fingerprint: str) -> None:
        temporary = self._paths.aliases / f"{TEMPORARY_PREFIX}{file_name(alias)}"
        temporary.unlink(missing_ok=True)
        os.symlink(f"../{fingerprint}", temporary)
        os.replace(temporary, self._alias_path(alias))

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Short and innermost: nobody waits for another lock while holding it."""
        with hold(self._paths, [Lock("image", ".store")], _SHORT_SECONDS):
            yield


def open_store(paths: Paths) -> ImageStore:
    return ImageStore(paths)


def stored_file(path: Path) -> StoredFile:
    """Size and digest of a file, which is made durable first."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
        while chunk := stream.read(1024 * 1024):
            digest.update(chunk)
        return StoredFile(stream.tell(), digest.hexdigest())
