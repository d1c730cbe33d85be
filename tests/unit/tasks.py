# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Whether a task fits the documentation of its module."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.playbook.task import Task
from ansible_collections.tandem.machines.tools.documentation import PREFIX, documentation, module_names

_SPEC_KEYS = {"type", "elements", "choices", "default", "required", "aliases"}


def task_problems(task: Mapping[str, Any]) -> list[str]:
    """Why a task (parsed YAML) would be refused before it runs; empty if it would not."""
    keywords = {key for key in task if key in Task.fattributes or key.startswith("with_")}
    actions = set(task) - keywords - {"block", "rescue", "always"}
    if "block" in task:
        return [
            problem
            for part in ("block", "rescue", "always")
            for inner in task.get(part, ())
            for problem in task_problems(inner)
        ]
    if len(actions) != 1:
        return [f"{task.get('name')}: not one module but {sorted(actions)}"]
    action = actions.pop()
    if "." not in action:
        return [f"{action}: not a fully qualified name"]
    if not action.startswith(PREFIX):
        return []
    return [f"{action}: {problem}" for problem in _argument_problems(action.removeprefix(PREFIX), task[action] or {})]


def _argument_problems(module: str, arguments: Mapping[str, Any]) -> list[str]:
    module = {"storage": "storage_pool"}.get(module, module)
    if module not in module_names():
        return ["no such module"]
    spec = _argument_spec(documentation(module)["doc"].get("options", {}))
    templated = {key for key, value in arguments.items() if "{{" in json.dumps(value)}
    for key in templated:
        # Its type is not known before the play runs, and a required option is given all the same.
        spec[key] = {"type": "raw"}
    return list(ArgumentSpecValidator(spec).validate(dict(arguments)).error_messages)


def _argument_spec(options: Mapping[str, Any]) -> dict[str, Any]:
    spec: dict[str, Any] = {}
    for name, option in options.items():
        spec[name] = {key: value for key, value in option.items() if key in _SPEC_KEYS}
        if option.get("suboptions"):
            spec[name]["options"] = _argument_spec(option["suboptions"])
    return spec
