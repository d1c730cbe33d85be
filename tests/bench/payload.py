# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Rows about what every task pays before it does anything: bytes sent to the host, and imports there."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..integration.runner import BIN, CHECKOUT
from ..unit.imports import PLUGINS, payload, zipped_size
from .measure import Row, Sample

_ANSIBLES_OWN = "ansible.modules.ping"
_TIMED_IMPORT = "import sys, time; s = time.perf_counter(); __import__(sys.argv[1]); print(time.perf_counter() - s)"


def module_rows(rounds: int) -> Iterator[Row]:
    """Our share of each module's archive, and how long it imports from compiled code, as hosts have it in a cache."""
    ping = _import_seconds(_ANSIBLES_OWN, rounds)
    with tempfile.TemporaryDirectory() as directory:
        for path in sorted((PLUGINS / "modules").glob("*.py")):
            size = zipped_size(payload(path), Path(directory) / "payload.zip")
            yield Row("modules", f"{path.stem}: payload", Sample((size,)), unit="KiB")
            imported = _import_seconds(f"ansible_collections.tandem.machines.plugins.modules.{path.stem}", rounds)
            yield Row("modules", f"{path.stem}: imports", imported, "Ansible's ping", ping)


def _import_seconds(module: str, rounds: int) -> Sample:
    """The first round compiles."""
    found = [_import_once(module) for _unused in range(rounds + 1)]
    return Sample(tuple(found[1:]))


def _import_once(module: str) -> float:
    done = subprocess.run(
        [BIN / "python", "-c", _TIMED_IMPORT, module],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT / ".build")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)
