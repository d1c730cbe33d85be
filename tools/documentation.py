# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The modules' documents as ansible-doc prints them, for tests and for what is generated from them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
PREFIX = "tandem.machines."


def module_names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in (CHECKOUT / "plugins/modules").glob("*.py")))


def documentation(module: str) -> Mapping[str, Any]:
    """A module's doc, examples and return with fragments merged in; LookupError with the reason if there are none."""
    found: Mapping[str, Any] = _all_documentation().get(PREFIX + module, {"error": f"there is no module {module}"})
    if "error" in found:
        raise LookupError(found["error"])
    return found


@cache
def _all_documentation() -> Mapping[str, Any]:
    command = [str(Path(sys.executable).with_name("ansible-doc")), "--metadata-dump", "--no-fail-on-errors"]
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".build")}
    process = subprocess.run(
        [*command, "--type", "module", "tandem.machines"], env=environment, capture_output=True, text=True, check=True
    )
    modules: Mapping[str, Any] = json.loads(process.stdout)["all"].get("module", {})
    return modules
