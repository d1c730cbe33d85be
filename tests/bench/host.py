# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""This machine as a host of ours for a benchmark, below a state root of its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..integration.runner import BIN, CHECKOUT
from .plays import Plays, Task

ROOT = Path("/var/lib/tandem-bench")
NETWORK = "tdbench0"
IMAGE = "debian/12"
# Instances that stay: what is made once for an image is made with them, and by-hand peers copy their files.
CONTAINER, MACHINE = "bench-c", "bench-v"

_VARIABLES = {
    "host_root": str(ROOT),
    "host_storage_pool": {"name": "default", "driver": "btrfs", "config": {"size": "40GiB"}},
    "host_network": {"name": NETWORK, "config": {"ipv4.address": "auto", "ipv4.nat": True}},
    "host_profile": {
        "name": "default",
        "devices": {
            "root": {"type": "disk", "path": "/", "pool": "default"},
            "eth0": {"type": "nic", "network": NETWORK},
        },
    },
}


@dataclass(frozen=True)
class Host:
    """A prepared host. rounds is for what takes little time, few_rounds for the rest."""

    plays: Plays
    rounds: int
    few_rounds: int

    @property
    def unpacked_image(self) -> Path:
        """The root file system of the image, as containers of the pool get it."""
        images = ROOT / "storage" / "default" / "volumes" / "images"
        return next(path for path in images.iterdir() if not path.name.startswith(".")) / "rootfs"

    def prepare(self) -> None:
        source = {"type": "build", "distribution": "debian", "release": "bookworm"}
        self.plays.run(
            _role(),
            {"tandem.machines.image": {"name": IMAGE, "source": source}},
            instance(CONTAINER, state="present"),
            instance(MACHINE, type="virtual-machine", state="present"),
        )

    def clean(self) -> None:
        self.plays.run(_role(tasks_from="remove"))


def open_host(directory: Path, rounds: int, few_rounds: int) -> Host:
    plays = Plays(
        directory,
        BIN / "ansible-playbook",
        {"ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".build")},
        {"group/tandem.machines.all": {"root": str(ROOT)}},
    )
    return Host(plays, rounds, few_rounds)


def instance(name: str, **options: Any) -> Task:
    image = {} if options.get("state") in ("absent", "stopped", "restarted") else {"image": IMAGE}
    return {"tandem.machines.instance": {"name": name, **image, **options}}


def stack(names: Iterable[str], **options: Any) -> Task:
    """One task for many instances; options go to each of them."""
    return {"tandem.machines.stack": {"instances": [{"name": name, "image": IMAGE, **options} for name in names]}}


def numbered(count: int, prefix: str = "bench") -> list[str]:
    return [f"{prefix}-{number:03}" for number in range(count)]


def _role(**more: str) -> Task:
    return {"ansible.builtin.include_role": {"name": "tandem.machines.host", **more}, "vars": _VARIABLES}
