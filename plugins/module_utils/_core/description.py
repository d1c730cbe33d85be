# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Objects of a host written down as tasks for them. Pure: no I/O.

Apart from resource.py: only who describes a host needs it, and every module would carry it along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False, repr=False)
class Description:
    """How objects of one kind are found and described; both take the host's paths (_host/paths.py) and only read.

    names gives all of them. options gives what a task would say to make the object as it is now, power included, and
    what is secret in full; values as records have them, and nothing that says nothing. None without such an object,
    and while work on it is under way or was interrupted. EngineError if it cannot be read.
    """

    names: Callable[[Any], Iterable[str]]
    options: Callable[[Any, str], dict[str, Any] | None]


def leave_out_empty(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those that say nothing. An empty list says something: none of what there could be."""
    return {key: value for key, value in options.items() if value is not None and value != "" and value != {}}
