# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Fixtures of all tests against a real host: a prepared host, an image, a runner, and the leak check.

A conftest.py that wants them imports them by name.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .leaks import compare, observe
from .runner import Ansible

# Apart from everything a user of this machine may have made.
ROOT = Path("/var/lib/tandem-test")
POOL = "default"
NETWORK = "tdtest0"
IMAGE = "debian/12"

HOST_VARIABLES = {
    "host_root": str(ROOT),
    "host_network": {"name": NETWORK},
    "host_profile": {
        "name": "default",
        "devices": {
            "root": {"type": "disk", "path": "/", "pool": POOL},
            "eth0": {"type": "nic", "network": NETWORK},
        },
    },
}


def require_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: it works on this machine's kernel, disks and networks")


@pytest.fixture(scope="session")
def prepared_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ansible]:
    """This machine prepared by role host with a pool, a network and a profile of the tests' own.

    Removed at the end by the same role; what then is left fails the session.
    """
    require_root()
    ansible = Ansible(tmp_path_factory.mktemp("host"), ROOT)
    prepare = [{"hosts": "localhost", "gather_facts": False, "vars": HOST_VARIABLES, "roles": ["tandem.machines.host"]}]
    remove = [{"hosts": "localhost", "gather_facts": False, "vars": HOST_VARIABLES, "tasks": [REMOVE_TASK]}]
    _expect_success(ansible, remove)
    before = observe()
    _expect_success(ansible, prepare)
    yield ansible
    _expect_success(ansible, remove)
    leaks = compare(before, observe())
    assert not leaks, "left on the machine by the whole session:\n" + "\n".join(map(str, leaks))


REMOVE_TASK = {"ansible.builtin.include_role": {"name": "tandem.machines.host", "tasks_from": "remove"}}


def _expect_success(ansible: Ansible, plays: list[dict[str, object]]) -> None:
    run = ansible.playbook(plays)
    assert run.status == 0, run.output


@pytest.fixture(scope="session")
def debian_image(prepared_host: Ansible) -> str:
    """The alias of a Debian image that serves containers and virtual machines, built once for all tests."""
    source = {"type": "build", "distribution": "debian", "release": "bookworm"}
    made = {"name": "first", "image": IMAGE}
    absent = {"name": "first", "state": "absent", "force_stop": True, "stop_timeout": 0.1}
    prepared_host.tasks(
        {"tandem.machines.image": {"name": IMAGE, "source": source}},
        # The pool keeps the unpacked image for the next container, and the image its disk for the next virtual
        # machine; only the first test would seem to leave them behind.
        {"tandem.machines.instance": made},
        {"tandem.machines.instance": absent},
        {"tandem.machines.instance": {**made, "type": "virtual-machine", "state": "present"}},
        {"tandem.machines.instance": absent},
    )
    return IMAGE


@pytest.fixture
def ansible(prepared_host: Ansible, tmp_path: Path) -> Ansible:
    """Runs tasks on the prepared host; root, pool, network and profile are the tests' own."""
    return Ansible(tmp_path, prepared_host.root)


@pytest.fixture(autouse=True)
def nothing_leaks(prepared_host: Ansible) -> Iterator[None]:
    """Compares the machine before and after each test. Fixtures of wider scope come first, so they count as before."""
    before = observe()
    yield
    leaks = compare(before, observe())
    assert not leaks, "left behind or taken away by this test:\n" + "\n".join(map(str, leaks))
