# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What mmdebstrap is asked to do for an image. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .._core.errors import EngineError, InvalidRequest, MissingDependency
from .._spec.image import COMMON_PACKAGES, DISTRIBUTIONS
from .apt_sources import Archives, source_lines
from .guest import CLEAN_HOOK, EXCLUDED_PATHS
from .model import BuildSource

_NO_PACKAGE = re.compile(r"(?:Unable to locate package |Package ')([a-z0-9][a-z0-9+.-]*)(?:$|\n|' has no installation)")
_NOT_SIGNED = re.compile(r"is not signed|NO_PUBKEY|couldn't be verified")
_UNREACHABLE = re.compile(r"^E: Failed to fetch (\S+)\s+(.*)$", re.MULTILINE)

EARLY_FILES = "early.tar"
LATE_FILES = "late.tar"
ROOT_ARCHIVE = "root.tar"
# Makes the links bin -> usr/bin and so on, so that package usr-is-merged serves instead of usrmerge, which would
# bring all of perl with it: a sixth of the image.
_MERGED_HOOK = "/usr/share/mmdebstrap/hooks/merged-usr"


def packages(source: BuildSource) -> tuple[str, ...]:
    release = DISTRIBUTIONS[source.distribution].releases[source.release]
    own = (name.format(architecture=source.architecture) for name in release.packages)
    return tuple(sorted({*COMMON_PACKAGES, *own, *source.packages}))


def explain_failure(stderr: str, source: BuildSource, name: str) -> EngineError | None:
    """What a user can do about mmdebstrap's errors; None for those that only its own words explain."""
    missing = _NO_PACKAGE.search(stderr)
    if missing is not None:
        return InvalidRequest(
            f"image {name}: {source.distribution} {source.release} has no package {missing[1]}:"
            " correct source option packages"
        )
    if _NOT_SIGNED.search(stderr) and not _UNREACHABLE.search(stderr):
        return InvalidRequest(
            f"image {name}: the package archive is not signed by the keys this host has for it:"
            " set source option keyring to the archive's own"
        )
    unreachable = _UNREACHABLE.search(stderr)
    if unreachable is not None:
        reason = " ".join(unreachable[2].split())[:120]
        return MissingDependency(
            f"image {name}: cannot fetch {unreachable[1]} ({reason}):"
            " check the host's network and proxy, or set source option mirror"
        )
    return None


def mmdebstrap_argv(source: BuildSource, archives: Archives, apt_options: Sequence[str], directory: str) -> list[str]:
    """Arguments that leave root.tar in directory, where early.tar and late.tar lie."""
    release = DISTRIBUTIONS[source.distribution].releases[source.release]
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar"]
    argv.append(f"--architectures={source.architecture}")
    argv += [f"--aptopt={option}" for option in ('Acquire::Languages "none";', *apt_options)]
    # The tree is thrown away if the host crashes, so dpkg need not wait for the disk.
    argv += [f"--dpkgopt={option}" for option in ("force-unsafe-io", *EXCLUDED_PATHS)]
    argv.append(f"--include={','.join(packages(source))}")
    if release.is_merged_late:
        argv.append(f"--hook-dir={_MERGED_HOOK}")
    argv += [
        f"--essential-hook=tar-in {directory}/{EARLY_FILES} /",
        f"--customize-hook={CLEAN_HOOK}",
        f"--customize-hook=tar-in {directory}/{LATE_FILES} /",
        source.release,
        f"{directory}/{ROOT_ARCHIVE}",
        *source_lines(source, archives),
    ]
    return argv
