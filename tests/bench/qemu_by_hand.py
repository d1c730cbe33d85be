# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A virtual machine as a person's script would run it: the same QEMU command line as ours, and nothing around it."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR = 0x0002, 0x1000, 0x4000
_STOP_SECONDS, _STOP_TRIES = 5, 12
# As guest-sync-delimited wants it: whatever the agent has heard before lies before this byte.
_SENTINEL = b"\xff"


class HandMadeMachine:
    """The command line of a defined machine as it stands, with files, sockets and a tap opened where it names them.

    Its disk is a new one over the same backing file, made by qemu-img.
    """

    def __init__(self, root: Path, name: str, network: str) -> None:
        self._machine = json.loads((root / "instances" / name / "qemu.json").read_text())
        self._directory = root / "by-hand"
        self._network = network
        self._disk, self._backing = self._find_disks()
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        self._directory.mkdir()
        disk = self._directory / "root.qcow2"
        options = ("-q", "-f", "qcow2", "-F", "qcow2", "-b", self._backing)
        subprocess.run(["qemu-img", "create", *options, disk], check=True, capture_output=True)

    def start(self) -> None:
        """Returns when the monitor says that the machine runs, as a task does."""
        resources = self._machine["resources"]
        for entry in resources:
            self._open(entry)
        try:
            self._process = subprocess.Popen(
                self._machine["argv"],
                pass_fds=[entry["fd"] for entry in resources],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        finally:
            for entry in resources:
                os.close(entry["fd"])
        if _ask_monitor(self._directory / "qmp.sock", "query-status").get("status") != "running":
            raise RuntimeError(f"QEMU by hand does not run; its exit status is {self._process.poll()}")

    def launch(self) -> None:
        self.create()
        self.start()

    def await_agent(self) -> None:
        """Block until the guest agent answers: QEMU keeps the question until the agent opens its port."""
        number = int.from_bytes(os.urandom(4), "big")
        with _connect(self._directory / "qga.sock", 300) as connection:
            command = {"execute": "guest-sync-delimited", "arguments": {"id": number}}
            connection.sendall(_SENTINEL + json.dumps(command).encode() + b"\n")
            received = b""
            while str(number).encode() not in received:
                data = connection.recv(4096)
                if not data:
                    raise RuntimeError("the agent of QEMU by hand has gone")
                received += data

    def stop(self) -> None:
        """Press the power button and wait for the end of the process. A busy guest may need to be asked again."""
        assert self._process is not None
        for _unused in range(_STOP_TRIES):
            _ask_monitor(self._directory / "qmp.sock", "system_powerdown")
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_STOP_SECONDS)
                break
        else:
            raise RuntimeError("QEMU by hand does not shut down")
        self._process = None
        self._remove_sockets()

    def end(self) -> None:
        """At once; the disk stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._remove_sockets()

    def remove(self) -> None:
        """However far it came."""
        self.end()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _find_disks(self) -> tuple[str, str]:
        """The paths of the root disk and of its backing file."""
        files = [entry for entry in self._machine["resources"] if entry["type"] == "file"]
        disk = next(entry["path"] for entry in files if entry.get("write"))
        described = subprocess.run(
            ["qemu-img", "info", "--output=json", disk], check=True, capture_output=True, text=True
        ).stdout
        return disk, json.loads(described)["full-backing-filename"]

    def _remove_sockets(self) -> None:
        for path in self._directory.glob("*.sock"):
            path.unlink()

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
            return _open_tap(self._network)
        if entry["type"] == "console-log":
            return os.open(self._directory / "console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        path = self._directory / "root.qcow2" if entry["path"] == self._disk else entry["path"]
        return os.open(path, os.O_RDWR if entry.get("write") else os.O_RDONLY)


def _open_tap(network: str) -> int:
    """A tap interface with a name of the kernel's choice in the bridge, which goes with its descriptor."""
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    answer = fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", b"", _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR))
    name = answer[:16].rstrip(b"\0").decode()
    subprocess.run(["ip", "link", "set", name, "master", network, "up"], check=True, capture_output=True)
    return descriptor


def _connect(path: Path, timeout_seconds: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(timeout_seconds)
    connection.connect(str(path))
    return connection


def _ask_monitor(path: Path, command: str) -> dict[str, Any]:
    """The monitor's answer to one command. It greets long before it answers anything."""
    with _connect(path, 60) as connection:
        stream = connection.makefile("rwb")
        for each in ("qmp_capabilities", command):
            stream.write(json.dumps({"execute": each}).encode())
        stream.flush()
        answers = (json.loads(line) for line in stream)
        found = [
            next(answer for answer in answers if "event" not in answer and "QMP" not in answer) for _unused in range(2)
        ]
    answer: dict[str, Any] = found[1]["return"]
    return answer
