# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Supervisor for hosts where systemd is PID 1: one service file per object, started by systemctl."""

from __future__ import annotations

from pathlib import Path

from .files import read_capped, write_if_changed
from .process import Process
from .run import run
from .unit import Unit, render_unit

_DIRECTORY = Path("/etc/systemd/system")
_UNIT_LIMIT_BYTES = 256 * 1024


class SystemdSupervisor:
    """Units are files named tandem-KIND@NAME.service; everything with that prefix is ours."""

    name = "systemd"

    def is_installed(self, unit: Unit) -> bool:
        current = read_capped(_file(unit), _UNIT_LIMIT_BYTES)
        return current == render_unit(unit).encode() and _wanted_link(unit).is_symlink() == unit.autostart

    def install(self, unit: Unit) -> None:
        if write_if_changed(_file(unit), render_unit(unit).encode(), 0o644):
            run(["systemctl", "daemon-reload"])
        if _wanted_link(unit).is_symlink() != unit.autostart:
            run(["systemctl", "enable" if unit.autostart else "disable", f"{unit.unit_name}.service"])

    def remove(self, unit: Unit) -> None:
        if not _file(unit).exists():
            return
        run(["systemctl", "disable", f"{unit.unit_name}.service"], check=False)
        _file(unit).unlink(missing_ok=True)
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "reset-failed", f"{unit.unit_name}.service"], check=False)

    def start(self, unit: Unit) -> None:
        self.install(unit)
        run(["systemctl", "start", f"{unit.unit_name}.service"], timeout_seconds=120)

    def stop(self, unit: Unit, timeout_seconds: float) -> None:
        if not _file(unit).exists():
            return
        process = self.find(unit)
        run(["systemctl", "stop", f"{unit.unit_name}.service"], timeout_seconds=timeout_seconds + 60)
        if process is not None:
            process.wait(5)

    def find(self, unit: Unit) -> Process | None:
        answer = run(
            ["systemctl", "show", "--property=MainPID", "--value", f"{unit.unit_name}.service"], check=False
        ).text.strip()
        return Process.of(int(answer)) if answer.isdigit() and answer != "0" else None


def _file(unit: Unit) -> Path:
    return _DIRECTORY / f"{unit.unit_name}.service"


def _wanted_link(unit: Unit) -> Path:
    return _DIRECTORY / "multi-user.target.wants" / f"{unit.unit_name}.service"
