# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a person would do without the collection: the same container and the same QEMU, by plain commands."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

NAME = "bench-hand"


class HandMadeContainer:
    """Subvolume snapshot, configuration file, lxc-start."""

    def __init__(self, root: Path, network: str) -> None:
        volumes = root / "storage" / "default" / "volumes"
        [self._image] = (path for path in (volumes / "images").iterdir() if not path.name.startswith("."))
        self._volume = volumes / "containers" / NAME
        self._lxcpath = root / "by-hand"
        model = (root / "instances" / "warm-c" / "config").read_text()
        [old_root] = [line for line in model.splitlines() if line.startswith("lxc.rootfs.path")]
        group = next(line for line in model.splitlines() if "cgroup.dir.monitor" in line).split(" = ")[1].split("/")[0]
        self._configuration = (
            model.replace(old_root, f"lxc.rootfs.path = dir:{self._volume}/rootfs")
            .replace(group, "bench-hand")
            .replace("instances/warm-c", f"by-hand/{NAME}")
        )
        self._seccomp = (root / "instances" / "warm-c" / "seccomp").read_text()
        self._network = network

    def launch(self) -> None:
        subprocess.run(["btrfs", "subvolume", "snapshot", self._image, self._volume], check=True, capture_output=True)
        directory = self._lxcpath / NAME
        directory.mkdir(parents=True, exist_ok=True)
        self._lxcpath.chmod(0o711)
        (directory / "config").write_text(self._configuration)
        (directory / "seccomp").write_text(self._seccomp)
        subprocess.run(["lxc-start", "-d", "-P", self._lxcpath, "-n", NAME], check=True, capture_output=True)

    def remove(self) -> None:
        subprocess.run(["lxc-stop", "-P", self._lxcpath, "-n", NAME, "-k"], check=True, capture_output=True)
        subprocess.run(["btrfs", "subvolume", "delete", self._volume], check=True, capture_output=True)
        shutil.rmtree(self._lxcpath)


class HandMadeMachine:
    """The very command line of a defined machine, with its files and sockets opened by path."""

    def __init__(self, root: Path, name: str) -> None:
        self._description = json.loads((root / "instances" / name / "qemu.json").read_text())
        self._directory = root / "by-hand"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._directory)
        self._process = None


def answers(path: Path) -> None:
    """Block until the monitor at path has sent its greeting."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.fspath(path))
        connection.recv(4096)
