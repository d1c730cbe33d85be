# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The imports of a Python file, resolved within module_utils, as the layer and payload tests need them."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
PLUGINS = CHECKOUT / "plugins"
MODULE_UTILS = PLUGINS / "module_utils"
COLLECTION = ("ansible_collections", "tandem", "machines")


def python_files(*directories: Path) -> list[Path]:
    return sorted(path for directory in directories for path in directory.rglob("*.py"))


def shown(path: Path) -> str:
    """A path as tests name it."""
    return path.relative_to(CHECKOUT).as_posix()


@cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=shown(path))


def imported_names(path: Path) -> Iterator[str]:
    """Dotted names of all imports, those inside functions and conditions too; relative ones made absolute."""
    package = (*COLLECTION, *path.relative_to(CHECKOUT).parent.parts)
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            prefix = ".".join((*base, *(node.module.split(".") if node.module else ())))
            # Either a module or something in it; which of them, only the file system knows.
            yield from (f"{prefix}.{alias.name}" for alias in node.names)


def imported_files(path: Path) -> set[Path]:
    """The files below module_utils that path imports directly, without the __init__.py of their packages."""
    return {target for name in imported_names(path) if (target := _file_of(name)) is not None}


def closure(start: Path) -> set[Path]:
    """start and everything below module_utils that it imports, directly or not."""
    found: set[Path] = set()
    waiting = {start}
    while waiting:
        path = waiting.pop()
        found.add(path)
        waiting |= imported_files(path) - found
    return found


def payload(module: Path) -> set[Path]:
    """Everything the module imports, directly or not; Ansible ships imports inside functions too."""
    found = closure(module)
    packages = {parent for path in found for parent in path.parents if parent.is_relative_to(MODULE_UTILS)}
    return found | {package / "__init__.py" for package in packages}


def zipped_size(files: set[Path], target: Path) -> int:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(files):
            archive.write(path, path.relative_to(CHECKOUT))
    return target.stat().st_size


def imported_tops(path: Path) -> set[str]:
    """First parts of all imports from outside the collection: 'os', 'lxc', 'ansible'."""
    return {name.partition(".")[0] for name in imported_names(path)} - {COLLECTION[0]}


def _file_of(name: str) -> Path | None:
    """The file that 'import name' or 'from ... import ...' loads, if it is one of ours."""
    prefix = (*COLLECTION, "plugins", "module_utils")
    parts = tuple(name.split("."))
    if parts[: len(prefix)] != prefix:
        return None
    for end in (len(parts), len(parts) - 1):
        candidate = CHECKOUT.joinpath(*parts[len(COLLECTION) : end]).with_suffix(".py")
        if candidate.is_file():
            return candidate
    return None
