# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The architecture, enforced: who may import whom, and which acts belong in which file."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tandem.machines.tests.unit.imports import (
    CHECKOUT,
    MODULE_UTILS,
    PLUGINS,
    closure,
    imported_files,
    imported_tops,
    parse,
    python_files,
    shown,
)

RANKS = {
    "_bytecode": 0, "_core": 0, "_spec": 1, "_host": 2, "_storage": 3, "_network": 3, "_image": 3, "_instance": 4,
    "_module": 5, "_stack": 6,
}  # fmt: skip
# One of these holds what a module imports first.
FIRST_PACKAGES = {"_image", "_instance", "_module"}

# Programs that are sent to a host as text, some with neighbours, and start processes there. They know nothing of
# Ansible and need no package.
PROGRAMS = {"enter.py", "launch.py"}
PURE_PACKAGES = {"_core", "_spec"}
PURE_NAMES = {"model.py", "plan.py", "steps.py", "profile.py"}
PURE_FILES = {"_instance/lxc/config.py", "_instance/qemu/command.py"}
IMPURE_IMPORTS = {"os", "subprocess", "socket", "shutil", "lxc", "_lxc", "qemu", "ansible"}

STARTS_HELPERS = {"_host/run.py"}
# namespaces.py forks only to have a process that holds a new user namespace; it executes nothing.
# workers.py forks to do our own work many times at once; it executes nothing either.
# mount_namespace.py becomes, on a host with systemd, the program that it was given.
STARTS_DAEMONS = {
    "_host/run.py",
    "_host/direct.py",
    "_host/supervisor.py",
    "_host/namespaces.py",
    "_host/workers.py",
    "_host/mount_namespace.py",
}
MODULE_CODE_LINES = 40

UTILS = [path for path in python_files(MODULE_UTILS) if path.name != "__init__.py"]
MODULES = python_files(PLUGINS / "modules")


def name_in_utils(path: Path) -> str:
    return path.relative_to(MODULE_UTILS).as_posix()


def package_of(path: Path) -> str:
    return path.relative_to(MODULE_UTILS).parts[0]


def is_pure(path: Path) -> bool:
    """By place, by name, or because its docstring says so."""
    if name_in_utils(path) in PURE_FILES or path.name in PURE_NAMES or package_of(path) in PURE_PACKAGES:
        return True
    return re.search(r"\bPure\b", ast.get_docstring(parse(path)) or "") is not None


each_util = pytest.mark.parametrize("path", UTILS, ids=name_in_utils)
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)


def test_there_is_something_to_check() -> None:
    assert len(UTILS) > 20


@each_util
def test_every_file_belongs_to_a_layer(path: Path) -> None:
    assert package_of(path) in RANKS


@each_util
def test_imports_point_towards_the_core(path: Path) -> None:
    own = package_of(path)
    wrong = [
        shown(target)
        for target in imported_files(path)
        if package_of(target) != own and RANKS[package_of(target)] >= RANKS[own]
    ]
    assert not wrong


@each_util
def test_drivers_of_containers_and_of_vms_do_not_know_each_other(path: Path) -> None:
    parts = path.relative_to(MODULE_UTILS).parts
    other = {("_instance", "lxc"): "_instance/qemu/", ("_instance", "qemu"): "_instance/lxc/"}.get(parts[:2])
    assert other is None or not [target for target in imported_files(path) if name_in_utils(target).startswith(other)]


@pytest.mark.parametrize("path", [path for path in UTILS if is_pure(path)], ids=name_in_utils)
def test_pure_files_cannot_touch_the_host(path: Path) -> None:
    assert not imported_tops(path) & IMPURE_IMPORTS
    assert not [shown(target) for target in imported_files(path) if not is_pure(target)]


@pytest.mark.parametrize("path", [path for path in UTILS if path.name in PROGRAMS], ids=name_in_utils)
def test_programs_need_no_packages(path: Path) -> None:
    for sent in closure(path):
        assert not imported_tops(sent) & {"ansible", "lxc", "_lxc", "qemu"}
        assert package_of(sent) in ("_core", package_of(path))


def test_one_file_imports_lxc() -> None:
    assert len(set(importers("lxc", "_lxc"))) <= 1


def test_one_file_speaks_qmp() -> None:
    assert len(set(importers("qemu"))) <= 1


def importers(*tops: str) -> Iterator[str]:
    """Files that import one of the packages, by statement or by the loader of distribution packages."""
    for path in python_files(PLUGINS):
        if imported_tops(path) & set(tops):
            yield shown(path)
        yield from (shown(path) for call in calls(path) if loaded_by(call).partition(".")[0] in tops)


def loaded_by(call: ast.Call) -> str:
    """The package that a call of a loader names, or ''."""
    is_loader = called(call) in ("import_distribution_module", "import_module") and call.args
    name = call.args[0].value if is_loader and isinstance(call.args[0], ast.Constant) else ""
    return str(name)


@pytest.mark.parametrize("path", python_files(PLUGINS), ids=shown)
def test_processes_start_in_one_place(path: Path) -> None:
    if path.name in PROGRAMS:
        return
    place = name_in_utils(path) if path.is_relative_to(MODULE_UTILS) else shown(path)
    if place not in STARTS_HELPERS:
        assert not imported_tops(path) & {"subprocess", "multiprocessing", "pty"}
    if place not in STARTS_DAEMONS:
        assert not [name for name in map(called, calls(path)) if starts_process(name)]


def starts_process(name: str) -> bool:
    return (
        re.fullmatch(r"os\.(fork\w*|exec\w+|spawn\w+|posix_spawn\w*|popen|system)|.*create_subprocess_\w+", name)
        is not None
    )


@pytest.mark.parametrize("path", UTILS + MODULES, ids=shown)
def test_only_the_ansible_edge_knows_check_mode_and_results(path: Path) -> None:
    if path.is_relative_to(MODULE_UTILS) and package_of(path) == "_module":
        return
    names = {getattr(node, "attr", None) or getattr(node, "id", None) for node in ast.walk(parse(path))}
    assert not names & {"check_mode", "exit_json", "fail_json", "AnsibleModule"}


@pytest.mark.parametrize("path", [path for path in python_files(PLUGINS) if path.name == "__init__.py"], ids=shown)
def test_packages_are_empty(path: Path) -> None:
    """But for the one import that makes all others cheap."""
    if shown(path) in {f"plugins/module_utils/{name}/__init__.py" for name in FIRST_PACKAGES}:
        imports = [node for node in parse(path).body if not isinstance(node, ast.Expr)]
        assert [ast.unparse(node) for node in imports] == [
            "from __future__ import annotations",
            "from .._bytecode import cache",
            "__all__ = ['cache']",
        ]
    else:
        assert path.read_bytes() == b""


@each_module
def test_the_first_import_of_a_module_brings_the_cache(path: Path) -> None:
    first = next(node for node in parse(path).body if isinstance(node, ast.ImportFrom) and node.level)
    assert first.module is not None and first.module.split(".")[1] in FIRST_PACKAGES


def test_no_file_is_a_drawer() -> None:
    drawers = {"util", "utils", "helper", "helpers", "common", "misc"}
    places = (PLUGINS, CHECKOUT / "tests", CHECKOUT / "tools")
    assert not [shown(path) for path in python_files(*places) if path.stem.strip("_") in drawers]


@each_module
def test_modules_hold_documentation_a_spec_and_main(path: Path) -> None:
    assert len(code_lines(path)) <= MODULE_CODE_LINES


def code_lines(path: Path) -> set[int]:
    """Numbers of the lines that hold code: neither comments, blank lines, docstring nor the three documents."""
    text = path.read_text(encoding="utf-8")
    ignored = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = {
        line
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in ignored
        for line in range(token.start[0], token.end[0] + 1)
    }
    for node in parse(path).body:
        if is_document(node):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return lines


def is_document(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id in ("DOCUMENTATION", "EXAMPLES", "RETURN")
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(parse(path)) if isinstance(node, ast.Call))


def called(call: ast.Call) -> str:
    """The callee as written: 'os.fork', 'import_distribution_module'."""
    return ast.unparse(call.func)
