# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What the same work takes with LXD: by its clients lxc and lxd-benchmark, and by community.general's lxd_container.

All of it is measured in one go, so that nothing of LXD runs while ours is measured.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .lxd import IMAGE, Lxd, LxdUnavailable, unpack
from .measure import AWAIT_BOOT, Missing, Peer, Sample, merge, sample, timed, wait_until_idle
from .plays import Plays, Task
from .progress import FAILURES, explain, say
from .sizes import DEFINED_WITH_LXD, MANY, TRANSFER_BYTES

NAME = "bench-one"


@dataclass(frozen=True)
class LxdPeers:
    """Measures LXD. build holds its packages and the virtual environment that has community.general.

    root_filesystem is the unpacked image that all containers are made of; directory is for files meanwhile.
    """

    build: Path
    root_filesystem: Path
    directory: Path
    rounds: int
    few_rounds: int

    def measure(self) -> Peer:
        """Samples by name, such as 'lxc launch'; lxd_container's are whole tasks."""
        try:
            unpack(self.build / "lxd")
            with Lxd(self.build / "lxd") as lxd:
                lxd.import_image(self.root_filesystem, self.directory)
                # LXD unpacks an image when it is used first.
                lxd.lxc("launch", IMAGE, NAME)
                lxd.lxc("delete", "--force", NAME)
                found: dict[str, Sample] = {}
                parts = {
                    "one container": self._one,
                    "lxd-benchmark": self._many,
                    "lxd_container": self._many_tasks,
                    "lxc list": self._defined,
                }
                for name, part in parts.items():
                    say(f"LXD: {name}")
                    try:
                        found |= part(lxd)
                    except FAILURES as failure:
                        say(explain(failure))
                return found
        except (LxdUnavailable, *FAILURES) as reason:
            return Missing(explain(reason))

    def _one(self, lxd: Lxd) -> dict[str, Sample]:
        def delete() -> None:
            lxd.lxc("delete", "--force", NAME)

        launch = sample(self.few_rounds, lambda: lxd.lxc("launch", IMAGE, NAME), delete)
        lxd.lxc("launch", IMAGE, NAME)
        try:
            power = merge([self._power(lxd) for _unused in range(self.few_rounds)])
            return {"lxc launch": launch, **power, **self._inside(lxd), **self._task(lxd)}
        finally:
            delete()

    def _power(self, lxd: Lxd) -> dict[str, float]:
        _await_boot(lxd, NAME)
        stop = timed(lambda: lxd.lxc("stop", NAME))
        start = timed(lambda: lxd.lxc("start", NAME))
        _await_boot(lxd, NAME)
        restart = timed(lambda: lxd.lxc("restart", NAME))
        return {"lxc stop": stop, "lxc start": start, "lxc restart": restart}

    def _inside(self, lxd: Lxd) -> dict[str, Sample]:
        _await_boot(lxd, NAME)
        wait_until_idle()
        with tempfile.TemporaryDirectory(dir=self.directory) as directory:
            source, target = Path(directory) / "sent", Path(directory) / "fetched"
            source.write_bytes(os.urandom(TRANSFER_BYTES))
            remote = f"{NAME}/root/sent"
            return {
                "lxc exec": sample(self.rounds, lambda: lxd.lxc("exec", NAME, "--", "true")),
                "lxc push": sample(self.few_rounds, lambda: lxd.lxc("file", "push", source, remote)),
                "lxc pull": sample(self.few_rounds, lambda: lxd.lxc("file", "pull", remote, target)),
            }

    def _task(self, lxd: Lxd) -> dict[str, Sample]:
        """One task with nothing to do for one container."""
        found = self._plays().alternate(self.rounds, nothing=_lxd_container(lxd, NAME))
        return {"lxd_container nothing 1": found["nothing"]}

    def _many(self, lxd: Lxd) -> dict[str, Sample]:
        count = (f"--count={MANY}", f"--parallel={os.cpu_count()}")

        def once() -> dict[str, float]:
            launch = timed(lambda: lxd.benchmark("launch", *count, IMAGE))
            wait_until_idle()
            delete = timed(lambda: lxd.benchmark("delete", count[1]))
            return {"lxd-benchmark launch": launch, "lxd-benchmark delete": delete}

        return merge([once() for _unused in range(self.few_rounds)])

    def _many_tasks(self, lxd: Lxd) -> dict[str, Sample]:
        """A loop in a playbook; each loop is one task to Ansible."""
        plays = self._plays()

        def loop(**options: Any) -> Task:
            return {**_lxd_container(lxd, "bench-{{ item }}", **options), "loop": [f"{n:02}" for n in range(MANY)]}

        def once() -> dict[str, float]:
            launch = plays.once(launch=loop())["launch"]
            wait_until_idle()
            found = plays.once(nothing=loop())
            remove = plays.once(remove=loop(state="absent", force_stop=True))["remove"]
            return {
                "lxd_container launch": launch,
                "lxd_container nothing": found["nothing"],
                "lxd_container ping": found["ping"],
                "lxd_container remove": remove,
            }

        return merge([once() for _unused in range(self.few_rounds)])

    def _defined(self, lxd: Lxd) -> dict[str, Sample]:
        """Listing containers that were only created."""
        found = {}
        for number in DEFINED_WITH_LXD:
            lxd.benchmark("init", f"--count={number}", f"--parallel={os.cpu_count()}", IMAGE)
            found[f"lxc list {number}"] = sample(self.rounds, lambda: lxd.lxc("list", "--format", "json"))
            lxd.benchmark("delete", f"--parallel={os.cpu_count()}")
        return found

    def _plays(self) -> Plays:
        return Plays(self.directory, self.build / "peers" / "bin" / "ansible-playbook")


def _lxd_container(lxd: Lxd, name: str, **options: Any) -> Task:
    source = {"type": "image", "alias": IMAGE}
    given = {"state": "started", "source": source, "profiles": ["default"], "url": f"unix:{lxd.socket}", **options}
    return {"community.general.lxd_container": {"name": name, **given}}


def _await_boot(lxd: Lxd, name: str) -> None:
    lxd.lxc("exec", name, "--", *AWAIT_BOOT)
