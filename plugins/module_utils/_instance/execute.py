# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Run one command in an instance of this host, either type, and keep what it prints. Used by modules."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from .._core.errors import EngineError, TimedOut
from .._host.paths import Paths
from .._host.run import run
from . import enter
from .frames import Input
from .script import FAILED_STATUS, render_environment
from .stream import Guest, Run

# What one stream of a command may print into a result.
OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024
_NO_TIMEOUT_SECONDS = 7 * 24 * 3600.0


@dataclass(frozen=True)
class Command:
    """What to run. user is a name or a number of the guest; directory is the user's home if empty.

    environment is added to what a login as user would have, and to the instance's environment.* options.
    """

    argv: tuple[str, ...]
    stdin: bytes = b""
    environment: Mapping[str, str] = field(default_factory=dict)
    user: str = "root"
    directory: str = ""
    timeout_seconds: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What an ended command left; status is 128 + n after signal n."""

    status: int
    stdout: bytes
    stderr: bytes


def execute(
    paths: Paths,
    name: str,
    command: Command,
    *,
    agent_timeout_seconds: float = 60,
    lock_timeout_seconds: float = 300,
) -> Outcome:
    """Run command in a running instance and wait for its end.

    Raises InvalidRequest for a command or name nobody can use, Conflict if the instance does not exist or does
    not run, TimedOut when command.timeout_seconds are over (the command is killed then) or a virtual machine's
    agent does not answer, Locked while a virtual machine runs another command, EngineError if the guest lacks the
    user, the directory or a tool.
    """
    root = os.fspath(paths.root)
    record = enter.read_record(root, name)
    # Opens a message about a command that could not be started; the guest cannot know it before.
    mark = f"tandem-{os.urandom(8).hex()}"
    if enter.is_container(record):
        outcome = _execute_in_container(root, name, command, mark)
    else:
        environment = {**enter.instance_environment(record), **command.environment}
        guest = enter.virtual_machine(root, name, agent_timeout_seconds, lock_timeout_seconds)
        outcome = _execute_in_virtual_machine(guest, command, environment, mark)
    problem = outcome.stderr.partition(f"{mark} error ".encode())[2]
    if outcome.status == FAILED_STATUS and problem:
        raise EngineError(f"instance {name}: {problem.decode('utf-8', 'replace').strip()}")
    return outcome


def _execute_in_container(root: str, name: str, command: Command, mark: str) -> Outcome:
    enter.require_running(name, run(enter.state_command(root, name), check=False).text.strip())
    preamble = render_environment(command.environment).encode() if command.environment else b""
    how = {"user": command.user, "directory": command.directory, "mark": mark}
    argv = enter.attach_command(root, name, command.argv, **how, preamble_bytes=len(preamble))
    seconds = _NO_TIMEOUT_SECONDS if command.timeout_seconds is None else command.timeout_seconds
    try:
        result = run(
            argv,
            stdin=preamble + command.stdin,
            check=False,
            timeout_seconds=seconds,
            cwd=enter.start_directory(),
            prepare=_set_umask,
        )
    except TimedOut:
        raise TimedOut(f"the command in instance {name}", seconds, "it was killed") from None
    if max(len(result.stdout), len(result.stderr)) >= OUTPUT_LIMIT_BYTES:
        raise _too_much(name)
    return Outcome(result.status if result.status >= 0 else 128 - result.status, result.stdout, result.stderr)


def _set_umask() -> None:
    """A login's umask, not the one of our records."""
    os.umask(0o022)


def _execute_in_virtual_machine(guest: Guest, command: Command, environment: Mapping[str, str], mark: str) -> Outcome:
    printed = {1: bytearray(), 2: bytearray()}

    def keep(descriptor: int, data: bytes) -> None:
        printed[descriptor] += data
        if len(printed[descriptor]) >= OUTPUT_LIMIT_BYTES:
            raise _too_much(guest.name)

    status = Run(
        guest,
        command.argv,
        given=Input(command.stdin) if command.stdin else None,
        sink=keep,
        user=command.user,
        directory=command.directory,
        environment=environment,
        mark=mark,
        timeout_seconds=command.timeout_seconds,
    ).finish()
    return Outcome(status, bytes(printed[1]), bytes(printed[2]))


def _too_much(name: str) -> EngineError:
    return EngineError(
        f"the command in instance {name} printed {OUTPUT_LIMIT_BYTES} bytes or more: write to a file there and fetch it"
    )
