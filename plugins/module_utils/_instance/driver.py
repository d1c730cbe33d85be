# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a kind of instance must be able to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .._core.kinds import Power
from .._core.options import Config
from .._host.unit import Unit
from .model import Address, InstanceDefinition, Usage


class InstanceDriver(Protocol):
    """All verbs are idempotent; definition always belongs to an instance of the driver's own type."""

    def define(self, definition: InstanceDefinition) -> None:
        """Write the native files the guest is started from."""

    def is_defined_current(self, definition: InstanceDefinition) -> bool:
        """Whether the native files are exactly what define would write."""

    def unit(self, definition: InstanceDefinition) -> Unit:
        """What the supervisor runs, and a reboot brings back."""

    def start(self, definition: InstanceDefinition) -> None:
        """Start the guest; returns when it runs."""

    def stop(self, definition: InstanceDefinition, timeout_seconds: float) -> None:
        """Shut the guest down cleanly; TimedOut if it still runs then."""

    def kill(self, definition: InstanceDefinition) -> None:
        """End the guest at once, also when it is frozen."""

    def freeze(self, definition: InstanceDefinition) -> None: ...

    def thaw(self, definition: InstanceDefinition) -> None: ...

    def power(self, definition: InstanceDefinition) -> Power:
        """What the guest does; a guest in transition is waited for."""

    def pid(self, definition: InstanceDefinition) -> int | None:
        """Process id of the container's init or of QEMU."""

    def started_with(self, definition: InstanceDefinition) -> Mapping[str, Any] | None:
        """The rendered {config, devices} the running guest was started with."""

    def in_force(self, definition: InstanceDefinition) -> Config:
        """LIVE options of the running guest as the kernel or QEMU has them, in normal form."""

    def set_live(self, definition: InstanceDefinition, keys: tuple[str, ...]) -> None:
        """Apply the recorded values of LIVE options to the running guest."""

    def clean(self, definition: InstanceDefinition) -> None:
        """Remove every runtime leftover of a stopped guest."""

    def addresses(self, definition: InstanceDefinition) -> tuple[Address, ...]:
        """Addresses of the running guest's interfaces, loopback left out."""

    def usage(self, definition: InstanceDefinition) -> Usage: ...
