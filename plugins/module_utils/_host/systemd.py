# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Supervisor for hosts where systemd is PID 1: one service file per object, started by systemctl."""

from __future__ import annotations

from pathlib import Path

from .files import read_capped, write_if_changed
from .paths import Paths
from .process import Process
from .run import run
from .unit import Unit, render_unit, service_name

_DIRECTORY = Path("/etc/systemd/system")
_UNIT_LIMIT_BYTES = 256 * 1024


class SystemdSupervisor:
    """Units are files named tandem-KIND@[ROOT:]NAME.service."""

    name = "systemd"

    def __init__(self, paths: Paths) -> None:
        self._scope = paths.scope

    def is_installed(self, unit: Unit) -> bool:
        return (
            read_capped(self._file(unit), _UNIT_LIMIT_BYTES) == self._render(unit)
            and self._wanted_link(unit).is_symlink() == unit.autostart
            and not self._is_outdated(unit)
        )

    def install(self, unit: Unit) -> None:
        # A killed run may have left it unread.
        if write_if_changed(self._file(unit), self._render(unit), 0o644) or self._is_outdated(unit):
            run(["systemctl", "daemon-reload"])
        if self._wanted_link(unit).is_symlink() != unit.autostart:
            run(["systemctl", "enable" if unit.autostart else "disable", self._service(unit)])

    def remove(self, unit: Unit) -> None:
        if not self._file(unit).exists():
            return
        # While the file brings a later run back here.
        run(["systemctl", "reset-failed", self._service(unit)], check=False)
        run(["systemctl", "disable", self._service(unit)], check=False)
        self._file(unit).unlink(missing_ok=True)
        run(["systemctl", "daemon-reload"])

    def start(self, unit: Unit) -> None:
        self.install(unit)
        run(["systemctl", "start", self._service(unit)], timeout_seconds=120)

    def stop(self, unit: Unit, timeout_seconds: float) -> None:
        if not self._file(unit).exists():
            return
        process = self.find(unit)
        run(["systemctl", "stop", self._service(unit)], timeout_seconds=timeout_seconds + 60)
        if process is not None:
            process.wait(5)

    def find(self, unit: Unit) -> Process | None:
        answer = self._property(unit, "MainPID")
        return Process.of(int(answer)) if answer.isdigit() and answer != "0" else None

    def _is_outdated(self, unit: Unit) -> bool:
        """Whether systemd has not read the file as it is now."""
        return self._property(unit, "NeedDaemonReload") == "yes"

    def _property(self, unit: Unit, name: str) -> str:
        command = ["systemctl", "show", f"--property={name}", "--value", self._service(unit)]
        return run(command, check=False).text.strip()

    def _render(self, unit: Unit) -> bytes:
        return render_unit(unit, self._scope).encode()

    def _service(self, unit: Unit) -> str:
        return service_name(unit.kind, unit.name, self._scope)

    def _file(self, unit: Unit) -> Path:
        return _DIRECTORY / self._service(unit)

    def _wanted_link(self, unit: Unit) -> Path:
        return _DIRECTORY / "multi-user.target.wants" / self._service(unit)
