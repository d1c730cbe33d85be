# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Python packages of the distribution (lxc, qemu.qmp) for whatever interpreter Ansible picked.

Interpreter discovery and virtual environments often choose a Python whose path lacks the
distribution's packages. Loading just the named package costs nothing; a respawn costs an interpreter.
"""

from __future__ import annotations

import glob
import importlib
import importlib.machinery
import importlib.util
import sys
from types import ModuleType

from .._core.errors import MissingDependency, WrongInterpreter

DISTRIBUTION_PYTHON = "/usr/bin/python3"
_PATTERNS = (
    "/usr/lib/python3/dist-packages",
    "/usr/local/lib/python3*/dist-packages",
    "/usr/lib64/python3*/site-packages",
    "/usr/lib/python3*/site-packages",
)


def import_distribution_module(name: str, package: str, native: str | None = None) -> ModuleType:
    """Import name, from the distribution's directories if the interpreter itself lacks it.

    native is the extension module that name imports at top level. Raises MissingDependency, naming the
    distribution package, if it is not installed, and WrongInterpreter if this Python cannot load it.
    """
    try:
        return importlib.import_module(name)
    except ImportError:
        pass
    directories = [directory for pattern in _PATTERNS for directory in glob.glob(pattern)]
    top = name.partition(".")[0]
    if importlib.machinery.PathFinder.find_spec(top, directories) is None:
        raise MissingDependency(
            f"Python package {name} is not installed on this host: install {package} (role tandem.machines.host does)"
        )
    if native is not None:
        _load(native, directories)
    _load(top, directories)
    return importlib.import_module(name)


def _load(name: str, directories: list[str]) -> ModuleType:
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.machinery.PathFinder.find_spec(name, directories)
    if spec is None:
        raise WrongInterpreter(f"{name} is built for {DISTRIBUTION_PYTHON}, which {sys.executable} cannot load")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if spec.loader is not None:
        spec.loader.exec_module(module)
    return module
