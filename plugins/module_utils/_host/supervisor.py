# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Long-lived processes (QEMU, dnsmasq, liblxc monitors) and what brings them back after a reboot.

One small protocol, two implementations: systemd where it is PID 1, direct elsewhere. Nothing started
here is ever a child of the module.
"""

from __future__ import annotations

import os
from typing import Protocol

from .paths import Paths
from .process import Process
from .unit import Unit


class Supervisor(Protocol):
    """What both implementations offer. All verbs are idempotent."""

    name: str

    def is_installed(self, unit: Unit) -> bool:
        """Whether a reboot would bring this very unit back (always true where nothing can be installed)."""

    def install(self, unit: Unit) -> None:
        """Make the unit known, enabled at boot if it says so; starts nothing."""

    def remove(self, unit: Unit) -> None:
        """Forget the unit; it must have been stopped."""

    def start(self, unit: Unit) -> None:
        """Start the main process; returns when it has been executed (or, if it forks, when it is ready)."""

    def stop(self, unit: Unit, timeout_seconds: float) -> None:
        """End the main process: SIGTERM, then SIGKILL after timeout_seconds."""

    def find(self, unit: Unit) -> Process | None:
        """The living main process, or None."""


def is_systemd_host() -> bool:
    """Whether systemd is PID 1 (the test of sd_booted(3))."""
    return os.path.isdir("/run/systemd/system")


def open_supervisor(paths: Paths) -> Supervisor:
    """The supervisor of this host."""
    if is_systemd_host():
        from .systemd import SystemdSupervisor

        return SystemdSupervisor(paths)
    from .direct import DirectSupervisor

    return DirectSupervisor(paths)
