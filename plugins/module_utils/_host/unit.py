# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a supervisor runs, and its rendering as a systemd unit file. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from .._core.errors import InvalidRequest

Argv = tuple[str, ...]

_NOT_IN_UNIT_NAMES = re.compile(r"[^a-zA-Z0-9:_.-]")


class Launcher(Protocol):
    """Gives a main process what it cannot give itself, such as mounts of its own."""

    def wrap(self, command: Argv) -> Argv:
        """A command that does so and then becomes the given one."""

    def prepared(self) -> AbstractContextManager[Callable[[], None]]:
        """While the block lasts: a function to call in the child between fork and exec. OSError."""


@dataclass(frozen=True, eq=False, repr=False)
class Unit:
    """A main process with the commands around it.

    command is the main process (empty: the unit is only its setup and teardown). With forks it
    daemonizes itself and is ready when the started process exits. setup runs before and teardown
    after it at boot and shutdown, failures ignored: each must be harmless when already done.
    stop_commands ask the main process to end, before systemd sends SIGTERM. after has kind and name of
    other units of ours that are needed; order_after names services of the host, with suffix, that go first
    where they run at all. log is a file for stdout and stderr where no journal is. With restarts, systemd
    starts the main process again when it fails. launcher prepares what the main process alone sees.
    """

    kind: str
    name: str
    description: str
    command: Argv = ()
    forks: bool = False
    setup: tuple[Argv, ...] = ()
    teardown: tuple[Argv, ...] = ()
    after: tuple[tuple[str, str], ...] = ()
    autostart: bool = True
    stop_timeout_seconds: int = 30
    stop_commands: tuple[Argv, ...] = ()
    pid_file: str | None = None
    log: str | None = None
    order_after: tuple[str, ...] = ()
    restarts: bool = False
    launcher: Launcher | None = None


def service_name(kind: str, name: str, scope: str = "") -> str:
    """The name of an object's unit. scope, if not empty, tells one root's objects from those of others."""
    instance = f"{scope}:{name}" if scope else name
    return f"tandem-{kind}@{_NOT_IN_UNIT_NAMES.sub(_escape, instance)}.service"


def _escape(found: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in found[0].encode())


def render_unit(unit: Unit, scope: str = "") -> str:
    """The unit as a systemd service file of a root's scope."""
    return "\n".join(_lines(unit, scope)) + "\n"


def _lines(unit: Unit, scope: str) -> Iterator[str]:
    yield "# Written by the Ansible collection tandem.machines; the next task overwrites it."
    yield "[Unit]"
    yield f"Description={_text(unit.description)}"
    for kind, name in unit.after:
        service = service_name(kind, name, scope)
        yield f"Wants={service}"
        yield f"After={service}"
    for service in unit.order_after:
        yield f"After={service}"
    # A few changes in a row are no crash loop; RestartSec keeps a real one slow.
    yield "StartLimitIntervalSec=0"
    yield ""
    yield "[Service]"
    yield f"Type={_service_type(unit)}"
    if not unit.command:
        yield "RemainAfterExit=yes"
    if unit.pid_file is not None:
        yield f"PIDFile={_text(unit.pid_file)}"
    if unit.restarts:
        yield "Restart=on-failure"
        yield "RestartSec=1"
    yield "Delegate=yes"
    yield "KillMode=mixed"
    yield f"TimeoutStopSec={unit.stop_timeout_seconds}"
    for argv in unit.setup:
        yield f"ExecStartPre=-{_command(argv)}"
    yield f"ExecStart={_command(_start_command(unit))}"
    for argv in unit.stop_commands:
        yield f"ExecStop=-{_command(argv)}"
    for argv in unit.teardown:
        yield f"ExecStopPost=-{_command(argv)}"
    yield ""
    yield "[Install]"
    yield "WantedBy=multi-user.target"


def _start_command(unit: Unit) -> Argv:
    if unit.launcher is not None:
        return unit.launcher.wrap(unit.command)
    return unit.command or ("/bin/true",)


def _service_type(unit: Unit) -> str:
    if not unit.command:
        return "oneshot"
    return "forking" if unit.forks else "exec"


def _command(argv: Argv) -> str:
    return " ".join(_word(word) for word in argv)


def _word(word: str) -> str:
    """One argument in systemd.syntax(7) quoting; specifiers and variables are escaped, not expanded."""
    escaped = _text(word).replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _text(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise InvalidRequest(f"{text!r} has a control character: it cannot be written to a unit file")
    return text
