# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A container and a virtual machine that run, for tests of what can be done inside."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._instance.execute import Command, Outcome, execute
from ansible_collections.tandem.machines.tests.integration.runner import Ansible

TYPES = ("container", "virtual-machine")
# A guest that is emulated needs this long to boot on a busy machine.
BOOT_SECONDS = 300


@dataclass(frozen=True)
class Guest:
    """One running instance."""

    name: str
    kind: str
    root: Path

    @property
    def sockets(self) -> Path:
        return Paths(self.root).instance_run(self.name)

    def execute(self, *argv: str, **how: Any) -> Outcome:
        return execute(Paths(self.root), self.name, Command(argv, **how), agent_timeout_seconds=BOOT_SECONDS)

    def shell(self, line: str, **how: Any) -> str:
        """What a script prints that must succeed."""
        outcome = self.execute("/bin/sh", "-c", line, **how)
        assert outcome.status == 0, outcome
        return outcome.stdout.decode()


def create(ansible: Ansible, image: str, prefix: str) -> dict[str, Guest]:
    """A guest of each type, by type."""
    names = {kind: f"{prefix}-{kind[0]}" for kind in TYPES}
    for kind, name in names.items():
        ansible.task("instance", name=name, type=kind, image=image, memory="512MiB")
    for name in names.values():
        ansible.task("instance", name=name, wait_for=["agent"], wait_timeout=BOOT_SECONDS)
    return {kind: Guest(name, kind, ansible.root) for kind, name in names.items()}


def remove(ansible: Ansible, guests: dict[str, Guest]) -> None:
    for guest in guests.values():
        ansible.task("instance", name=guest.name, state="absent", force_stop=True)
