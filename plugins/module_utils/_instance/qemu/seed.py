# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The cloud-init seed of a virtual machine: a small FAT disk labelled CIDATA (cloud-init's NoCloud), made
without mounting anything."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from ..._host.run import run

_KIB = 1024
# FAT keeps two tables and a root directory; mkfs.vfat wants some clusters to place them.
_LEAST_KIB = 512


def seed_digest(files: Mapping[str, str]) -> str:
    """What tells one seed from another without opening the image."""
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()


def write_seed(path: Path, files: Mapping[str, str]) -> None:
    """Replace path by an image with the given files (name -> text), readable by root alone.

    The texts may hold secrets: they go to mcopy by a pipe, not through files.
    """
    unfinished = path.with_name(f".new-{path.name}")
    unfinished.unlink(missing_ok=True)
    texts = {name: text.encode() for name, text in files.items()}
    # Each file is rounded up to a cluster of 2 KiB at most.
    size_kib = _LEAST_KIB + 2 * sum(len(text) // _KIB + 4 for text in texts.values())
    unfinished.touch(0o600)
    with unfinished.open("r+b") as stream:
        stream.truncate(size_kib * _KIB)
    run(["mkfs.vfat", "-n", "CIDATA", "--", unfinished])
    for name, text in texts.items():
        run(["mcopy", "-i", unfinished, "-", f"::{name}"], stdin=text)
    unfinished.replace(path)
