# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a person would do without the collection: the same container and the same QEMU, by plain commands."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000

NAME = "bench-hand"
# What ours does itself, since with this a reboot from inside loses the owners.
_MAPPED = "lxc.rootfs.options = idmap=container"


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
            model.replace(
                old_root, f"lxc.rootfs.path = dir:{self._volume}/rootfs\nlxc.rootfs.options = idmap=container"
            )
            .replace(group, "bench-hand")
            .replace("instances/warm-c", f"by-hand/{NAME}")
        )
        self._seccomp = (root / "instances" / "warm-c" / "seccomp").read_text()
        self._network = network

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of library/bare_launch.py for the same container."""
        return {
            "image": str(self._image),
            "volume": str(self._volume),
            "lxcpath": str(self._lxcpath),
            "name": NAME,
            "files": {"config": self._configuration, "seccomp": self._seccomp},
        }

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
        # liblxc leaves its lock, in a copy of the path.
        shutil.rmtree(f"/run/lxc/lock{self._lxcpath}", ignore_errors=True)
        with contextlib.suppress(OSError):
            os.removedirs(f"/run/lxc/lock{self._lxcpath.parent}")


class HandMadeMachine:
    """The command line of a defined machine as it stands, with its files, sockets and tap opened as it names them."""

    def __init__(self, root: Path, name: str) -> None:
        self._machine = json.loads((root / "instances" / name / "qemu.json").read_text())
        self._directory = root / "by-hand"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the monitor says that the machine runs, as a task does."""
        self._directory.mkdir()
        resources = self._machine["resources"]
        for entry in resources:
            self._open(entry)
        self._process = subprocess.Popen(
            self._machine["argv"],
            pass_fds=[entry["fd"] for entry in resources],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for entry in resources:
            os.close(entry["fd"])
        _require_running(self._directory / "qmp.sock", self._process)

    def stop(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        shutil.rmtree(self._directory)
        self._process = None

    def _open(self, entry: dict[str, Any]) -> None:
        """Opened where the command line expects it; that place must be free in this process."""
        descriptor = self._descriptor(entry)
        if descriptor == entry["fd"]:
            return
        with contextlib.suppress(OSError):
            os.fstat(entry["fd"])
            raise RuntimeError(f"descriptor {entry['fd']} is in use")
        os.dup2(descriptor, entry["fd"])
        os.close(descriptor)

    def _descriptor(self, entry: dict[str, Any]) -> int:
        if entry["type"] == "listen":
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(str(self._directory / entry["name"]))
            listener.listen()
            return listener.detach()
        if entry["type"] == "tap":
            return _open_tap()
        if entry["type"] == "console-log":
            return os.open(self._directory / "console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return os.open(entry["path"], os.O_RDWR if entry.get("write") else os.O_RDONLY)


def _open_tap() -> int:
    """A tap interface with a name of the kernel's choice, as QEMU's helper would hand it over."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", b"", _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    return descriptor


def _require_running(path: Path, process: subprocess.Popen[bytes]) -> None:
    """Block until the monitor says that the machine runs: it greets long before it answers anything."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(str(path))
        stream = connection.makefile("rwb")
        for command in ("qmp_capabilities", "query-status"):
            stream.write(json.dumps({"execute": command}).encode())
        stream.flush()
        for line in stream:
            if json.loads(line).get("return", {}).get("status") == "running":
                return
    raise RuntimeError(f"QEMU by hand does not run; its status is {process.poll()}")
