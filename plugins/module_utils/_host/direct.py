# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Supervisor for hosts without systemd: detached processes whose identity is recorded before exec."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .._core.errors import CommandFailed
from .files import ensure_directory, read_json, write_json
from .paths import Paths
from .priority import restore_priority
from .process import Process
from .run import ENVIRONMENT, require_tool, run
from .unit import Unit


class DirectSupervisor:
    """Records live below /run: nothing is remembered across a reboot, and nothing comes back by itself."""

    name = "direct"

    def __init__(self, paths: Paths) -> None:
        self._directory = paths.run / "processes"

    def is_installed(self, unit: Unit) -> bool:
        return True

    def install(self, unit: Unit) -> None:
        return

    def remove(self, unit: Unit) -> None:
        self._record(unit).unlink(missing_ok=True)

    def start(self, unit: Unit) -> None:
        if not unit.command or self.find(unit) is not None:
            return
        if unit.forks:
            _run_forking(unit)
            return
        ensure_directory(self._directory.parent, 0o711)
        ensure_directory(self._directory)
        require_tool(unit.command[0])
        _spawn(unit, self._record(unit))

    def stop(self, unit: Unit, timeout_seconds: float) -> None:
        process = self.find(unit)
        if process is not None:
            process.end(timeout_seconds)
        self._record(unit).unlink(missing_ok=True)

    def find(self, unit: Unit) -> Process | None:
        process = Process.parse(read_json(self._record(unit)))
        return process if process is not None and process.is_alive() else None

    def _record(self, unit: Unit) -> Path:
        return self._directory / f"tandem-{unit.kind}@{unit.name}.json"


def _run_forking(unit: Unit) -> None:
    """Run what daemonizes itself; CommandFailed."""
    if unit.launcher is None:
        run(unit.command, timeout_seconds=60)
        return
    with unit.launcher.prepared() as prepare:
        run(unit.command, timeout_seconds=60, prepare=prepare)


def _spawn(unit: Unit, record: Path) -> None:
    """Fork twice, so that the process belongs to init, and execute; CommandFailed if exec is refused.

    The process writes its own record before exec: killed at any moment, the module leaves
    either no process or one that the next run finds.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    child = os.fork()
    if child == 0:
        _become_daemon(unit, record, writer)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as stream:
        problem = stream.read(4096)
    if problem:
        record.unlink(missing_ok=True)
        raise CommandFailed(unit.command, 127, problem.decode("utf-8", "replace"))


def _become_daemon(unit: Unit, record: Path, writer: int) -> None:
    """In the forked child: never returns."""
    try:
        os.setsid()
        if os.fork() > 0:
            os._exit(0)
        process = Process.of(os.getpid())
        if not (process is not None):
            raise AssertionError()
        write_json(record, process.record())
        _redirect_standard_streams(unit)
        restore_priority()
        os.umask(0o022)
        os.chdir("/")
        os.execve(require_tool(unit.command[0]), list(unit.command), dict(ENVIRONMENT))
    except BaseException as error:
        os.write(writer, str(error).encode()[:4000])
    finally:
        os._exit(127)


def _redirect_standard_streams(unit: Unit) -> None:
    null = os.open("/dev/null", os.O_RDWR)
    output = null
    if unit.log is not None:
        output = os.open(unit.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    for descriptor, source in ((0, null), (1, output), (2, output)):
        os.dup2(source, descriptor)
    # Ansible's pipes must not stay open in a process that outlives the module. Descriptors Python
    # opened are close-on-exec; those inherited from the caller are not.
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            _set_close_on_exec(int(name))


def _set_close_on_exec(descriptor: int) -> None:
    # The descriptor of the directory listing itself is gone already.
    with contextlib.suppress(OSError):
        os.set_inheritable(descriptor, False)
