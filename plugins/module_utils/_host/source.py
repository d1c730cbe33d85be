# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Sources of our own modules, for the programs that stay on the host when Ansible has gone."""

from __future__ import annotations

import io
from importlib.util import find_spec
from typing import Any

from .._core.errors import MissingDependency


def module_source(name: str) -> bytes:
    """Of a module by its full name, from the file or from the archive Ansible ships; nothing is imported."""
    found = find_spec(name)
    loader: Any = found.loader if found is not None else None
    source = loader.get_source(name) if loader is not None else None
    if source is None:
        raise MissingDependency(f"the source of {name} is not available: install the collection with sources")
    return str(source).encode()


def archive(main: str, *names: str) -> bytes:
    """An archive that python3 can execute: main as its program, and modules of one package by their full names."""
    import zipfile  # only some hosts want one

    package = names[0].rpartition(".")[0].rpartition(".")[2]
    files = {"__main__.py": main.encode(), f"{package}/__init__.py": b""}
    files.update({f"{package}/{name.rpartition('.')[2]}.py": module_source(name) for name in names})
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as opened:
        for path, text in files.items():
            # The first date the format knows: the same sources give the same bytes.
            opened.writestr(zipfile.ZipInfo(path), text)
    return data.getvalue()
