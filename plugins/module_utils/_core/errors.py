# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The error tree: one class per thing the caller can do about it. Imports nothing."""

from __future__ import annotations

from collections.abc import Sequence


class EngineError(Exception):
    """Base of every failure this collection reports; its text is one line for a person."""


class InvalidRequest(EngineError):
    """The playbook asks for something that is not well formed: fix the playbook."""


class MissingDependency(EngineError):
    """The host lacks a package, a tool or a kernel feature: fix the host."""


class WrongInterpreter(MissingDependency):
    """A binding is installed for the distribution's Python, which this interpreter cannot load."""


class NotSupported(EngineError):
    """This driver or this host cannot do it; the text says what can."""


class Conflict(EngineError):
    """In use, taken by somebody else, or fixed at creation."""


class NotConverged(EngineError):
    """After applying, observing again still shows differences; the text lists their paths."""


class Locked(EngineError):
    """Another run holds the lock; the text names its pid and since when."""


class TimedOut(EngineError):
    """Waited in vain: for what, how long, and what was seen last."""

    def __init__(self, what: str, seconds: float, last_seen: str = "") -> None:
        seen = f"; last seen: {last_seen}" if last_seen else ""
        super().__init__(f"timed out after {seconds:g} s waiting for {what}{seen}")


class CommandFailed(EngineError):
    """A program exited with an error; carries argv, the exit status and the end of stderr."""

    def __init__(self, argv: Sequence[str], status: int, stderr: str) -> None:
        self.argv = tuple(argv)
        self.status = status
        self.stderr = stderr
        end = " ".join(stderr.split())[-400:] or "no error output"
        super().__init__(f"{argv[0]} failed with exit status {status}: {end} (command: {' '.join(argv)[:300]})")


class LxcError(EngineError):
    """A liblxc call was refused; carries the call, the container and the end of its log."""

    def __init__(self, call: str, container: str, log: str = "") -> None:
        end = f": {log}" if log else ""
        super().__init__(f"container {container}: liblxc refused to {call}{end}")


class QmpError(EngineError):
    """QEMU answered a command with an error; carries command, error class and description."""

    def __init__(self, command: str, error_class: str, description: str) -> None:
        self.command = command
        self.error_class = error_class
        self.description = description
        super().__init__(f"QEMU refused {command}: {description} ({error_class})")
