# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Every module is documented, grouped and exemplified the same way."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.tandem.machines.tests.unit.tasks import task_problems
from ansible_collections.tandem.machines.tools.documentation import CHECKOUT, documentation, module_names

MODULES = module_names()
GROUPS = ("all", "tandem")
# How a task works, not what the object is.
WAYS = {"state", "root", "lock_timeout", "force_stop", "recreate", "wait_for", "when_restart_needed"}
STATE_RETURNS = {"actions", "previous_state", "restart_required", "pending"}

# Modules of one object each. A stack is none: it returns results of many, and its options say how to go about it.
MANAGING = [name for name in MODULES if f"{name}_info" in MODULES and name != "stack"]

each_module = pytest.mark.parametrize("name", MODULES)


def runtime() -> Any:
    return yaml.safe_load((CHECKOUT / "meta/runtime.yml").read_text())


def group_members(group: str) -> set[str]:
    members: set[str] = set()
    for entry in runtime()["action_groups"][group]:
        if isinstance(entry, str):
            members.add(entry)
        else:
            for extended in entry["metadata"]["extend_group"]:
                members |= group_members(extended.removeprefix("tandem.machines."))
    return members


@pytest.mark.parametrize("group", GROUPS)
def test_groups_hold_all_modules(group: str) -> None:
    assert group_members(group) == set(MODULES)


def test_redirects_lead_to_modules() -> None:
    for routing in runtime()["plugin_routing"]["modules"].values():
        assert routing["redirect"].removeprefix("tandem.machines.") in MODULES


@each_module
def test_documents_are_complete(name: str) -> None:
    found = documentation(name)
    assert found["doc"]["short_description"]
    assert found["doc"]["version_added"]
    assert found["examples"]
    assert found["return"]


@each_module
def test_attributes_are_declared(name: str) -> None:
    attributes = documentation(name)["doc"]["attributes"]
    assert attributes["check_mode"]["support"] == "full"
    assert attributes["diff_mode"]["support"] in ("full", "N/A")
    assert attributes["idempotent"]["support"] in ("full", "partial", "N/A")
    assert attributes["platform"]["platforms"] == "linux"
    assert attributes["action_group"]["membership"] == [f"tandem.machines.{group}" for group in GROUPS]


@each_module
def test_less_than_full_support_is_explained(name: str) -> None:
    for attribute in documentation(name)["doc"]["attributes"].values():
        assert attribute["support"] == "full" or attribute.get("details") or attribute["description"]


@each_module
def test_options_of_the_host_are_everywhere(name: str) -> None:
    options = documentation(name)["doc"]["options"]
    assert options["root"]["default"] == "/var/lib/tandem"
    assert options["lock_timeout"]["default"] == 300


@each_module
def test_examples_are_tasks_that_would_be_accepted(name: str) -> None:
    tasks = yaml.safe_load(documentation(name)["examples"])
    assert tasks and isinstance(tasks, list)
    assert [problem for task in tasks for problem in task_problems(task)] == []


@each_module
def test_examples_show_the_module_and_name_the_outcome(name: str) -> None:
    tasks = yaml.safe_load(documentation(name)["examples"])
    assert [task for task in tasks if f"tandem.machines.{name}" in task]
    assert all(task.get("name") for task in tasks)


@pytest.mark.parametrize("name", MANAGING)
def test_managing_modules_return_the_object_and_what_was_done(name: str) -> None:
    assert documentation(name)["return"].keys() >= STATE_RETURNS | {name}


@pytest.mark.parametrize("name", MANAGING)
def test_managing_modules_leave_the_changeable_alone_unless_told(name: str) -> None:
    """No option that can change later has a default: it would undo what was set before."""
    options = documentation(name)["doc"]["options"]
    given = {option for option, about in options.items() if "default" in about}
    assert {option for option in given - WAYS if not option.endswith(("_mode", "_timeout"))} == set()
