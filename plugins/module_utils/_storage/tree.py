# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Directory trees of guests: copy, remove and measure them without trusting anything in them.

By coreutils: they descend by descriptors without following links, to any depth, where Python's shutil recurses.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from .._core.errors import CommandFailed
from .._host.run import find_tool, run

_TREE_SECONDS = 1800


def copy_tree(source: Path, target: Path) -> None:
    """Copy a directory as target, which must not exist; blocks are shared where the file system can."""
    argv: Sequence[str | Path] = [
        "cp",
        "--archive",
        "--reflink=auto",
        "--one-file-system",
        "--no-target-directory",
        "--",
        source,
        target,
    ]
    run(argv, timeout_seconds=_TREE_SECONDS)


def remove_tree(path: Path) -> None:
    """Remove a directory with everything in it, immutable files too; nothing beyond a mount point in it.

    Nothing happens if it is gone already.
    """
    if not os.path.lexists(path):
        return
    argv: Sequence[str | Path] = ["rm", "--recursive", "--force", "--one-file-system", "--", path]
    result = run(argv, check=False, timeout_seconds=_TREE_SECONDS)
    if result.status == 0:
        return
    if os.strerror(errno.EPERM) in result.error_text and find_tool("chattr") is not None:
        run(["chattr", "-R", "-f", "-i", "-a", "--", path], check=False, timeout_seconds=_TREE_SECONDS)
    # Also for a helper of a killed run, which dies with it but may have added a file while we were removing.
    result = run(argv, check=False, timeout_seconds=_TREE_SECONDS)
    if result.status != 0:
        raise CommandFailed([os.fspath(word) for word in argv], result.status, result.error_text)


def tree_bytes(path: Path) -> int:
    """Bytes that a directory takes on its file system, hard links counted once."""
    argv: Sequence[str | Path] = ["du", "--summarize", "--block-size=1", "--one-file-system", "--", path]
    return int(run(argv, timeout_seconds=_TREE_SECONDS).text.split("\t", 1)[0])


def write_out(path: Path) -> None:
    """Make everything written to the file system of path durable."""
    run(["sync", "--file-system", "--", path], timeout_seconds=_TREE_SECONDS)
