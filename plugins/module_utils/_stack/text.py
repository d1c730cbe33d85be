# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The plan of a stack as lines for people. Pure: no I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .model import Result

_SHOWN_CHARACTERS = 60


def plan_lines(results: Iterable[Result]) -> list[str]:
    """'+ create', '~ change' and '- remove' for what changes, '! restart needed' for what waits for a restart.

    Objects with nothing to do are left out.
    """
    return [line for result in results for line in _lines(result)]


def _lines(result: Result) -> Iterator[str]:
    name = f"{result.kind} {result.name}"
    if result.changed:
        yield from _change_lines(name, result.diff)
    if result.failed:
        yield f"x failed {name}: {result.msg}"
    if result.pending:
        yield f"! restart needed by {name}: {', '.join(result.pending)}"


def _change_lines(name: str, diff: Mapping[str, Any]) -> Iterator[str]:
    before, after = diff["before"], diff["after"]
    if after.get("state") == "absent":
        yield f"- remove {name}"
    elif before.get("state") == "absent":
        yield f"+ create {name}"
    else:
        yield f"~ change {name}"
        yield from sorted(_differences(before, after, ""))


def _differences(before: Any, after: Any, path: str) -> Iterator[str]:
    if isinstance(before, Mapping) or isinstance(after, Mapping):
        left = before if isinstance(before, Mapping) else {}
        right = after if isinstance(after, Mapping) else {}
        for key in {*left, *right}:
            yield from _differences(left.get(key), right.get(key), f"{path}: {key}" if path else str(key))
    else:
        yield f"    {path}: {_text(before)} -> {_text(after)}"


def _text(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."
