# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The Ansible edge: argument specs, results and failures. Nothing below this layer knows AnsibleModule."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.respawn import has_respawned, respawn_module

from .._core.errors import InvalidRequest, WrongInterpreter
from .._core.resource import Noun, Resource
from .._host.distribution import DISTRIBUTION_PYTHON
from .._host.paths import DEFAULT_ROOT, Paths
from .converge import Outcome, converge
from .failure import explain

Params = Mapping[str, Any]

HOST_ARGUMENTS: dict[str, Any] = {
    "root": {"type": "path", "default": DEFAULT_ROOT},
    "lock_timeout": {"type": "float", "default": 300.0},
}


def run_resource(noun: Noun) -> None:
    """main() of a module that manages one object.

    Values of the noun's secret options, given in config, appear neither in the system log nor in the result.
    """

    def act(module: AnsibleModule, paths: Paths) -> dict[str, Any]:
        resource = noun.build(module.params, paths)
        outcome = converge(resource, paths, module.params["lock_timeout"], module.check_mode)
        for warning in (*outcome.plan.warnings, *outcome.plan.obstacles):
            module.warn(warning)
        return outcome.result(noun.name, resource.name, _show(resource, outcome, module.check_mode))

    _run(noun.arguments, act, {}, None if noun.table is None else lambda params: secrets_in(noun, params))


def _show(resource: Resource[Any], outcome: Outcome, check_mode: bool) -> dict[str, Any]:
    """The object as it is (in check mode: would be) once everything is there that the task waits for."""
    if check_mode:
        return resource.predict(outcome.current)
    return resource.describe(resource.wait(outcome.current))


def run_info(
    arguments: Mapping[str, Any], gather: Callable[[Params, Paths], dict[str, Any]], **constraints: Any
) -> None:
    """main() of a module that only reads: gather returns what it found, and under 'warnings' what to warn of."""

    def act(module: AnsibleModule, paths: Paths) -> dict[str, Any]:
        return {"changed": False, **gather(module.params, paths)}

    _run(arguments, act, constraints)


def run_action(
    arguments: Mapping[str, Any],
    perform: Callable[[Params, Paths, bool], dict[str, Any]],
    secrets: Callable[[Params], set[str]] | None = None,
    **constraints: Any,
) -> None:
    """main() of a module that performs an act, such as exec: perform is told whether it may only predict.

    secrets gives the values among the parameters that nobody may read in logs and results.
    """

    def act(module: AnsibleModule, paths: Paths) -> dict[str, Any]:
        return perform(module.params, paths, module.check_mode)

    _run(arguments, act, constraints, secrets)


def _run(
    arguments: Mapping[str, Any],
    act: Callable[[AnsibleModule, Paths], dict[str, Any]],
    constraints: Mapping[str, Any],
    secrets: Callable[[Params], set[str]] | None = None,
) -> None:
    os.umask(0o077)
    module = AnsibleModule(
        {**HOST_ARGUMENTS, **arguments}, supports_check_mode=True, no_log=secrets is not None, **constraints
    )
    if secrets is not None:
        module.no_log_values.update(secrets(module.params))
    try:
        _require_seconds(module.params)
        result = act(module, _paths(module.params))
    except WrongInterpreter as error:
        if has_respawned():
            module.fail_json(msg=str(error))
        respawn_module(DISTRIBUTION_PYTHON)
    except Exception as error:
        message = explain(error)
        if message is None:
            raise
        module.fail_json(msg=message)
    else:
        for warning in result.pop("warnings", ()):
            module.warn(warning)
        # Of many objects some may have failed: their message stands beside what the others became.
        (module.fail_json if result.get("failed") else module.exit_json)(**result)


def secrets_in(noun: Noun, params: object) -> set[str]:
    """Values of the noun's secret options among the parameters of one object, checked or not."""
    config = params.get("config") if isinstance(params, Mapping) else None
    if noun.table is None or not isinstance(config, Mapping):
        return set()
    options = ((noun.table.find(str(key)), value) for key, value in config.items())
    return {str(value) for option, value in options if option is not None and option.secret and value}


def _require_seconds(params: Params) -> None:
    """Every number with a fraction that a module takes is a time to wait; infinity is one, too."""
    for name, value in params.items():
        if isinstance(value, float) and not value >= 0:
            raise InvalidRequest(f"{name} {value} is not a time: give seconds, 0 or more")


def _paths(params: Params) -> Paths:
    root = params["root"]
    if not root.startswith("/") or os.path.normpath(root) != root or root == "/":
        raise InvalidRequest(f"root {root!r} is not an absolute directory path below /")
    return Paths(Path(root))
