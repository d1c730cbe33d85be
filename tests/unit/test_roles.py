# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Roles: what their defaults, argument specs and pages say is the same, and fits the modules."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.tandem.machines.tests.unit.tasks import task_problems
from ansible_collections.tandem.machines.tools.documentation import CHECKOUT, documentation

ROLES = sorted(path.name for path in (CHECKOUT / "roles").iterdir())
DEFAULT_OBJECTS = {"host_storage_pool": "storage_pool", "host_network": "network", "host_profile": "profile"}

each_role = pytest.mark.parametrize("role", ROLES)


def load(path: str) -> Any:
    return yaml.safe_load((CHECKOUT / path).read_text(encoding="utf-8"))


def specification(role: str) -> dict[str, Any]:
    return load(f"roles/{role}/meta/argument_specs.yml")["argument_specs"]["main"]["options"]


def defaults(role: str) -> dict[str, Any]:
    return load(f"roles/{role}/defaults/main.yml")


@each_role
def test_every_variable_has_a_default_and_a_specification(role: str) -> None:
    assert set(specification(role)) == set(defaults(role))


@each_role
def test_defaults_fit_the_specification(role: str) -> None:
    known = {"type", "elements", "required", "choices", "options"}
    spec = {name: only(option, known) for name, option in specification(role).items()}
    assert ArgumentSpecValidator(spec).validate(defaults(role)).error_messages == []


def only(option: dict[str, Any], keys: set[str]) -> dict[str, Any]:
    kept = {key: value for key, value in option.items() if key in keys}
    if "options" in kept:
        kept["options"] = {name: only(inner, keys) for name, inner in kept["options"].items()}
    return kept


@each_role
def test_specified_defaults_are_the_defaults(role: str) -> None:
    given = defaults(role)
    wrong = {
        name for name, option in specification(role).items() if "default" in option and option["default"] != given[name]
    }
    assert wrong == set()


@each_role
def test_variables_are_named_after_the_role(role: str) -> None:
    internal = load(f"roles/{role}/vars/main.yml")
    assert all(name.startswith(f"{role}_") for name in defaults(role))
    assert all(name.startswith(f"__{role}_") for name in internal)


@each_role
def test_page_names_every_variable(role: str) -> None:
    page = (CHECKOUT / f"roles/{role}/README.md").read_text(encoding="utf-8")
    assert [name for name in defaults(role) if f"`{name}`" not in page] == []


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
