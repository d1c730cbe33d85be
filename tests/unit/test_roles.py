# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Roles: what their defaults, argument specs and pages say is the same, and fits the modules."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.tandem.machines.tests.unit.tasks import task_problems
from ansible_collections.tandem.machines.tools.documentation import CHECKOUT, documentation
from ansible_collections.tandem.machines.tools.roles import ROLES as STACK_ROLES
from ansible_collections.tandem.machines.tools.roles import SETTINGS

ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir())
DEFAULT_OBJECTS = {"host_storage_pool": "storage_pool", "host_network": "network", "host_profile": "profile"}

each_role = pytest.mark.parametrize("role", ROLES)


def load(path: str) -> Any:
    return yaml.safe_load((CHECKOUT / path).read_text(encoding="utf-8"))


def specification(role: str) -> dict[str, Any]:
    return load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]


def defaults(role: str) -> dict[str, Any]:
    return load(f"roles/{role}/defaults/main.yml")


def internals(role: str) -> dict[str, Any]:
    path = f"roles/{role}/vars/main.yml"
    return load(path) if (CHECKOUT / path).exists() else {}


def page(role: str) -> str:
    return (CHECKOUT / f"roles/{role}/README.md").read_text(encoding="utf-8")


def misfits(role: str, variables: dict[str, Any]) -> list[str]:
    """Why the role would refuse these variables."""
    known = {"type", "elements", "required", "choices", "options"}
    spec = {name: only(option, known) for name, option in specification(role).items()}
    return list(ArgumentSpecValidator(spec).validate(variables).error_messages)


def only(option: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    kept = {key: value for key, value in option.items() if key in keys}
    if "options" in kept:
        kept["options"] = {name: only(inner, keys) for name, inner in kept["options"].items()}
    return kept


@each_role
def test_every_variable_has_a_default_and_a_specification(role: str) -> None:
    assert set(specification(role)) == set(defaults(role))


@each_role
def test_defaults_fit_the_specification(role: str) -> None:
    assert misfits(role, defaults(role)) == []


@each_role
def test_specified_defaults_are_the_defaults(role: str) -> None:
    given = defaults(role)
    wrong = {
        name for name, option in specification(role).items() if "default" in option and option["default"] != given[name]
    }
    assert wrong == set()


@each_role
def test_variables_are_named_after_the_role(role: str) -> None:
    assert all(name.startswith(f"{role}_") for name in defaults(role))
    assert all(name.startswith(f"__{role}_") for name in internals(role))


@each_role
def test_page_names_every_variable(role: str) -> None:
    assert [name for name in defaults(role) if f"`{name}`" not in page(role)] == []


@each_role
def test_every_variable_has_an_effect(role: str) -> None:
    folders = [CHECKOUT / f"roles/{role}/{folder}" for folder in ("tasks", "vars")]
    text = "".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("*.yml"))
    assert [name for name in defaults(role) if name not in text] == []


@pytest.mark.parametrize("role", STACK_ROLES)
def test_playbook_of_the_page_fits_the_specification(role: str) -> None:
    (example,) = re.findall(r"^```yaml\n(.*?)^```$", page(role), re.MULTILINE | re.DOTALL)
    (play,) = yaml.safe_load(example)
    (entry,) = play["roles"]
    assert entry["role"] == f"tandem.machines.{role}"
    assert misfits(role, entry["vars"]) == []


def test_site_takes_every_kind_of_object_and_the_other_roles_share_them_out() -> None:
    kinds = documentation("stack")["doc"]["options"]["prune"]["choices"]
    assert list(STACK_ROLES["site"].lists.values()) == kinds
    shared = [kind for name, role in STACK_ROLES.items() if name != "site" for kind in role.lists.values()]
    assert sorted(shared) == sorted(kinds)


@pytest.mark.parametrize("role", STACK_ROLES)
def test_lists_and_settings_go_to_the_options_of_stack(role: str) -> None:
    settings = {f"{role}_{setting}": option for setting, option in SETTINGS.items()}
    given = {option: f"{{{{ {variable} }}}}" for variable, option in {**STACK_ROLES[role].lists, **settings}.items()}
    assert load(f"roles/{role}/tasks/main.yml")[-1]["tandem.machines.stack"] == given


@pytest.mark.parametrize("variable", DEFAULT_OBJECTS)
def test_default_objects_take_options_of_their_module(variable: str) -> None:
    module = DEFAULT_OBJECTS[variable]
    assert set(specification("host")[variable]["options"]) <= set(documentation(module)["doc"]["options"])
    assert task_problems({f"tandem.machines.{module}": defaults("host")[variable]}) == []


@each_role
def test_tasks_fit_their_modules(role: str) -> None:
    files = sorted((CHECKOUT / f"roles/{role}/tasks").glob("*.yml"))
    tasks = [task for path in files for task in yaml.safe_load(path.read_text(encoding="utf-8"))]
    assert [problem for task in tasks for problem in task_problems(task)] == []
