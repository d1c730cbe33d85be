# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The stack for the Ansible edge: from parameters to results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._core.errors import InvalidRequest
from .._core.names import require_name
from .._host.cgroups import usable_cpus
from .._host.paths import Paths
from .converge import Wish, converge_stack
from .document import build_entries
from .model import summarize
from .nouns import KINDS
from .text import plan_lines

STACK_ARGUMENTS: Mapping[str, Any] = {
    **{kind.plural: {"type": "list", "elements": "dict"} for kind in KINDS},
    "name": {"type": "str"},
    "src": {"type": "path"},
    "parallel": {"type": "int"},
    "on_error": {"type": "str", "choices": ["continue", "stop"], "default": "continue"},
    "prune": {"type": "list", "elements": "str", "choices": [kind.plural for kind in KINDS], "default": []},
}


def perform_stack(params: Mapping[str, Any], paths: Paths, predicts: bool) -> dict[str, Any]:
    """Converge a stack, or predict what that would do; the module's return values."""
    wish = _parse_wish(params, predicts)
    results = converge_stack(wish, build_entries(params, paths), paths)
    failed = [result for result in results if result.failed]
    return {
        "changed": any(result.changed for result in results),
        "failed": bool(failed),
        **({"msg": summarize(failed, len(results))} if failed else {}),
        "results": [result.show() for result in results],
        "plan": plan_lines(results),
        "restart_required": any(result.pending for result in results),
        "diff": [result.diff for result in results if result.diff],
        "warnings": [warning for result in results for warning in result.warnings],
    }


def _parse_wish(params: Mapping[str, Any], predicts: bool) -> Wish:
    name = params["name"]
    if name is not None:
        require_name("stack", name)
    if params["src"] is not None:
        raise InvalidRequest("src is read where Ansible runs, by the stack task itself: do not call the module alone")
    if params["prune"] and name is None:
        raise InvalidRequest("prune removes what this stack made before: give the stack a name to know it by")
    parallel = params["parallel"]
    if parallel is not None and parallel < 1:
        raise InvalidRequest(f"parallel {parallel} is not a number of workers: give 1 or more, or leave it out")
    return Wish(
        name=name,
        prune=frozenset(kind.name for kind in KINDS if kind.plural in params["prune"]),
        parallel=parallel or len(usable_cpus()),
        stops_on_error=params["on_error"] == "stop",
        lock_timeout_seconds=params["lock_timeout"],
        predicts=predicts,
    )
