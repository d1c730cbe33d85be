# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Containers as a person's script would make them with liblxc: the same container as ours, by plain commands."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .measure import AWAIT_BOOT

_ID_COUNT = 65536
_CGROUPS = Path("/sys/fs/cgroup")


class HandMadeContainers:
    """bench-hand-00 and so on: subvolume snapshot, configuration file, lxc-start, one after the other.

    model names a container of ours whose configuration they get.
    """

    def __init__(self, root: Path, model: str, count: int = 1) -> None:
        volumes = root / "storage" / "default" / "volumes"
        self._image = next(path for path in (volumes / "images").iterdir() if not path.name.startswith("."))
        self._volumes = volumes / "containers"
        self.lxcpath = root / "by-hand"
        self._model = root / "instances" / model
        self.names = [f"bench-hand-{number:02}" for number in range(count)]

    def launch(self) -> None:
        for name in self.names:
            volume = self._volumes / name
            _run("btrfs", "subvolume", "snapshot", self._image, volume)
            directory = self.lxcpath / name
            directory.mkdir(parents=True, exist_ok=True)
            self.lxcpath.chmod(0o711)
            for file, text in self._files(name).items():
                (directory / file).write_text(text)
            self._lxc("start", name, "-d")

    def start(self) -> None:
        for name in self.names:
            self._lxc("start", name, "-d")

    def stop(self) -> None:
        """Ask the guests to shut down and wait for it."""
        for name in self.names:
            self._lxc("stop", name)

    def restart(self) -> None:
        self.stop()
        self.start()

    def execute(self, *command: str, stdin: Path = Path("/dev/null"), stdout: Path = Path("/dev/null")) -> None:
        with stdin.open("rb") as source, stdout.open("wb") as target:
            argv: list[str | Path] = [
                "lxc-attach",
                "-P",
                self.lxcpath,
                "-n",
                self.names[0],
                "--clear-env",
                "--",
                *command,
            ]
            subprocess.run(argv, stdin=source, stdout=target, check=True)

    def await_boot(self) -> None:
        for name in self.names:
            self._lxc("attach", name, "--clear-env", "--", *AWAIT_BOOT)

    def remove(self) -> None:
        """Also what is left of a launch that was cut short."""
        for name in self.names:
            with contextlib.suppress(RuntimeError):
                self._lxc("stop", name, "-k")
            if (self._volumes / name).exists():
                _run("btrfs", "subvolume", "delete", self._volumes / name)
            _remove_groups(_CGROUPS.glob(f"*/{name}"))
        shutil.rmtree(self.lxcpath, ignore_errors=True)
        # liblxc leaves its locks, in a copy of the path.
        shutil.rmtree(f"/run/lxc/lock{self.lxcpath}", ignore_errors=True)
        with contextlib.suppress(OSError):
            os.removedirs(f"/run/lxc/lock{self.lxcpath.parent}")

    def removal_script(self) -> str:
        """For a shell: what remove() does to the first container while it runs."""
        name = self.names[0]
        lxcpath, volume = shlex.quote(str(self.lxcpath)), shlex.quote(str(self._volumes / name))
        return f"lxc-stop -P {lxcpath} -n {name} -k; btrfs subvolume delete {volume}; rm -r {lxcpath}"

    def bare_launch_arguments(self) -> Mapping[str, Any]:
        """Those of library/bare_launch.py for the first container."""
        name = self.names[0]
        return {
            "image": str(self._image),
            "volume": str(self._volumes / name),
            "lxcpath": str(self.lxcpath),
            "name": name,
            "files": self._files(name),
        }

    def _files(self, name: str) -> dict[str, str]:
        return {"config": self._configuration(name), "seccomp": (self._model / "seccomp").read_text()}

    def _configuration(self, name: str) -> str:
        """The model's, with paths, groups, addresses and ids of its own."""
        number = self.names.index(name)
        text = (self._model / "config").read_text()
        group = re.findall(r"^lxc\.cgroup\.dir\.monitor = (\S+)/monitor$", text, re.MULTILINE)[0]
        text = text.replace(group, name).replace(f"instances/{self._model.name}", f"by-hand/{name}")
        lines = [
            line for line in text.splitlines() if not line.startswith(("lxc.rootfs.", "lxc.idmap", "lxc.uts.name"))
        ]
        # Ids of its own for each, as ours have, which are not there at the same time.
        first_id = int(re.findall(r"^lxc\.idmap = u 0 (\d+) ", text, re.MULTILINE)[0]) + number * _ID_COUNT
        own = {"hwaddr": f"00:16:3e:be:00:{number:02x}", "veth.pair": f"bench-hand-{number:02}"}
        lines = [
            next((re.sub(r" = .*", f" = {value}", line) for key, value in own.items() if f".{key} =" in line), line)
            for line in lines
        ]
        return "\n".join(
            [
                f"lxc.uts.name = {name}",
                f"lxc.rootfs.path = dir:{self._volumes / name}/rootfs",
                "lxc.rootfs.options = idmap=container",
                *(f"lxc.idmap = {kind} 0 {first_id} {_ID_COUNT}" for kind in "ug"),
                *lines,
                "",
            ]
        )

    def _lxc(self, command: str, name: str, *options: str) -> None:
        _run(f"lxc-{command}", "-P", self.lxcpath, "-n", name, *options)


def _remove_groups(tops: Iterable[Path]) -> None:
    """Empty control groups that liblxc left, innermost first."""
    for top in tops:
        for directory, _names, _files in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(directory)


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
