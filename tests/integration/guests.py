# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A container and a virtual machine that run during the whole session, for tests of what can be done inside.

An emulated machine takes long to boot, so tests share these. Each leaves them as it found them: running, and as
create() defined them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._instance.execute import Command, Outcome, execute
from ansible_collections.tandem.machines.tests.integration.runner import Ansible

TYPES = ("container", "virtual-machine")
NAMES = {"container": "test-guest-c", "virtual-machine": "test-guest-v"}
# A guest that is emulated needs this long to boot on a busy machine.
BOOT_SECONDS = 300
# Of joe, who may become root by it, and of root.
PASSWORD = "se cret'1"
# Where the virtual machine has the read-only one of its two directories of the host.
ODD_PATH = "/srv/my \"d\\ä\", 'x' $(touch /x)#"


@dataclass(frozen=True)
class Guest:
    """One running instance; shared is the directory of the host that a virtual machine has."""

    name: str
    kind: str
    root: Path
    shared: Path | None = None

    @property
    def sockets(self) -> Path:
        return Paths(self.root).instance_run(self.name)

    @property
    def definition(self) -> dict[str, Any]:
        """Options with which it was made."""
        made = {"name": self.name, "type": self.kind, "image": "debian/12", "memory": "512MiB"}
        return {**made, "devices": directories(self.shared)} if self.shared else made

    def execute(self, *argv: str, **how: Any) -> Outcome:
        return execute(Paths(self.root), self.name, Command(argv, **how), agent_timeout_seconds=BOOT_SECONDS)

    def shell(self, line: str, **how: Any) -> str:
        """What a script prints that must succeed."""
        outcome = self.execute("/bin/sh", "-c", line, **how)
        assert outcome.status == 0, outcome
        return outcome.stdout.decode()


def directories(shared: Path) -> dict[str, Any]:
    """A directory of the host, mounted twice."""
    data = {"type": "disk", "source": str(shared), "path": "/data"}
    return {"data": data, "fixed_1": {**data, "path": ODD_PATH, "readonly": True}}


@pytest.fixture(scope="session")
def guests(
    prepared_host: Ansible, debian_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Guest]]:
    """A guest of each type, by type."""
    top = Path(mkdtemp(prefix="shared-with-guests-", dir="/var/tmp"))
    shared = top / "my data"
    shared.mkdir()
    ansible = Ansible(tmp_path_factory.mktemp("guests"), prepared_host.root)
    found = {
        "container": Guest(NAMES["container"], "container", ansible.root),
        "virtual-machine": Guest(NAMES["virtual-machine"], "virtual-machine", ansible.root, shared),
    }
    try:
        create(ansible, found)
        yield found
    finally:
        absent = {"state": "absent", "force_stop": True}
        ansible.tasks(*({"tandem.machines.instance": {"name": name, **absent}} for name in NAMES.values()))
        shutil.rmtree(top)


def create(ansible: Ansible, guests: dict[str, Guest]) -> None:
    made = [{"tandem.machines.instance": guest.definition} for guest in guests.values()]
    waits = {"wait_for": ["agent"], "wait_timeout": BOOT_SECONDS}
    ansible.tasks(*made, *({"tandem.machines.instance": {"name": name, **waits}} for name in NAMES.values()))
    for guest in guests.values():
        guest.shell("useradd --create-home --shell /bin/bash joe; echo 'joe ALL=(ALL) ALL' >/etc/sudoers.d/joe")
        guest.shell("chpasswd", stdin=f"joe:{PASSWORD}\nroot:{PASSWORD}\n".encode())
        # Whatever starts by itself, hours later, would look like a leak of the test that runs then.
        guest.shell("systemctl stop '*.timer'")
