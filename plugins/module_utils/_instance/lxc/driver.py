# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Containers: what instances do, done by liblxc."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._core.errors import CommandFailed, Conflict, LxcError, NotSupported, TimedOut
from ..._core.kinds import Power
from ..._core.options import Config
from ..._core.values import Cpus
from ..._host import cgroups
from ..._host.beneath import read_beneath, remove_beneath, write_beneath
from ..._host.files import ensure_directory, read_capped, read_json, write_atomic, write_if_changed
from ..._host.mount_namespace import MountLauncher
from ..._host.paths import Paths
from ..._host.probe import has_apparmor
from ..._host.run import run
from ..._host.source import archive
from ..._host.supervisor import Supervisor
from ..._host.unit import Unit
from ..cloud_init import render_seed, stale_files
from ..model import Address, InstanceDefinition, Record, Usage
from ..record import render_record
from .binding import Container, log_tail
from .config import (
    INNER_GROUP,
    ContainerHost,
    cgroup_key,
    choose_cpus,
    limits,
    mounts_directory,
    private_mounts,
    render_config,
    render_seccomp,
)

_SEED_DIRECTORY = "var/lib/cloud/seed/nocloud-net"
_FILE_LIMIT_BYTES = 1024 * 1024
_LIBLXC_LOCKS = "/run/lxc/lock"
_SETTLE_SECONDS = 30
# systemd waits longer than lxc-stop, which kills the container itself when its time is up.
_GRACE_SECONDS = 15
_LAUNCH = "launch"
_PID_FILE = "monitor.pid"
_STARTED = "started.json"
# v1 reports "no limit" as the largest multiple of the page size.
_UNLIMITED = 1 << 60


def probe_host() -> ContainerHost:
    """What this host offers to containers."""
    return ContainerHost(
        cgroup_version=cgroups.cgroup_version(),
        has_apparmor=has_apparmor(),
        online_cpus=cgroups.usable_cpus(),
    )


class LxcDriver:
    """InstanceDriver for containers."""

    def __init__(self, paths: Paths, supervisor: Supervisor) -> None:
        self._paths = paths
        self._supervisor = supervisor

    def define(self, definition: InstanceDefinition) -> None:
        for path, data in self._files(definition).items():
            write_if_changed(path, data)
        _write_seed(Path(definition.root), render_seed(definition.record))

    def is_defined_current(self, definition: InstanceDefinition) -> bool:
        return all(read_capped(path, _FILE_LIMIT_BYTES) == data for path, data in self._files(definition).items())

    def unit(self, definition: InstanceDefinition) -> Unit:
        location = ("-P", str(self._paths.instances), "-n", definition.name)
        record = definition.record
        mounts = private_mounts(definition)
        networks = sorted({device.options["network"] for _name, device in record.nics() if "network" in device.options})
        return Unit(
            kind="instance",
            name=definition.name,
            description=f"container {definition.name}",
            command=("/usr/bin/lxc-start", "-d", "-p", f"{definition.run_directory}/{_PID_FILE}", *location),
            forks=True,
            # The monitor lies in a group of its own, where systemd would not look for it.
            pid_file=f"{definition.run_directory}/{_PID_FILE}",
            launcher=MountLauncher(mounts, _launch_command(definition)) if mounts is not None else None,
            setup=(
                ("/usr/bin/install", "-d", "-m", "0711", *_directories(definition)),
                ("/usr/bin/install", "-m", "0600", f"{definition.directory}/{_STARTED}", definition.run_directory),
            ),
            after=(*(("pool", name) for name in record.pools()), *(("network", name) for name in networks)),
            autostart=record.starts_at_boot,
            stop_timeout_seconds=record.get("boot.host_shutdown_timeout") + _GRACE_SECONDS,
            stop_commands=(
                # A frozen guest does not hear the request.
                ("/usr/bin/lxc-unfreeze", *location),
                ("/usr/bin/lxc-stop", *location, "-t", str(record.get("boot.host_shutdown_timeout"))),
            ),
        )

    def start(self, definition: InstanceDefinition) -> None:
        self.clean(definition)
        for directory in _directories(definition):
            ensure_directory(Path(directory), 0o711)
        write_atomic(Path(definition.run_directory) / _STARTED, _started_with(definition))
        log = Path(definition.directory) / "lxc.log"
        log.unlink(missing_ok=True)
        try:
            self._supervisor.start(self.unit(definition))
        except CommandFailed as error:
            raise LxcError("start", definition.name, log_tail(log) or str(error)) from None
        except OSError as error:
            raise NotSupported(
                f"container {definition.name}: the owners of its files cannot be mapped ({error.strerror}): it needs "
                "Linux 5.12 and a file system with id-mapped mounts, or security.privileged: true"
            ) from None

    def stop(self, definition: InstanceDefinition, timeout_seconds: float) -> None:
        container = self._container(definition)
        deadline = time.monotonic() + timeout_seconds
        # An init that has not set up its signals yet ignores the request; asking again costs nothing.
        while not container.shutdown(min(2, timeout_seconds)):
            if time.monotonic() >= deadline:
                raise TimedOut(f"container {definition.name} to shut down", timeout_seconds, container.state.lower())
        self._after_stop(definition)

    def kill(self, definition: InstanceDefinition) -> None:
        container = self._container(definition)
        if container.state == "FROZEN":
            # On cgroup v1 a frozen task does not die of SIGKILL.
            container.unfreeze()
        if container.state != "STOPPED":
            container.stop()
            container.wait("STOPPED", _SETTLE_SECONDS)
        self._after_stop(definition)

    def freeze(self, definition: InstanceDefinition) -> None:
        self._container(definition).freeze()

    def thaw(self, definition: InstanceDefinition) -> None:
        self._container(definition).unfreeze()

    def power(self, definition: InstanceDefinition) -> Power:
        if not (Path(definition.directory) / "config").exists():
            return Power.STOPPED
        container = self._container(definition)
        state = container.state
        if state not in ("STOPPED", "RUNNING", "FROZEN"):
            container.wait("STOPPED|RUNNING|FROZEN", _SETTLE_SECONDS)
            state = container.state
        return {"STOPPED": Power.STOPPED, "FROZEN": Power.FROZEN}.get(state, Power.RUNNING)

    def pid(self, definition: InstanceDefinition) -> int | None:
        return self._container(definition).init_pid

    def started_with(self, definition: InstanceDefinition) -> Mapping[str, Any] | None:
        return read_json(Path(definition.run_directory) / _STARTED)

    def in_force(self, definition: InstanceDefinition) -> Config:
        memory = _number(self._limit(definition, "memory"))
        return {
            "limits.processes": _number(self._limit(definition, "pids")),
            "limits.memory": memory_limit(memory, definition),
            "limits.cpu": cpu_limit(cgroups.parse_cpu_list(self._limit(definition, "cpus")), definition.record),
        }

    def set_live(self, definition: InstanceDefinition, keys: tuple[str, ...]) -> None:
        host = probe_host()
        wanted = limits(definition, host)
        unlimited = {
            cgroup_key("memory", host.cgroup_version): "-1" if host.cgroup_version == 1 else "max",
            cgroup_key("cpus", host.cgroup_version): ",".join(map(str, host.online_cpus)),
        }
        for key in keys:
            name = {"limits.memory": "memory", "limits.cpu": "cpus", "limits.processes": "pids"}.get(key)
            if name is not None:
                item = cgroup_key(name, host.cgroup_version)
                _write_limit(_limited_group(definition), item, wanted.get(item) or unlimited[item])

    def clean(self, definition: InstanceDefinition) -> None:
        cgroups.release_frozen(definition.cgroup, _SETTLE_SECONDS)
        cgroups.remove_groups(definition.cgroup)
        # First and alone: were anything mounted here after all, it must not be emptied.
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(mounts_directory(definition))
        shutil.rmtree(definition.run_directory, ignore_errors=True)
        lock = Path(f"{_LIBLXC_LOCKS}{self._paths.instances}/.{definition.name}")
        lock.unlink(missing_ok=True)
        # The directories liblxc made for it go too, as far up as they are empty.
        with contextlib.suppress(OSError):
            os.removedirs(lock.parent)

    def addresses(self, definition: InstanceDefinition) -> tuple[Address, ...]:
        pid = self.pid(definition)
        if pid is None:
            return ()
        # The host's own ip in the guest's network namespace: nothing of the guest is executed.
        links = run(["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "-j", "addr"], timeout_seconds=10).json()
        return tuple(
            Address(
                link["ifname"],
                info["family"],
                info["local"],
                info["prefixlen"],
                info["scope"],
                # A tunnel has none.
                link.get("address", ""),
            )
            for link in links
            if "LOOPBACK" not in link["flags"]
            for info in link["addr_info"]
        )

    def usage(self, definition: InstanceDefinition) -> Usage:
        group = _limited_group(definition)
        if cgroups.cgroup_version() == 2:
            statistics = dict(line.split() for line in cgroups.read_item(group, "cpu.stat").splitlines())
            memory, cpu_seconds = "memory.current", int(statistics.get("usage_usec", 0)) / 1e6
        else:
            memory, cpu_seconds = "memory.usage_in_bytes", int(cgroups.read_item(group, "cpuacct.usage") or 0) / 1e9
        return Usage(
            memory_bytes=_number(cgroups.read_item(group, memory)),
            memory_limit_bytes=self.in_force(definition)["limits.memory"],
            processes=_number(cgroups.read_item(group, "pids.current")),
            cpu_seconds=round(cpu_seconds, 3),
        )

    def _limit(self, definition: InstanceDefinition, name: str) -> str:
        return cgroups.read_item(_limited_group(definition), cgroup_key(name, cgroups.cgroup_version()))

    def _container(self, definition: InstanceDefinition) -> Container:
        return Container(definition.name, self._paths.instances)

    def _files(self, definition: InstanceDefinition) -> dict[Path, bytes]:
        directory = Path(definition.directory)
        files = {
            directory / "config": render_config(definition, probe_host()).encode(),
            directory / "seccomp": render_seccomp().encode(),
        }
        if self._supervisor.name == "systemd":
            files[directory / _LAUNCH] = _launch_program()
            # systemd also starts it without us.
            files[directory / _STARTED] = _started_with(definition)
        return files

    def _after_stop(self, definition: InstanceDefinition) -> None:
        self._supervisor.stop(self.unit(definition), _SETTLE_SECONDS)
        self.clean(definition)


def _write_seed(root: Path, seed: Mapping[str, str]) -> None:
    """cloud-init's seed in the guest's files; none is left of one that is wanted no more."""
    if not seed and not root.is_dir():
        return
    found = read_beneath(root, f"{_SEED_DIRECTORY}/meta-data", _FILE_LIMIT_BYTES)
    for name in stale_files(found, seed):
        remove_beneath(root, f"{_SEED_DIRECTORY}/{name}")
    for name, text in seed.items():
        write_beneath(root, f"{_SEED_DIRECTORY}/{name}", text.encode())


def _directories(definition: InstanceDefinition) -> tuple[str, ...]:
    """Run time directories, outermost first: the guest's root, nobody special on the host, must reach the last."""
    own = Path(definition.run_directory)
    return str(own.parent), str(own), mounts_directory(definition)


def _started_with(definition: InstanceDefinition) -> bytes:
    record = render_record(definition.record)
    started = {"config": record["expanded_config"], "devices": record["expanded_devices"]}
    return json.dumps(started, sort_keys=True).encode()


def _launch_command(definition: InstanceDefinition) -> tuple[str, ...]:
    return "/usr/bin/python3", "-I", "-S", f"{definition.directory}/{_LAUNCH}"


def _launch_program() -> bytes:
    """What makes the private mounts where systemd starts the container."""
    package = f"{__package__.rpartition('._instance')[0]}._host"
    main = "import sys\nfrom _host.mount_namespace import execute_wrapped\nexecute_wrapped(sys.argv[1])\n"
    return archive(main, f"{package}.mount_namespace", f"{package}.namespaces", f"{package}.private_mounts")


def _write_limit(group: str, item: str, value: str) -> None:
    """Set a limit of a running container. On version 1 the group inside has a set of CPUs of its own, which must
    stay within its parent's: a narrower set goes to it first, a wider one last."""
    inner = f"{group}/{INNER_GROUP}"
    if cgroups.cgroup_version() == 2 or not item.startswith("cpuset."):
        cgroups.write_item(group, item, value)
        return
    with contextlib.suppress(Conflict):
        cgroups.write_item(inner, item, value)
    cgroups.write_item(group, item, value)
    cgroups.write_item(inner, item, value)


def _limited_group(definition: InstanceDefinition) -> str:
    return f"{definition.cgroup}/container"


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def memory_limit(in_force: int | None, definition: InstanceDefinition) -> int | str | None:
    """The limits.memory that a limit in bytes means; a recorded percentage is kept as such."""
    if in_force is None or in_force >= _UNLIMITED:
        return None
    recorded = definition.record.get("limits.memory")
    return recorded if in_force == definition.memory_bytes else in_force


def cpu_limit(chosen: tuple[int, ...], record: Record) -> Cpus | None:
    """The limits.cpu that a set of CPUs means: the recorded limit if it leads to just this set."""
    if not chosen:
        return None  # version 2 shows nothing while no set was given
    online = cgroups.usable_cpus()
    recorded = record.get("limits.cpu")
    if chosen == (choose_cpus(record.name, recorded, online) if recorded else online):
        return recorded  # type: ignore[no-any-return]
    return Cpus(len(chosen), chosen) if chosen != online else None
