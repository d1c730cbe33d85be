# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The option reference and the documentation fragment of shorthands, both made from the option tables."""

from __future__ import annotations

from collections.abc import Iterator

import yaml

from ..plugins.module_utils._core.kinds import Apply
from ..plugins.module_utils._core.options import Option, OptionTable
from ..plugins.module_utils._spec.devices import DEVICES
from ..plugins.module_utils._spec.instance import INSTANCE

WHEN = {Apply.LIVE: "at once", Apply.RESTART: "at the next start", Apply.CREATE: "fixed at creation", Apply.NONE: "no"}
HEADER = """\
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""


def option_pages() -> str:
    """docs/options.md."""
    return "\n".join(_page()) + "\n"


def shorthand_fragment() -> str:
    """The fragment tandem.machines.instance_options: a module option for each shorthand of the instance table."""
    options = {
        option.shorthand: {
            "description": [option.doc, f"Short for C({option.key}) in O(config); give only one of them."],
            "type": "raw",
        }
        for option in INSTANCE
        if option.shorthand
    }
    text = yaml.safe_dump({"options": options}, sort_keys=True, width=100)
    return (
        f"{HEADER}\n"
        '"""Shorthands of instance options, made from the option table by make generate. Documentation only."""\n\n'
        "from __future__ import annotations\n\n\n"
        "class ModuleDocFragment:\n"
        '    """Fragment tandem.machines.instance_options."""\n\n'
        f'    DOCUMENTATION = r"""\n{text}"""\n'
    )


def _page() -> Iterator[str]:
    yield "# Options of instances and devices"
    yield ""
    yield "Made from the option tables by `make generate`. The two columns say when a change takes effect on a running"
    yield "instance of that type; what waits for the next start is returned as `pending`."
    yield ""
    yield "## Instance: `config`"
    yield ""
    yield from _table(INSTANCE)
    for name, table in DEVICES.items():
        yield ""
        yield f"## Device `type: {name}`"
        yield ""
        if table.options:
            yield from _table(table)
        else:
            yield "No options: hides a device of the same name that comes from a profile."


def _table(table: OptionTable) -> Iterator[str]:
    yield "| Option | Value | Container | Virtual machine | Meaning |"
    yield "|---|---|---|---|---|"
    for option in table:
        times = (_when(option, option.container), _when(option, option.vm))
        cells = (_key(option), option.type.name, *times, _doc(option))
        yield "| " + " | ".join(cells) + " |"


def _key(option: Option) -> str:
    return f"`{option.key}`" + (f", or `{option.shorthand}`" if option.shorthand else "")


def _when(option: Option, apply: Apply) -> str:
    return f"no: {option.why_not}" if apply is Apply.NONE else WHEN[apply]


def _doc(option: Option) -> str:
    default = "" if option.default is None else f" Default: `{option.type.render(option.default)}`."
    return option.doc + (" Required." if option.required else "") + default
