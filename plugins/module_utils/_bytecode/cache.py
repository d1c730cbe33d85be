# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Compiled code of what Ansible ships with a task, kept on the host: a no-op task is half as long with it.

Ansible sends each module as an archive of sources, Ansible's own among them, which Python compiles anew in every
task. Imported first, this file puts an importer in front of the archive that takes compiled code from
/var/cache/tandem where it can. The code of an archive is kept in one file, named by the Python version and by the
names, sizes and checksums (CRC-32, as the archive has them) of all sources in it, so an upgrade never meets old code.

Only root's own directory is trusted, as Python trusts __pycache__. Whatever goes wrong with the cache, the task goes
on without it.
"""

from __future__ import annotations

import atexit
import binascii
import contextlib
import hashlib
import marshal
import os
import stat
import sys
from types import CodeType
from zipfile import ZipFile
from zipimport import ZipImportError, zipimporter

DIRECTORY = "/var/cache/tandem"
# One for each module and Python version; twice as many while versions of the collection change.
_KEPT_FILES = 48
_CHECKSUM_BYTES = 4
_FILE_LIMIT_BYTES = 16 * 1024 * 1024


class CodeCache:
    """Compiled modules of one archive by their full names."""

    def __init__(self, directory: str, key: str) -> None:
        self.directory = directory
        self.path = os.path.join(directory, key)
        self._known = _read(self.path) if is_trusted(directory) else {}
        self._is_changed = False

    def find(self, name: str) -> CodeType | None:
        data = self._known.get(name)
        return None if data is None else marshal.loads(data)

    def add(self, name: str, code: CodeType) -> None:
        self._known[name] = marshal.dumps(code)
        self._is_changed = True

    def keep(self) -> None:
        """Write what is new; of two tasks that do so at once the last one wins, and nothing is lost but time."""
        if not self._is_changed:
            return
        with contextlib.suppress(OSError):
            os.makedirs(self.directory, 0o700, exist_ok=True)
            if is_trusted(self.directory):
                _write(self.path, self._known)
                _remove_oldest(self.directory)


class CachingImporter(zipimporter):
    """Imports from one archive; compiles only what the cache does not have."""

    cache: CodeCache

    def get_code(self, fullname: str) -> CodeType:
        code = self.cache.find(fullname)
        if code is None:
            code = super().get_code(fullname)
            self.cache.add(fullname, code)
        return code

    def get_filename(self, fullname: str) -> str:
        """From the name alone; zipimport compiles the module to find out whether it has it as source."""
        end = f"{os.sep}__init__.py" if self.is_package(fullname) else ".py"
        return os.path.join(self.archive, fullname.replace(".", os.sep) + end)


def is_trusted(directory: str) -> bool:
    """Whether directory is a real one that only root can have written to."""
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == 0 and not found.st_mode & 0o022


def archive_key(path: str) -> str:
    """The name of the cache file for an archive."""
    with ZipFile(path) as archive:
        # Ansible writes this one for each run, with the path of the archive in it; nothing imports it again.
        entries = [entry for entry in archive.infolist() if entry.filename != "sitecustomize.py"]
    described = repr(sorted((entry.filename, entry.file_size, entry.CRC) for entry in entries))
    digest = hashlib.sha256(described.encode()).hexdigest()[:40]
    return f"{sys.implementation.cache_tag}-{sys.hexversion:x}-{digest}"


def install(archive: str, cache: CodeCache) -> None:
    """Let all further imports from the archive go through the cache."""
    importer = type("Importer", (CachingImporter,), {"cache": cache})

    def hook(path: str) -> zipimporter:
        if path != archive and not path.startswith(archive + os.sep):
            raise ZipImportError(f"{path} is not in {archive}", path=path)
        found: zipimporter = importer(path)
        return found

    sys.path_hooks.insert(0, hook)
    for path in list(sys.path_importer_cache):
        if path == archive or path.startswith(archive + os.sep):
            del sys.path_importer_cache[path]
    atexit.register(cache.keep)


def install_for(loader: object) -> None:
    """Install for the archive that a module came from; nothing happens if it did not, or without root's rights."""
    if isinstance(loader, zipimporter) and os.geteuid() == 0:
        with contextlib.suppress(OSError, ValueError):
            install(loader.archive, CodeCache(DIRECTORY, archive_key(loader.archive)))


def _read(path: str) -> dict[str, bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return {}
    with os.fdopen(descriptor, "rb") as stream:
        data = stream.read(_FILE_LIMIT_BYTES)
    checksum, content = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
    if checksum != _checksum(content):
        return {}
    known = marshal.loads(content)
    return known if isinstance(known, dict) else {}


def _write(path: str, known: dict[str, bytes]) -> None:
    content = marshal.dumps(known)
    temporary = f"{path}.{os.getpid()}"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(_checksum(content) + content)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def _checksum(content: bytes) -> bytes:
    return binascii.crc32(content).to_bytes(_CHECKSUM_BYTES, "big")


def _remove_oldest(directory: str) -> None:
    """Keep the files that were written last, and no temporary file of a task that was killed."""
    with os.scandir(directory) as entries:
        found = sorted(entries, key=lambda entry: entry.stat(follow_symlinks=False).st_mtime, reverse=True)
    for entry in found[_KEPT_FILES:]:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(entry.path)


install_for(globals().get("__loader__"))
