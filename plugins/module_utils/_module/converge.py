# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Bring one resource to its desired state: the only place that knows check mode."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from .._core.errors import Conflict, EngineError, InvalidRequest, NotConverged, WrongInterpreter
from .._core.plan import Plan
from .._core.resource import Resource
from .._host.locks import Lock, hold
from .._host.paths import Paths


@dataclass(frozen=True, eq=False, repr=False)
class Outcome:
    """What happened to one resource (in check mode: what would). current is what was seen last."""

    plan: Plan[Any]
    previous_state: str
    current: Any
    pending: tuple[str, ...]

    def result(self, noun: str, name: str, shown: dict[str, Any]) -> dict[str, Any]:
        """The module's return values; shown is the object itself."""
        return {
            "changed": bool(self.plan.changes),
            noun: shown,
            "actions": self.plan.actions,
            "previous_state": self.previous_state,
            "pending": list(self.pending),
            "restart_required": bool(self.pending),
            "diff": self.plan.diff(f"{noun} {name}"),
        }


def converge(resource: Resource[Any], paths: Paths, lock_timeout_seconds: float, check_mode: bool) -> Outcome:
    """Observe, plan, apply, observe again; raises EngineError. Waiting is the caller's, since it takes minutes.

    A plan made without the lock is enough when there is nothing to do: a run that changes the object
    right now has marked its record before its first effect.
    """
    outcome = glance(resource, check_mode)
    if outcome is not None and (check_mode or not outcome.plan.steps):
        return outcome
    return settle(resource, paths, lock_timeout_seconds)


def glance(resource: Resource[Any], check_mode: bool) -> Outcome | None:
    """State and plan as seen without the lock; None if the object is being changed by somebody else."""
    try:
        current = resource.observe()
        if resource.is_busy(current) and not check_mode:
            return None
        plan = resource.plan(current)
    except (InvalidRequest, WrongInterpreter):
        raise
    except EngineError:
        if check_mode:
            raise
        return None
    return Outcome(plan, resource.state(current), current, plan.pending)


def settle(resource: Resource[Any], paths: Paths, lock_timeout_seconds: float) -> Outcome:
    """Do what is to be done, with nobody else at it."""
    with hold(paths, [Lock(*lock) for lock in resource.locks], lock_timeout_seconds):
        before, plan, after, again = _apply(resource)
    return Outcome(plan, resource.state(before), after, again.pending)


def _apply(resource: Resource[Any]) -> tuple[Any, Plan[Any], Any, Plan[Any]]:
    before = resource.observe()
    plan = resource.plan(before)
    if plan.obstacles:
        raise Conflict(plan.obstacles[0])
    try:
        for step in plan.steps:
            step.run(resource.host)
    except Exception:
        _undo(resource)
        raise
    after = resource.observe() if plan.steps else before
    again = resource.plan_again(after)
    if again.steps:
        differing = ", ".join(change.path.replace("/", ": ") for change in again.changes) or again.actions[0]
        raise NotConverged(f"{resource.noun} {resource.name}: still different after applying: {differing}")
    return before, plan, after, again


def _undo(resource: Resource[Any]) -> None:
    """Take back an unfinished creation. A failure here must not hide the first one: the record
    still says what is under way, so the next run tries again."""
    with contextlib.suppress(EngineError, OSError):
        for step in resource.plan_undo(resource.observe()).steps:
            step.run(resource.host)
