# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The one file that imports lxc: liblxc with the path made explicit and refusals raised.

liblxc reports, stops, freezes and waits here; starting goes through a freshly executed lxc-start
(driver.py), and liblxc's own create, clone, snapshot and destroy are never used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..._core.errors import LxcError
from ..._host.distribution import import_distribution_module
from ..._host.files import read_capped

_LOG_LIMIT_BYTES = 16 * 1024 * 1024


def _import_lxc() -> Any:
    return import_distribution_module("lxc", "python3-lxc", native="_lxc")


def version() -> str:
    """liblxc's version, such as 5.0.2."""
    return str(_import_lxc().version)


class Container:
    """One container of ours: name below the lxcpath directory that holds its config."""

    def __init__(self, name: str, lxcpath: Path) -> None:
        self._handle = _import_lxc().Container(name, str(lxcpath))
        self._log = lxcpath / name / "lxc.log"

    @property
    def state(self) -> str:
        """liblxc's word: STOPPED, STARTING, RUNNING, STOPPING, ABORTING, FREEZING, FROZEN, THAWED."""
        return str(self._handle.state)

    @property
    def init_pid(self) -> int | None:
        pid = int(self._handle.init_pid)
        return pid if pid > 0 else None

    def wait(self, state: str, timeout_seconds: float) -> bool:
        """Block until the container is in state; False at the deadline."""
        return bool(self._handle.wait(state, max(1, round(timeout_seconds))))

    def shutdown(self, timeout_seconds: float) -> bool:
        """Ask init to halt and wait; False if it still runs at the deadline."""
        return bool(self._handle.shutdown(max(1, round(timeout_seconds))))

    def stop(self) -> None:
        """Kill every process of the container."""
        self._require("stop")

    def freeze(self) -> None:
        self._require("freeze")

    def unfreeze(self) -> None:
        self._require("unfreeze")

    def _require(self, verb: str, *arguments: object) -> None:
        if getattr(self._handle, verb)(*arguments) is False:
            raise LxcError(" ".join([verb, *map(str, arguments)]), self._handle.name, log_tail(self._log))


def log_tail(path: Path) -> str:
    """The last error of a liblxc log as one line, without its source positions."""
    data = (read_capped(path, _LOG_LIMIT_BYTES) or b"").decode("utf-8", "replace")
    errors = [line.partition(" - ")[2] for line in data.splitlines() if " ERROR " in line]
    return "; ".join(errors[:2])
