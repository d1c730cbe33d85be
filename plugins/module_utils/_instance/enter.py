# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Enter a guest of this host: which type it is, how to get into a container, and the program behind both.

The connection plugin ships this file to hosts as text, with its neighbours agent, script and stream and with
_core.errors and _core.names; nothing else may be imported but what is fast in the standard library. Containers are
entered by executing lxc-attach, never by liblxc in this process: a container could reach this process's
interpreter through /proc/PID/exe.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import stat

from .._core.errors import Conflict, EngineError, MissingDependency
from .._core.names import require_name
from .script import FAILED_STATUS, PATH, ROOT_ENVIRONMENT, container_program, require_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, NoReturn

    from .stream import Guest

# The same as _host.paths; a test compares them.
DEFAULT_ROOT = "/var/lib/tandem"
RUN_ROOT = "/run/tandem"
_RECORD_LIMIT_BYTES = 1024 * 1024
CONTAINER = "container"
# Who sends nothing for so long has nothing more to send.
_INPUT_SECONDS = 5
_INPUT_BYTES = 1024 * 1024


def run_directory(root: str) -> str:
    """Where sockets and locks of this state root lie."""
    return RUN_ROOT if root == DEFAULT_ROOT else f"{RUN_ROOT}/root{root.replace('/', '-')}"


def read_record(root: str, name: str) -> dict[str, Any]:
    """The instance's record; Conflict if there is no such instance or its record is damaged."""
    path = f"{root}/instances/{require_name('instance', name)}/instance.json"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise Conflict(f"instance {name} does not exist on this host below {root}: create it first") from None
    with os.fdopen(descriptor, "rb") as stream:
        is_file = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
        data = stream.read(_RECORD_LIMIT_BYTES + 1) if is_file else b""
    try:
        record = json.loads(data) if len(data) <= _RECORD_LIMIT_BYTES else None
    except ValueError:
        record = None
    if not isinstance(record, dict) or "type" not in record:
        raise Conflict(f"{path} is damaged: restore it or move it away")
    return record


def is_container(record: Mapping[str, Any]) -> bool:
    return bool(record["type"] == CONTAINER)


def instance_environment(record: Mapping[str, Any]) -> dict[str, str]:
    """The instance's environment.* options, which a container gets from liblxc and a virtual machine from us."""
    config = record.get("expanded_config") or record.get("config") or {}
    prefix = "environment."
    return {key[len(prefix) :]: str(value) for key, value in config.items() if key.startswith(prefix)}


def virtual_machine(root: str, name: str, agent_timeout_seconds: float, lock_timeout_seconds: float) -> Guest:
    # Only here, since entering a container has no use for it.
    from .stream import Guest

    return Guest(name, f"{run_directory(root)}/instances/{name}", agent_timeout_seconds, lock_timeout_seconds)


def state_command(root: str, name: str) -> list[str]:
    """argv of a program that prints the container's state in one word."""
    return ["lxc-info", "-P", f"{root}/instances", "-n", name, "-s", "-H"]


def require_running(name: str, state: str) -> None:
    """Conflict unless state is that of a container that can be entered; a frozen one would never answer."""
    if state != "RUNNING":
        remedy = "set state: started" if state in ("STOPPED", "FROZEN") else "wait until it has settled"
        raise Conflict(f"instance {name} is {state.lower() or 'in an unknown state'}: {remedy}")


def attach_command(
    root: str,
    name: str,
    command: Sequence[str],
    *,
    user: str = "root",
    directory: str = "",
    mark: str = "tandem-enter",
    preamble_bytes: int = 0,
) -> list[str]:
    """argv that runs command in a running container.

    preamble_bytes of stdin, if not 0, are script.render_environment(): values given that way are in nobody's
    process list.
    """
    require_command(command)
    words = ["lxc-attach", "-P", f"{root}/instances", "-n", name, "--clear-env"]
    for key, value in sorted(ROOT_ENVIRONMENT.items()):
        words += ["-v", f"{key}={value}"]
    if user not in ("root", "0") or directory or preamble_bytes:
        command = (
            *("/bin/sh", "-c", container_program(), "tandem-enter"),
            *(mark, str(preamble_bytes), user, directory, *command),
        )
    return [*words, "--", *command]


def start_directory() -> str:
    """Where lxc-attach has to be started to begin in root's home: it goes to the directory of the same name inside."""
    home = ROOT_ENVIRONMENT["HOME"]
    return home if os.path.isdir(home) else "/"


def main(request: Mapping[str, Any]) -> NoReturn:
    """Become the command that request asks for (see the connection plugin), with this process's stdin, stdout, stderr.

    The first line on stderr is the request's mark and "entered", or mark, "error" and a message.
    """
    try:
        _enter(request)
    except EngineError as error:
        _fail(request, str(error))
    except PermissionError as error:
        _fail(request, f"{error.strerror}: {error.filename}: entering an instance needs root on the host")
    except BrokenPipeError:
        pass
    raise SystemExit(FAILED_STATUS)


def _fail(request: Mapping[str, Any], message: str) -> None:
    """Say why, and take what was to go in: Ansible holds a pipe that breaks under its hand for a host that cannot be
    reached, and says that instead."""
    with contextlib.suppress(BrokenPipeError):
        _say(f"{request['mark']} error {message}")
    while request["input"] and select.select([0], [], [], _INPUT_SECONDS)[0] and os.read(0, _INPUT_BYTES):
        pass


def _enter(request: Mapping[str, Any]) -> NoReturn:
    record = read_record(request["root"], request["instance"])
    os.umask(0o022)
    if not request["input"]:
        null = os.open("/dev/null", os.O_RDWR)
        os.dup2(null, 0)
    if is_container(record):
        _enter_container(request)
    _enter_virtual_machine(request, instance_environment(record))


def _enter_container(request: Mapping[str, Any]) -> NoReturn:
    root, name = request["root"], request["instance"]
    require_running(name, _capture(state_command(root, name)))
    command = attach_command(root, name, request["command"], user=request["user"], mark=request["mark"])
    program = _find(command[0])
    # A session of its own: a process of a privileged container could signal the whole group it is born into.
    with contextlib.suppress(PermissionError):
        os.setsid()
    os.chdir(start_directory())
    _say(f"{request['mark']} entered")
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.execve(program, command, {"PATH": PATH, "HOME": "/root", "LC_ALL": "C.UTF-8"})


def _enter_virtual_machine(request: Mapping[str, Any], environment: Mapping[str, str]) -> NoReturn:
    from .frames import Input
    from .stream import Run

    guest = virtual_machine(request["root"], request["instance"], request["agent_timeout"], request["lock_timeout"])
    run = Run(
        guest,
        request["command"],
        given=Input(descriptor=0) if request["input"] else None,
        sink=_write_all,
        on_entered=lambda: _say(f"{request['mark']} entered"),
        user=request["user"],
        environment=environment,
        is_live=request["live"],
        mark=request["mark"],
    )
    raise SystemExit(run.finish())


def _say(line: str) -> None:
    _write_all(2, line.encode("utf-8", "backslashreplace") + b"\n")


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _find(program: str) -> str:
    for directory in PATH.split(":"):
        if os.access(f"{directory}/{program}", os.X_OK):
            return f"{directory}/{program}"
    raise MissingDependency(f"{program} is not installed on this host: install package lxc")


def _capture(command: Sequence[str]) -> str:
    """What a short helper prints. Not subprocess, whose import takes longer than the helper."""
    reading, writing = os.pipe()
    actions = [(os.POSIX_SPAWN_DUP2, writing, 1)]
    pid = os.posix_spawn(_find(command[0]), list(command), {"PATH": PATH, "LC_ALL": "C.UTF-8"}, file_actions=actions)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        answer = stream.read(1000)
    os.waitpid(pid, 0)
    return answer.decode("ascii", "replace").strip()
