# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What mmdebstrap is asked to do for an image. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from .._spec.image import COMMON_PACKAGES, DISTRIBUTIONS
from .apt_sources import Archives, source_lines
from .guest import CLEAN_HOOK, EXCLUDED_PATHS
from .model import BuildSource

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


def mmdebstrap_argv(source: BuildSource, archives: Archives, apt_options: Sequence[str], directory: str) -> list[str]:
    """Arguments that leave root.tar in directory, where early.tar and late.tar lie."""
    release = DISTRIBUTIONS[source.distribution].releases[source.release]
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=tar"]
    argv += [f"--architectures={source.architecture}", f"--keyring={archives.keyring}"]
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
