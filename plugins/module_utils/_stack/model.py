# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A stack as values: its objects, what became of each, and in which order they have their turn. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._core.errors import InvalidRequest
from .._core.resource import Resource

ABSENT = "absent"


@dataclass(frozen=True, eq=False, repr=False)
class Entry:
    """One object of a stack: kind names its noun, params are those of its module. is_pruned: not listed any more."""

    kind: str
    level: int
    params: Mapping[str, Any]
    resource: Resource[Any]
    is_pruned: bool = False

    @property
    def name(self) -> str:
        return self.resource.name

    @property
    def key(self) -> tuple[str, str]:
        return self.kind, self.name

    @property
    def names(self) -> frozenset[str]:
        """All names that the object is to have: images may be given aliases."""
        aliases = None if self.is_absent else self.params.get("aliases")
        return frozenset((self.name, *(aliases or ())))

    @property
    def is_absent(self) -> bool:
        return bool(self.params["state"] == ABSENT)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Result:
    """What became of one object (in check mode: would become); the values of the module's 'results'."""

    kind: str
    name: str
    changed: bool = False
    failed: bool = False
    msg: str = ""
    actions: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    diff: Mapping[str, Any] = field(default_factory=dict)
    identity: str = ""

    def show(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "name": self.name,
            "changed": self.changed,
            "failed": self.failed,
            "msg": self.msg,
            "actions": list(self.actions),
            "pending": list(self.pending),
            "diff": self.diff,
        }


def require_once(entries: Iterable[Entry]) -> None:
    """InvalidRequest if an object is listed twice: the later one would undo the earlier one in each run."""
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        for name in sorted(entry.names):
            if (entry.kind, name) in seen:
                raise InvalidRequest(f"{entry.kind} {name} is listed twice: give each object once")
        seen.update((entry.kind, name) for name in entry.names)


def in_order(entries: Sequence[Entry], top: int) -> Iterator[list[Entry]]:
    """Entries in groups that follow each other; within a group, none knows another.

    First what is of the top level, to which nothing else refers, is removed, then everything is made and changed from
    the ground up, and what is still to be removed, and by then referred to no more, goes from the top down.
    """
    levels = sorted({entry.level for entry in entries})
    turns = (
        (top, True),
        *((level, False) for level in levels),
        *((level, True) for level in reversed(levels) if level != top),
    )
    groups = ([entry for entry in entries if (entry.level, entry.is_absent) == turn] for turn in turns)
    return (group for group in groups if group)


def summarize(failed: Sequence[Result], total: int) -> str:
    """One line about the objects that failed."""
    shown = "; ".join(_named(result) for result in failed[:5])
    more = f"; and {len(failed) - 5} more, see results" if len(failed) > 5 else ""
    return f"{len(failed)} of {total} objects failed: {shown}{more}"


def _named(result: Result) -> str:
    named = f"{result.kind} {result.name}"
    return result.msg if named in result.msg else f"{named}: {result.msg}"
