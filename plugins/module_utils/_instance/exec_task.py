# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The act of module instance_exec: its parameters into a command, what the command left into a result."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Callable

from .._core.errors import Conflict, InvalidRequest
from .._core.names import require_name
from .._host.paths import Paths
from . import enter
from .execute import Command, Outcome, execute
from .script import render_environment, require_command

Params = Mapping[str, Any]


def perform_exec(params: Params, paths: Paths, is_prediction: bool) -> dict[str, Any]:
    """Run the command that params ask for, or say what running it would be; EngineError as from execute()."""
    name = require_name("instance", params["name"])
    command = parse_command(params)
    run = partial(
        execute,
        paths,
        name,
        agent_timeout_seconds=params["agent_timeout"],
        lock_timeout_seconds=params["lock_timeout"],
    )
    try:
        enter.read_record(str(paths.root), name)
        needless = _find_needless(params, run)
    except Conflict as error:
        if not is_prediction:
            raise
        # An earlier task of the play may make or start the instance.
        return _result(command, changed=True, msg=f"would be run, but not yet: {error}")
    if needless:
        return _result(command, changed=False, msg=f"not run, since {needless}")
    if is_prediction:
        return _result(command, changed=True, msg="would be run")
    started = time.monotonic()
    outcome = run(command)
    return _describe(name, command, outcome, time.monotonic() - started, params["strip_empty_ends"])


def parse_command(params: Params) -> Command:
    """The command of a task's parameters; InvalidRequest if no guest could be given it."""
    argv = tuple(params["argv"] or ("/bin/sh", "-c", params["shell"]))
    require_command(argv)
    environment = {str(key): _parse_variable(key, value) for key, value in (params["environment"] or {}).items()}
    render_environment(environment)
    stdin = params["stdin"]
    if stdin is not None and params["stdin_add_newline"]:
        stdin += "\n"
    if params["timeout"] is not None and params["timeout"] <= 0:
        raise InvalidRequest(f"timeout {params['timeout']:g} is not valid: give a number of seconds above 0")
    return Command(
        argv=argv,
        stdin=(stdin or "").encode("utf-8", "surrogateescape"),
        environment=environment,
        user=params["user"],
        directory=params["cwd"] or "",
        timeout_seconds=params["timeout"],
    )


def _parse_variable(key: object, value: object) -> str:
    if isinstance(value, (bool, int, float, str)):
        return str(value)
    raise InvalidRequest(f"environment variable {key} must be a text or a number, not {type(value).__name__}")


def _find_needless(params: Params, run: Callable[[Command], Outcome]) -> str:
    """Why the command need not run, looked up in the instance; empty if it must."""
    for option, is_needless_if_there in (("creates", True), ("removes", False)):
        path = params[option]
        if path is None:
            continue
        is_there = run(Command(("test", "-e", path), user=params["user"], directory=params["cwd"] or "")).status == 0
        if is_there is is_needless_if_there:
            return f"{path} exists" if is_there else f"{path} does not exist"
    return ""


def _describe(name: str, command: Command, outcome: Outcome, seconds: float, is_stripped: bool) -> dict[str, Any]:
    texts = [stream.decode("utf-8", "replace") for stream in (outcome.stdout, outcome.stderr)]
    stdout, stderr = (text.rstrip("\r\n") for text in texts) if is_stripped else texts
    result = _result(command, changed=True, rc=outcome.status, stdout=stdout, stderr=stderr, seconds=round(seconds, 3))
    if outcome.status != 0:
        said = (stderr or stdout).strip().rpartition("\n")[2][:300]
        result["failed"] = True
        result["msg"] = (
            f"the command in instance {name} ended with status {outcome.status}: {said or 'it said nothing'}"
        )
    return result


def _result(command: Command, **differing: Any) -> dict[str, Any]:
    return {"cmd": list(command.argv), "rc": 0, "stdout": "", "stderr": "", "seconds": 0.0, **differing}
