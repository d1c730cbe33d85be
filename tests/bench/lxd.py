# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""An LXD of the distribution, started for a benchmark and removed without a trace.

Its packages are unpacked, not installed: they would add users, subordinate ids and services to this machine. The
server keeps all it has below a directory of its own (LXD_DIR), so that one that runs here already is not disturbed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .interruption import uninterrupted

DIRECTORY = Path("/var/lib/tandem-bench-lxd")
NETWORK = "tdlxd0"
PACKAGES = ("lxd", "lxd-tools")
IMAGE = "bench"
_START_SECONDS = 60
_STOP_SECONDS = 60
_PRESEED = {
    "storage_pools": [{"name": "default", "driver": "btrfs", "config": {"size": "20GiB"}}],
    "networks": [
        {
            "name": NETWORK,
            "type": "bridge",
            # In the range that is kept for benchmarks (RFC 2544): to find a free one, LXD would send pings around.
            "config": {"ipv4.address": "198.18.213.1/24", "ipv4.nat": "true", "ipv6.address": "none"},
        }
    ],
    "profiles": [
        {
            "name": "default",
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": "default"},
                "eth0": {"type": "nic", "name": "eth0", "network": NETWORK},
            },
        }
    ],
}


class LxdUnavailable(Exception):
    """Why there is no LXD to compare with on this machine."""


def unpack(directory: Path) -> None:
    """The packages and those they need that this machine lacks, below directory; LxdUnavailable if apt has none."""
    if (directory / "unpacked").exists():
        return
    shutil.rmtree(directory, ignore_errors=True)
    (directory / "packages").mkdir(parents=True)
    for argv in (["update", "-qq"], ["download", "-qq", *_needed_packages(directory)]):
        _apt(directory / "packages", "-o", "APT::Sandbox::User=root", *argv)
    for package in (directory / "packages").glob("*.deb"):
        subprocess.run(["dpkg", "--extract", package, directory], check=True, capture_output=True)
    (directory / "unpacked").touch()


def version(directory: Path) -> str:
    """Of the unpacked LXD."""
    try:
        return subprocess.run(
            [directory / "usr" / "bin" / "lxc", "--version"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "none"


def _needed_packages(directory: Path) -> list[str]:
    """What apt would install, by name: lines such as 'Inst lxd (5.0.2-5 Debian:12.9/stable [amd64])'."""
    options = ("--simulate", "--reinstall", "--no-install-recommends", "install")
    told = _apt(directory, *options, *PACKAGES)
    return [line.split()[1] for line in told.splitlines() if line.startswith("Inst ")]


def _apt(directory: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["apt-get", *arguments], cwd=directory, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LxdUnavailable("LXD is taken from Debian's packages, and this machine has no apt-get") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise LxdUnavailable(f"apt-get {arguments[-1]}: {last}")
    return done.stdout


class Lxd:
    """A server with a pool on a btrfs loop file, a bridge and the default profile. Leaves nothing when it is left."""

    def __init__(self, unpacked: Path) -> None:
        self._unpacked = unpacked
        self._server: subprocess.Popen[bytes] | None = None
        self._had_table = _has_table()
        self._earlier_groups = set(_pivot_groups())

    @property
    def socket(self) -> Path:
        return DIRECTORY / "unix.socket"

    def __enter__(self) -> Lxd:
        is_leftover = DIRECTORY.exists()
        try:
            if is_leftover:
                self._end_earlier_server()
            self._start()
            if is_leftover:
                # LXD itself knows best what belongs to it.
                self._delete_objects()
            self._initialize()
        except BaseException:
            with uninterrupted():
                self._remove()
            raise
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with uninterrupted():
            self._remove()

    @property
    def environment(self) -> Mapping[str, str]:
        libraries = [str(path) for path in sorted(self._unpacked.glob("usr/lib/*-linux-gnu*"))]
        programs = [str(self._unpacked / "usr" / name) for name in ("bin", "sbin")]
        return {
            **os.environ,
            "LXD_DIR": str(DIRECTORY),
            "LXD_CONF": str(DIRECTORY / "client"),
            "LD_LIBRARY_PATH": ":".join(libraries),
            "PATH": ":".join([*programs, os.environ["PATH"]]),
        }

    def lxc(self, *arguments: str | Path, stdin: Path = Path("/dev/null")) -> str:
        return self._run("lxc", *arguments, stdin=stdin)

    def benchmark(self, *arguments: str) -> str:
        return self._run("lxd-benchmark", *arguments)

    def import_image(self, root_filesystem: Path, directory: Path) -> None:
        """An unpacked image of ours as image IMAGE, by way of two archives in directory."""
        metadata = {
            "architecture": os.uname().machine,
            "creation_date": int(time.time()),
            "properties": {"description": "the image of the benchmark"},
        }
        # JSON is YAML.
        (directory / "metadata.yaml").write_text(json.dumps(metadata))
        archives = directory / "metadata.tar", directory / "rootfs.tar"
        with _removed(archives):
            _check("tar", "-C", directory, "-cf", archives[0], "metadata.yaml")
            _check("tar", "-C", root_filesystem, "--numeric-owner", "--xattrs", "-cf", archives[1], ".")
            self.lxc("image", "import", *archives, "--alias", IMAGE)

    def _run(self, program: str, *arguments: str | Path, stdin: Path = Path("/dev/null")) -> str:
        with stdin.open("rb") as source:
            done = subprocess.run(
                (self._program(program), *arguments),
                env=self.environment,
                stdin=source,
                capture_output=True,
                check=False,
            )
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode(errors="replace")
            raise RuntimeError(f"{program} {' '.join(map(str, arguments))}: {said[-500:]}")
        return done.stdout.decode(errors="replace")

    def _program(self, name: str) -> Path:
        return self._unpacked / "usr" / "bin" / name

    def _start(self) -> None:
        DIRECTORY.mkdir(mode=0o711, exist_ok=True)
        with (DIRECTORY / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                (self._program("lxd"), "--group", "root"),
                env=self.environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for this program, which then stops the server in order.
                start_new_session=True,
            )
        waiting = (self._program("lxd"), "waitready", f"--timeout={_START_SECONDS}")
        done = subprocess.run(waiting, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != 0 or self._server.poll() is not None:
            log_lines = (DIRECTORY / "server.log").read_text(errors="replace").strip().splitlines()
            raise LxdUnavailable(f"LXD does not start here: {(log_lines or [done.stderr])[-1]}")

    def _initialize(self) -> None:
        argv = (self._program("lxd"), "init", "--preseed")
        given = json.dumps(_PRESEED)
        done = subprocess.run(argv, input=given, env=self.environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LxdUnavailable(f"LXD cannot be set up here: {done.stderr.strip()}")

    def _end_earlier_server(self) -> None:
        """Of a run that was killed: it knows itself by which pid it goes."""
        argv = (self._program("lxd"), "shutdown", f"--timeout={_STOP_SECONDS}")
        subprocess.run(argv, env=self.environment, capture_output=True, check=False)
        self.socket.unlink(missing_ok=True)

    def _remove(self) -> None:
        """Whatever there is, also of a start that failed."""
        self._delete_objects()
        self._stop()
        for mount in _mounts_below(DIRECTORY):
            subprocess.run(["umount", "--lazy", mount], capture_output=True, check=False)
        for device in _loop_devices_below(DIRECTORY):
            subprocess.run(["losetup", "--detach", device], capture_output=True, check=False)
        shutil.rmtree(DIRECTORY)
        for group in set(_pivot_groups()) - self._earlier_groups:
            with contextlib.suppress(OSError):
                group.rmdir()
        if not self._had_table:
            for family in ("inet", "ip", "ip6", "bridge"):
                subprocess.run(["nft", "delete", "table", family, "lxd"], capture_output=True, check=False)

    def _delete_objects(self) -> None:
        """Through the server itself: it ends its dnsmasq, takes its bridge down and unmounts its pool."""
        if not self.socket.exists():
            return
        for argv in self._deletions():
            with contextlib.suppress(RuntimeError):
                self.lxc(*argv)

    def _deletions(self) -> Iterator[Sequence[str]]:
        names = [found["name"] for found in self._list("list")]
        if names:
            yield "delete", "--force", *names
        yield from (("image", "delete", found["fingerprint"]) for found in self._list("image", "list"))
        # As the preseed made it; nothing else may use pool or network when they go.
        yield "profile", "device", "remove", "default", "eth0"
        yield "profile", "device", "remove", "default", "root"
        yield "network", "delete", NETWORK
        yield "storage", "delete", "default"

    def _list(self, *command: str) -> list[dict[str, Any]]:
        try:
            found: list[dict[str, Any]] = json.loads(self.lxc(*command, "--format", "json"))
        except (RuntimeError, ValueError):
            return []
        return found

    def _stop(self) -> None:
        """The process that was started here, by its pid."""
        if self._server is None:
            return
        for number in (signal.SIGPWR, signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._server.send_signal(number)
                self._server.wait(_STOP_SECONDS)
                break
        self._server = None


@contextlib.contextmanager
def _removed(paths: Sequence[Path]) -> Iterator[None]:
    try:
        yield
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _check(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _has_table() -> bool:
    """Whether somebody else's LXD has rules in this machine's firewall."""
    done = subprocess.run(["nft", "-j", "list", "tables"], capture_output=True, text=True, check=False)
    return '"name": "lxd"' in done.stdout


def _pivot_groups() -> list[Path]:
    """Control groups that liblxc makes for itself and leaves, the same for every LXD of a machine."""
    return [path for path in Path("/sys/fs/cgroup").glob("*/lxc.pivot") if not path.parent.is_symlink()]


def _mounts_below(directory: Path) -> list[Path]:
    """Innermost first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    targets = [Path(line.split()[4]) for line in lines]
    return [target for target in reversed(targets) if target.is_relative_to(directory)]


def _loop_devices_below(directory: Path) -> Iterator[str]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        if path.read_text().startswith(f"{directory}/"):
            yield f"/dev/{path.parts[3]}"
