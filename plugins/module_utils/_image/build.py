# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Build the root file system of a Debian or Ubuntu release with mmdebstrap.

It runs in an open jail (jail.py): maintainer scripts that were written for root run as a stranger to the host, and a
kill takes its processes and mounts with it.
"""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from .._core.errors import CommandFailed, MissingDependency, NotSupported
from .._host.files import read_capped, write_atomic
from .._host.run import find_tool, require_tool, run
from .._spec.image import DISTRIBUTIONS
from .apt_sources import (
    AptEntry,
    Archives,
    choose_archives,
    fetching_options,
    parse_deb822,
    parse_one_line,
    render_guest_sources,
)
from .architecture import find_architecture
from .archive import parse_os_release
from .guest import GuestFile, early_files, late_files
from .jail import OPEN_WORK, run_open
from .model import BuildSource
from .recipe import EARLY_FILES, LATE_FILES, ROOT_ARCHIVE, explain_failure, mmdebstrap_argv

_SOURCES_LIMIT_BYTES = 1024 * 1024
_APT_DIRECTORY = Path("/etc/apt")
_WALL_SECONDS = 1800
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")


def build_root(source: BuildSource, name: str, work: Path) -> Path:
    """Build into work (0711, below a root-only directory); the plain tar of the root file system."""
    if source.architecture != find_architecture(os.uname().machine):
        raise NotSupported(f"image {name}: {source.architecture} can be built only on a host of that architecture")
    require_tool("mmdebstrap")
    archives = choose_archives(source, _host_release(), _host_entries())
    _require_keyring(source, archives, name)
    _write_tar(work / EARLY_FILES, early_files())
    _write_tar(work / LATE_FILES, late_files(source.distribution, render_guest_sources(source, archives)))
    argv = mmdebstrap_argv(source, archives, _apt_options(), OPEN_WORK)
    proxies = {key: os.environ[key] for key in _PROXIES if key in os.environ}
    try:
        run_open(argv, work, wall_seconds=_WALL_SECONDS, TMPDIR=OPEN_WORK, **proxies)
    except CommandFailed as error:
        said = "\n".join([line for line in error.stderr.splitlines() if line.startswith("E:")][:4])
        short = CommandFailed(error.argv[:1], error.status, said or error.stderr)
        raise explain_failure(error.stderr, source, name) or short from None
    return work / ROOT_ARCHIVE


def _require_keyring(source: BuildSource, archives: Archives, name: str) -> None:
    if Path(archives.keyring).is_file():
        return
    package = DISTRIBUTIONS[source.distribution].keyring_package
    raise MissingDependency(
        f"image {name}: keyring {archives.keyring} is not on this host: install package {package},"
        " or name another file in source option keyring"
    )


def _host_release() -> Mapping[str, str]:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        data = _read(Path(os.path.realpath(path)))
        if data:
            return parse_os_release(data)
    return {}


def _host_entries() -> Iterable[AptEntry]:
    yield from parse_one_line(_read(_APT_DIRECTORY / "sources.list"))
    directory = _APT_DIRECTORY / "sources.list.d"
    for path in sorted(directory.iterdir()) if directory.is_dir() else ():
        if path.suffix == ".sources":
            yield from parse_deb822(_read(path))
        elif path.suffix == ".list":
            yield from parse_one_line(_read(path))


def _read(path: Path) -> str:
    return (read_capped(path, _SOURCES_LIMIT_BYTES) or b"").decode("utf-8", "replace")


def _apt_options() -> tuple[str, ...]:
    if find_tool("apt-config") is None:
        return ()
    return fetching_options(run(["apt-config", "dump"]).text)


def _write_tar(path: Path, files: Mapping[str, GuestFile]) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, file in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.mode = file.mode
            member.mtime = int(time.time())
            data = file.text.encode()
            if file.target is None:
                member.size = len(data)
            else:
                member.type = tarfile.SYMTYPE
                member.linkname = file.target
            archive.addfile(member, io.BytesIO(data) if file.target is None else None)
    write_atomic(path, buffer.getvalue())
