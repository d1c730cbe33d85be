# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The part of the module stack that runs beside Ansible: reads src, and prints the plan in check mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

MODULE = "tandem.machines.stack"
LISTS = ("storage_pools", "networks", "images", "profiles", "instances")


class ActionModule(ActionBase):  # type: ignore[misc]
    """tandem.machines.stack."""

    _supports_check_mode = True
    _supports_async = True

    def run(self, tmp: None = None, task_vars: Mapping[str, Any] | None = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        src = arguments.pop("src", None)
        if src is not None:
            arguments = merge_document(arguments, self._read(src), str(src))
        result: dict[str, Any] = self._execute_module(
            module_name=MODULE, module_args=arguments, task_vars=task_vars, wrap_async=self._task.async_val
        )
        if self._task.check_mode and result.get("plan"):
            host = (task_vars or {}).get("inventory_hostname", "")
            Display().display("\n".join(f"[{host}] {line}" for line in result["plan"]))
        return result

    def _read(self, src: object) -> object:
        try:
            return self._loader.load_from_file(self._find_needle("files", src))
        except AnsibleError as error:
            # What follows lists the places that were searched, one a line; so would a cause.
            raise AnsibleActionFail(f"src {src} cannot be read: {str(error).splitlines()[0]}") from None


def merge_document(arguments: Mapping[str, Any], document: object, src: str) -> dict[str, Any]:
    """The task's arguments with the lists of the file; AnsibleActionFail for what is no such file."""
    if not isinstance(document, Mapping):
        raise AnsibleActionFail(f"src {src} does not hold a mapping: give lists such as instances in it")
    unknown = sorted(str(key) for key in document if key not in LISTS)
    if unknown:
        raise AnsibleActionFail(f"src {src}: unknown key {unknown[0]!r}; known are {', '.join(LISTS)}")
    both = sorted(key for key in document if arguments.get(key) is not None)
    if both:
        raise AnsibleActionFail(f"{both[0]} is given both in the task and in src {src}: give it in one of them")
    return {**arguments, **document}
