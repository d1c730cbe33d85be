# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Virtual machines: what instances do, done by QEMU.

What only a change needs is imported where it is used: Ansible compiles every module of its archive anew
for each task, and most tasks find nothing to do.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ..._core.errors import CommandFailed, Conflict, EngineError, QmpError, TimedOut
from ..._core.kinds import Power
from ..._core.options import Config
from ..._host import cgroups
from ..._host.files import ensure_directory, read_capped, read_json
from ..._host.paths import Paths
from ..._host.process import Process
from ..._host.supervisor import Supervisor
from ..._host.unit import Unit
from ..model import Address, InstanceDefinition, Usage
from .native import LAUNCH, is_current, write_files
from .program import require_host
from .qmp import Qmp, await_greeting, query_status
from .spec import ROOT_DISK, require_virtiofsd, round_memory

# Must equal STARTED in launch.py.
STARTED = "started.json"

# Without the user's settings and without site-packages, which the launch program has no use for.
_PYTHON = ("/usr/bin/python3", "-I", "-S")
_START_SECONDS = 60
_STATUS_SECONDS = 5
_KILL_SECONDS = 5
_AGENT_SECONDS = 5
_LOG_LIMIT_BYTES = 16 * 1024 * 1024
_LOG_TAIL_CHARACTERS = 600
# QEMU's run states in which the guest's processors do not run, nor will before somebody acts.
_PAUSED = ("paused", "suspended", "io-error", "guest-panicked", "internal-error", "watchdog")


class QemuDriver:
    """InstanceDriver for virtual machines."""

    def __init__(self, paths: Paths, supervisor: Supervisor) -> None:
        self._paths = paths
        self._supervisor = supervisor

    def define(self, definition: InstanceDefinition) -> None:
        write_files(definition, require_host())

    def is_defined_current(self, definition: InstanceDefinition) -> bool:
        return is_current(definition, require_host())

    def require_disks(self, definition: InstanceDefinition) -> None:
        """MissingDependency if this host cannot serve directories to a virtual machine."""
        require_virtiofsd(definition, require_host())

    def unit(self, definition: InstanceDefinition) -> Unit:
        record = definition.record
        networks = sorted({device.options["network"] for _name, device in record.nics() if "network" in device.options})
        program = (*_PYTHON, f"{definition.directory}/{LAUNCH}")
        grace_seconds = record.get("boot.host_shutdown_timeout")
        return Unit(
            kind="instance",
            name=definition.name,
            description=f"virtual machine {definition.name}",
            command=program,
            after=(*(("pool", name) for name in record.pools()), *(("network", name) for name in networks)),
            autostart=record.starts_at_boot,
            stop_timeout_seconds=grace_seconds,
            stop_commands=((*program, "stop", str(grace_seconds)),),
            log=str(_log(definition)),
        )

    def create_disk(self, definition: InstanceDefinition, size_bytes: int | None) -> None:
        """The root disk over the image's; one that exists is left alone, since only whole ones get the name."""
        from .disk import create_overlay

        if not os.path.exists(definition.root):
            create_overlay(Path(definition.root), Path(definition.backing), size_bytes)

    def grow_disk(self, definition: InstanceDefinition, size_bytes: int) -> None:
        """Give the root disk a larger size, also while the machine runs; Conflict for a smaller one."""
        from .disk import grow, must_grow

        process = self._process(definition)
        if process is None:
            grow(Path(definition.root), size_bytes)
        elif must_grow(Path(definition.root), size_bytes):
            with self._monitor(definition, process) as monitor:
                monitor.execute("block_resize", {"node-name": ROOT_DISK, "size": size_bytes})

    def start(self, definition: InstanceDefinition) -> None:
        from .startup import await_launch, listening

        if self._process(definition) is not None:
            return
        unit = self.unit(definition)
        unfinished = self._supervisor.find(unit)
        if unfinished is not None:
            # The launch program of a run that was killed: nobody heard how far it came.
            unfinished.end(_KILL_SECONDS)
        self.clean(definition)
        run_directory = Path(definition.run_directory)
        ensure_directory(run_directory)
        complaint = ""
        try:
            with listening(run_directory) as listener:
                self._supervisor.start(unit)
                complaint = await_launch(listener, self._supervisor.find(unit), _START_SECONDS)
            await_greeting(_monitor_path(definition), timeout_seconds=_START_SECONDS)
        except EngineError as error:
            # Read before cleaning up; a QEMU that hangs must not stay.
            reason = complaint or _log_tail(definition) or str(error)
            self.kill(definition)
            raise CommandFailed((f"start of virtual machine {definition.name}",), 1, reason) from None

    def stop(self, definition: InstanceDefinition, timeout_seconds: float) -> None:
        process = self._process(definition)
        if process is not None:
            with _kept_console(definition, process):
                self._shut_down(definition, process, timeout_seconds)
        self._after_stop(definition)

    def kill(self, definition: InstanceDefinition) -> None:
        # A start that was interrupted has a process and no record of ours yet.
        process = self._process(definition) or self._supervisor.find(self.unit(definition))
        if process is not None:
            with _kept_console(definition, process):
                # On SIGTERM QEMU writes back what it caches, which takes it no time.
                process.end(_KILL_SECONDS)
        self._after_stop(definition)

    def freeze(self, definition: InstanceDefinition) -> None:
        with self._monitor(definition, self._require_process(definition)) as monitor:
            monitor.execute("stop")

    def thaw(self, definition: InstanceDefinition) -> None:
        with self._monitor(definition, self._require_process(definition)) as monitor:
            monitor.execute("cont")

    def power(self, definition: InstanceDefinition) -> Power:
        process = self._process(definition)
        if process is None:
            return Power.STOPPED
        try:
            state = query_status(_monitor_path(definition), process.pid, _STATUS_SECONDS)
        except TimedOut:
            # It lives, and whoever has the monitor now is about to change it.
            return Power.RUNNING
        except QmpError:
            return Power.RUNNING if process.is_alive() else Power.STOPPED
        return Power.FROZEN if state in _PAUSED else Power.RUNNING

    def pid(self, definition: InstanceDefinition) -> int | None:
        process = self._process(definition)
        return process.pid if process is not None else None

    def started_with(self, definition: InstanceDefinition) -> Mapping[str, Any] | None:
        started = _started(definition)
        return started["started_with"] if started is not None else None

    def missing(self, definition: InstanceDefinition) -> tuple[str, ...]:
        """Protections the running machine was started without, because this host lacks them."""
        started = _started(definition)
        return tuple(started["missing"]) if started is not None else ()

    def in_force(self, definition: InstanceDefinition) -> Config:
        # No option of a virtual machine that lives in QEMU is LIVE so far.
        return {}

    def set_live(self, definition: InstanceDefinition, keys: tuple[str, ...]) -> None:
        return

    def clean(self, definition: InstanceDefinition) -> None:
        ending = self._recorded(definition)
        if ending is not None and not ending.is_alive():
            # Its first thread is gone; the last one still holds disks, taps and groups for some milliseconds.
            ending.wait(_KILL_SECONDS)
        # Tap interfaces, the console log and virtiofsd end with QEMU, which alone holds them.
        cgroups.remove_groups(definition.cgroup)
        shutil.rmtree(definition.run_directory, ignore_errors=True)

    def addresses(self, definition: InstanceDefinition) -> tuple[Address, ...]:
        from .. import agent

        interfaces = agent.observe_addresses(f"{definition.run_directory}/qga.sock", definition.name, _AGENT_SECONDS)
        return tuple(
            Address(
                interface["name"],
                entry["family"],
                entry["address"],
                entry["prefix"],
                "link" if entry["address"].startswith(("fe80:", "169.254.")) else "global",
                interface["hwaddr"],
            )
            for interface in interfaces
            if interface["name"] != "lo"
            for entry in interface["addresses"]
        )

    def usage(self, definition: InstanceDefinition) -> Usage:
        process = self._process(definition)
        if process is None:
            return Usage()
        return Usage(
            memory_bytes=_resident_bytes(process.pid),
            memory_limit_bytes=round_memory(definition.memory_bytes) if definition.memory_bytes else None,
            cpu_seconds=_cpu_seconds(process.pid),
        )

    def save_console(self, definition: InstanceDefinition) -> None:
        """Move what the running machine has printed to console.log in its directory."""
        process = self._process(definition)
        if process is not None:
            with _kept_console(definition, process):
                pass

    def _process(self, definition: InstanceDefinition) -> Process | None:
        process = self._recorded(definition)
        return process if process is not None and process.is_alive() else None

    def _recorded(self, definition: InstanceDefinition) -> Process | None:
        """QEMU as it was started last, alive or not."""
        started = _started(definition)
        return Process.parse(started["process"]) if started is not None else None

    def _require_process(self, definition: InstanceDefinition) -> Process:
        process = self._process(definition)
        if process is None:
            raise Conflict(f"virtual machine {definition.name} does not run: start it first")
        return process

    def _monitor(self, definition: InstanceDefinition, process: Process) -> Qmp:
        return Qmp(_monitor_path(definition), process.pid)

    def _shut_down(self, definition: InstanceDefinition, process: Process, timeout_seconds: float) -> None:
        from .launch import PRESS_AGAIN_SECONDS

        deadline = time.monotonic() + timeout_seconds
        while True:
            # A guest that is still booting ignores the button; pressing it again costs nothing.
            with suppress(QmpError, TimedOut):
                self._press_power_button(definition, process)
            remaining = deadline - time.monotonic()
            with suppress(TimedOut):
                process.wait(max(min(PRESS_AGAIN_SECONDS, remaining), 0))
                return
            if remaining <= PRESS_AGAIN_SECONDS:
                power = self.power(definition).value
                raise TimedOut(f"virtual machine {definition.name} to shut down", timeout_seconds, power)

    def _press_power_button(self, definition: InstanceDefinition, process: Process) -> None:
        with self._monitor(definition, process) as monitor:
            # A frozen guest cannot act on it.
            if monitor.execute("query-status")["status"] == "paused":
                monitor.execute("cont")
            monitor.execute("system_powerdown")

    def _after_stop(self, definition: InstanceDefinition) -> None:
        self._supervisor.stop(self.unit(definition), _KILL_SECONDS)
        self.clean(definition)


def _monitor_path(definition: InstanceDefinition) -> Path:
    return Path(definition.run_directory) / "qmp.sock"


def _log(definition: InstanceDefinition) -> Path:
    return Path(definition.directory) / "qemu.log"


def _log_tail(definition: InstanceDefinition) -> str:
    data = read_capped(_log(definition), _LOG_LIMIT_BYTES) or b""
    return data.decode("utf-8", "replace").strip()[-_LOG_TAIL_CHARACTERS:]


def _started(definition: InstanceDefinition) -> Mapping[str, Any] | None:
    return read_json(Path(definition.run_directory) / STARTED)


@contextmanager
def _kept_console(definition: InstanceDefinition, process: Process) -> Iterator[None]:
    """Move the console's log to console.log afterwards; the log outlives its machine while we have it open."""
    from .console import move_log, open_live_log

    descriptor = open_live_log(process.pid)
    try:
        yield
    finally:
        if descriptor is not None:
            move_log(descriptor, Path(definition.directory) / "console.log")
            os.close(descriptor)


def _resident_bytes(pid: int) -> int | None:
    """Memory of QEMU in use, the guest's included."""
    data = read_capped(Path(f"/proc/{pid}/statm"), 1024)
    return int(data.split()[1]) * os.sysconf("SC_PAGE_SIZE") if data else None


def _cpu_seconds(pid: int) -> float | None:
    """User and system time of all threads (fields 14 and 15 of /proc/PID/stat)."""
    data = read_capped(Path(f"/proc/{pid}/stat"), 4096)
    if not data:
        return None
    fields = data[data.rindex(b")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
