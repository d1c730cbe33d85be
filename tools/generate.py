# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Files of this repository that are made from other files. `make generate` rewrites them, a test compares them.

Run as ansible_collections.tandem.machines.tools.generate; with --check nothing is written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from . import option_reference, roles

CHECKOUT = Path(__file__).resolve().parents[1]

# Path to the function that gives its whole text. Later ones may read what earlier ones wrote.
GENERATED: Mapping[str, Callable[[], str]] = {
    "docs/options.md": option_reference.option_pages,
    "plugins/doc_fragments/instance_options.py": option_reference.shorthand_fragment,
    **{roles.specification_path(name): partial(roles.argument_specs, name) for name in roles.ROLES},
}


def is_current(name: str) -> bool:
    """Whether the file holds what its function gives now."""
    path = CHECKOUT / name
    return path.is_file() and path.read_text(encoding="utf-8") == GENERATED[name]()


def write(name: str) -> None:
    path = CHECKOUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(GENERATED[name](), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Rewrite the generated files of this repository.")
    parser.add_argument("--check", action="store_true", help="only say which are not current; fail if any is not")
    is_check = parser.parse_args().check
    outdated = []
    for name in GENERATED:
        if is_current(name):
            continue
        outdated.append(name)
        print(f"{'not current' if is_check else 'written'}: {name}")
        if not is_check:
            write(name)
    return 1 if is_check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())
