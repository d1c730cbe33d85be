# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Plans: what differs and the steps that mend it. Planning is pure; only a step's run touches the host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

HIDDEN = "(hidden)"
HostT_contra = TypeVar("HostT_contra", contravariant=True)


class Step(Protocol[HostT_contra]):
    """One act of the domain, idempotent: run may meet its own half-done work."""

    def describe(self) -> str:
        """The act in words, as 'actions' shows it."""

    def run(self, host: HostT_contra) -> None:
        """Perform it on the noun's host object (its drivers and paths)."""


@dataclass(frozen=True)
class Change:
    """One difference; path names what differs ('config.limits.memory'), None stands for absent.

    before and after are JSON values in rendered form. Each part of path is separated by '/',
    since option keys contain dots.
    """

    path: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Plan(Generic[HostT_contra]):
    """pending names options recorded but not in force until a restart; warnings are for the user.

    obstacles are what stands in the way of the steps but may be gone when they run, since an earlier task of the
    same play removes or creates it: check mode only warns of them, a real run ends before its first step.
    """

    changes: tuple[Change, ...] = ()
    steps: tuple[Step[HostT_contra], ...] = ()
    pending: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    obstacles: tuple[str, ...] = ()

    @property
    def actions(self) -> list[str]:
        return [step.describe() for step in self.steps]

    def diff(self, header: str) -> dict[str, Any]:
        """Ansible's before and after, holding only what differs."""
        before: dict[str, Any] = {}
        after: dict[str, Any] = {}
        for change in self.changes:
            _put(before, change.path, change.before)
            _put(after, change.path, change.after)
        return {"before_header": header, "after_header": header, "before": before, "after": after}


def compare(prefix: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[Change, ...]:
    """One Change for each key whose rendered value differs, sorted by key."""
    keys = sorted(set(before) | set(after))
    return tuple(
        Change(f"{prefix}/{key}", before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)
    )


def _put(tree: dict[str, Any], path: str, value: Any) -> None:
    if value is None:
        return
    *parents, leaf = path.split("/")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[leaf] = value
