# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A host of its own for networks: a network namespace in which modules run, one outside of it, and guests.

The kernel's forwarding switch, its interfaces and its rules belong to a namespace, so what is tested here
neither disturbs the machine nor is disturbed by it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .runner import BIN, CHECKOUT

HOST, OUTSIDE, GUEST = "tdn-host", "tdn-outside", "tdn-guest"
HOST_ADDRESS, OUTSIDE_ADDRESS, METADATA_ADDRESS = "10.93.200.1", "10.93.200.2", "169.254.169.254"
TIMEOUT_SECONDS = 60

# Programs that run inside a namespace. Each prints one line of JSON.
_ASK = """
import json, socket, struct, sys
name, server = sys.argv[1:]
question = b"".join(bytes([len(p)]) + p.encode() for p in name.split(".")) + bytes(1) + struct.pack("!HH", 1, 1)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(1)
s.sendto(struct.pack("!6H", 7, 256, 1, 0, 0, 0) + question, (server, 53))
try:
    r = s.recv(512)
except OSError as error:
    print(json.dumps(type(error).__name__))
else:
    print(json.dumps(socket.inet_ntoa(r[-4:]) if r[7] else "no answer, status %d" % (r[3] & 15)))
"""
_LISTEN = """
import json, socket, sys
s = socket.create_server((sys.argv[1], int(sys.argv[2]))); print("ready", flush=True); s.settimeout(20)
c, peer = s.accept(); print(json.dumps(peer), flush=True)
"""
_CONNECT = """
import json, socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.settimeout(1)
s.bind(("", int(sys.argv[3])))
try:
    s.connect((sys.argv[1], int(sys.argv[2]))); print(json.dumps("connected"))
except OSError as error:
    print(json.dumps(type(error).__name__))
"""
# udhcpc's hook: shows what it was told and sets it.
_HOOK = """#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add "$ip/$mask" dev "$interface"
[ -z "$router" ] || ip route add default via "$router"
env | grep -E '^(ip|mask|router|dns|domain|hostname|mtu|lease|search|serverid)='
"""


@dataclass(frozen=True)
class Lab:
    """root is the state root of the modules run here; directory holds what the tests need."""

    root: Path
    directory: Path

    # The module.

    def start(self, module: str, options: Mapping[str, Any]) -> subprocess.Popen[str]:
        arguments = {"root": str(self.root), "_ansible_diff": True, **options}
        path = self.directory / f"arguments-{time.monotonic_ns()}.json"
        path.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        name = f"ansible_collections.tandem.machines.plugins.modules.{module}"
        return subprocess.Popen(
            ["ip", "netns", "exec", HOST, str(BIN / "python"), "-m", name, str(path)],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT / ".build")},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, module: str = "network", **options: Any) -> dict[str, Any]:
        """The module's result; it must succeed."""
        result = finish(self.start(module, options))
        assert not result.get("failed"), result
        return result

    def refuse(self, **options: Any) -> str:
        """The one line with which the module refuses."""
        result = finish(self.start("network", options))
        assert result.get("failed") and "\n" not in result["msg"], result
        return str(result["msg"])

    def kill_after(self, seconds: float, **options: Any) -> bool:
        """SIGKILL the module that long after its start; whether it was still at work."""
        process = self.start("network", options)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_SECONDS)
        return process.returncode == -signal.SIGKILL

    # The machine.

    def command(self, *argv: str, namespace: str = HOST, check: bool = True) -> str:
        """What a program prints in a namespace."""
        process = subprocess.run(
            ["ip", "netns", "exec", namespace, *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_SECONDS,
            cwd=self.directory,
        )
        assert not check or process.returncode == 0, f"{argv}: {process.stderr}"
        return process.stdout

    def traces(self) -> list[str]:
        """All that a network leaves: links, tables, processes, files, the forwarding switch."""
        links = [link["ifname"] for link in json.loads(self.command("ip", "-j", "link", "show", "type", "bridge"))]
        tables = self.command("nft", "list", "tables").split("\n")[:-1]
        files = [str(path) for path in self.root.rglob("*") if path.name != "networks"]
        return [*links, *tables, *map(str, self.processes()), *files, *(["forwarding"] if self.forwards() else [])]

    def forwards(self) -> bool:
        return self.command("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "1"

    def processes(self) -> list[int]:
        """Every dnsmasq with a file below our root."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if f"{self.root}/networks/" in path.read_text():
                    found.append(int(path.parent.name))
        return found

    # Guests and the outside.

    def join(self, bridge: str, hwaddr: str) -> None:
        """Connect the guest to a bridge with a fresh network card."""
        self.command("ip", "link", "delete", "tdnv0", check=False)
        self.command("ip", "link", "add", "tdnv0", "type", "veth", "peer", "name", "eth0", "netns", GUEST)
        self.command("ip", "link", "set", "dev", "tdnv0", "master", bridge, "up")
        self.command("ip", "link", "set", "dev", "eth0", "address", hwaddr, "up", namespace=GUEST)

    def lease(self, hostname: str = "") -> dict[str, str]:
        """What DHCP gives the guest; {} if nothing came."""
        hook = self.directory / "hook"
        hook.write_text(_HOOK)
        hook.chmod(0o700)
        self.command("ip", "address", "flush", "dev", "eth0", namespace=GUEST)
        name = ["-x", f"hostname:{hostname}"] if hostname else []
        argv = ["udhcpc", "-i", "eth0", "-f", "-q", "-n", "-t", "2", "-T", "1", "-O", "mtu", "-O", "search", *name]
        shown = self.command(*argv, "-s", str(hook), namespace=GUEST, check=False)
        return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)

    def ask(self, name: str, server: str, namespace: str = GUEST) -> str:
        """The address that a DNS server has for a name, or what went wrong."""
        return str(json.loads(self.command(sys.executable, "-c", _ASK, name, server, namespace=namespace)))

    def connect(self, source: str, target: str, address: str, port: int = 0) -> tuple[str, Any]:
        """Connect from one namespace to an address in another; the outcome, and the peer the other saw."""
        argv = ["ip", "netns", "exec", target, sys.executable, "-c", _LISTEN, address, "8000"]
        listener = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert listener.stdout is not None
        assert listener.stdout.readline() == "ready\n"
        outcome = json.loads(self.command(sys.executable, "-c", _CONNECT, address, "8000", str(port), namespace=source))
        peer = json.loads(listener.stdout.readline()) if outcome == "connected" else None
        listener.kill()
        listener.communicate()
        return outcome, peer


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The result of a started module."""
    output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert "Traceback" not in errors + output, errors + output
    return dict(json.loads(output))


@contextlib.contextmanager
def open_lab(root: Path, directory: Path) -> Iterator[Lab]:
    """The lab as long as the block lasts; afterwards nothing of it is left."""
    lab = Lab(root, directory)
    _close(lab)
    try:
        _build(lab)
        yield lab
    finally:
        _close(lab)


def _build(lab: Lab) -> None:
    for name in (HOST, OUTSIDE, GUEST):
        subprocess.run(["ip", "netns", "add", name], check=True)
        lab.command("ip", "link", "set", "dev", "lo", "up", namespace=name)
    lab.command("ip", "link", "add", "wan0", "type", "veth", "peer", "name", "wan0", "netns", OUTSIDE)
    for namespace, address in ((HOST, HOST_ADDRESS), (OUTSIDE, OUTSIDE_ADDRESS)):
        lab.command("ip", "address", "add", f"{address}/24", "dev", "wan0", namespace=namespace)
        lab.command("ip", "link", "set", "dev", "wan0", "up", namespace=namespace)
    # The host reaches a cloud's metadata service, and the outside knows a way into the guests' subnets.
    lab.command("ip", "address", "add", f"{METADATA_ADDRESS}/32", "dev", "wan0", namespace=OUTSIDE)
    lab.command("ip", "route", "add", METADATA_ADDRESS, "via", OUTSIDE_ADDRESS)
    lab.command("ip", "route", "add", "10.93.0.0/17", "via", HOST_ADDRESS, namespace=OUTSIDE)
    lab.command("sysctl", "-q", "-w", "net.ipv4.ip_forward=0")


def _close(lab: Lab) -> None:
    for pid in lab.processes():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    for name in (HOST, OUTSIDE, GUEST):
        subprocess.run(["ip", "netns", "delete", name], check=False, stderr=subprocess.DEVNULL)
    run_directory = Path("/run/tandem") / ("root" + str(lab.root).replace("/", "-"))
    for directory in (lab.root, run_directory):
        shutil.rmtree(directory, ignore_errors=True)
