# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Bring all objects of a stack to their desired state: in order of dependency, side by side where they allow it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from .._core.errors import WrongInterpreter
from .._core.resource import Prospects
from .._host.locks import Lock, hold
from .._host.paths import Paths
from .._host.workers import work_through
from .._module.converge import Outcome, glance, settle
from .._module.failure import explain
from .document import build_pruned
from .members import kept_members, other_stacks, read_members, write_members
from .model import Entry, Result, in_order

# Waiting for guests costs no more than a process each.
_WAITING_WORKERS = 32
_WORKER_DIED = "its worker process was killed: see the host's log (a lack of memory?), then run the task again"
_NOT_BEGUN = "not begun: another object failed, and on_error is stop"


ActedT = TypeVar("ActedT")


@dataclass(frozen=True, eq=False, repr=False)
class Wish:
    """How a stack is to be converged. prune names nouns; predicts: nothing may change (check mode)."""

    name: str | None
    prune: frozenset[str]
    parallel: int
    stops_on_error: bool
    lock_timeout_seconds: float
    predicts: bool


def converge_stack(wish: Wish, listed: Sequence[Entry], paths: Paths) -> list[Result]:
    """What became of each object, listed and pruned ones alike. A failed object keeps the others from nothing."""
    if wish.name is None or wish.predicts:
        return _Run(wish, listed, paths).converge()
    # Two runs of one stack would write over each other's record of it.
    with hold(paths, [Lock("stack", wish.name)], wish.lock_timeout_seconds):
        return _Run(wish, listed, paths).converge()


class _Run:
    def __init__(self, wish: Wish, listed: Sequence[Entry], paths: Paths) -> None:
        self._wish = wish
        self._paths = paths
        self._members = read_members(paths, wish.name) if wish.name is not None else {}
        self._listed = listed
        self._entries = [*listed, *build_pruned(self._unlisted(), paths)]
        self._results: dict[tuple[str, str], Result] = {}
        self._prospects = Prospects()
        self._is_claimed = False

    def converge(self) -> list[Result]:
        for group in in_order(self._entries):
            if self._goes_on():
                (self._predict if self._wish.predicts else self._apply)(group)
        if not self._wish.predicts:
            self._await_all()
            self._remember()
        return [self._results.get(entry.key, Result(entry.kind, entry.name, msg=_NOT_BEGUN)) for entry in self._entries]

    def _unlisted(self) -> list[tuple[str, str]]:
        listed = {entry.key for entry in self._listed}
        return [key for key in sorted(self._members) if key[0] in self._wish.prune and key not in listed]

    def _goes_on(self) -> bool:
        return not (self._wish.stops_on_error and any(result.failed for result in self._results.values()))

    def _predict(self, group: Sequence[Entry]) -> None:
        made, moved = dict(self._prospects.made), set(self._prospects.moved)
        for entry in group:
            entry.resource.expect(self._prospects)
            outcome = self._glance(entry)
            if outcome is None:
                continue
            self._results[entry.key] = _result(entry, outcome, outcome.plan.obstacles)
            if outcome.plan.changes:
                moved.add(str(entry))
            if not entry.is_absent:
                made[entry.key] = entry.resource.foretell(outcome.current)
        self._prospects = Prospects(made, frozenset(moved))

    def _apply(self, group: Sequence[Entry]) -> None:
        to_settle = []
        for entry in group:
            outcome = self._glance(entry)
            if outcome is not None and not outcome.plan.steps:
                self._results[entry.key] = _result(entry, outcome)
            elif entry.key not in self._results:
                to_settle.append(entry)
        if to_settle:
            self._claim()
            for entry in to_settle:
                entry.resource.prepare()
            self._work(to_settle, self._wish.parallel, self._settle)

    def _glance(self, entry: Entry) -> Outcome | None:
        """State and plan without a lock; None if that failed, or is not enough."""
        # What is to be pruned is looked at as closely as in check mode: anything odd about it is a reason to stop.
        seen = _attempt(entry, lambda: glance(entry.resource, self._wish.predicts or entry.is_pruned))
        if isinstance(seen, Outcome) and entry.is_pruned:
            seen = self._spare(entry, seen) or seen
        if isinstance(seen, Result):
            self._results[entry.key] = seen
            return None
        return seen

    def _spare(self, entry: Entry, outcome: Outcome) -> Result | None:
        """An object that this stack lets go of, but must not remove; None if it is to be removed."""
        if not outcome.plan.changes:
            return None
        known, found = self._members[entry.key], entry.resource.identity(outcome.current)
        others = other_stacks(self._paths, self._wish.name or "", entry.key)
        if known and found and known != found:
            reason = f"it is not the one that stack {self._wish.name} made, which is gone"
        elif others:
            reason = f"it belongs to stack {others[0]}, too"
        else:
            return None
        return Result(entry.kind, entry.name, warnings=(f"{entry} is left alone: {reason}",))

    def _settle(self, entry: Entry) -> Result:
        outcome = settle(entry.resource, self._paths, self._wish.lock_timeout_seconds)
        result = _result(entry, outcome)
        if not entry.resource.waits_in_turn(outcome.current):
            return result
        return _waited(entry, result, outcome.current)

    def _await_all(self) -> None:
        """Wait for what guests are to reach, all of them at the same time. One that waited in its turn is through
        at once."""
        waiting = [entry for entry in self._listed if entry.resource.waits and self._is_well(entry)]

        def wait(entry: Entry) -> Result:
            return _waited(entry, self._results[entry.key], entry.resource.observe())

        if waiting and self._goes_on():
            self._work(waiting, _WAITING_WORKERS, wait)

    def _is_well(self, entry: Entry) -> bool:
        return entry.key in self._results and not self._results[entry.key].failed

    def _work(self, entries: Sequence[Entry], parallel: int, act: Callable[[Entry], Result]) -> None:
        """Let workers act on entries, at most parallel at once, and take their results."""

        def perform(number: int) -> dict[str, Any]:
            entry = entries[number]
            try:
                return asdict(_attempt(entry, lambda: act(entry)))
            except WrongInterpreter as error:
                return {"wrong_interpreter": str(error)}

        for number, answer in work_through(len(entries), parallel, perform, self._goes_on):
            entry = entries[number]
            if answer is None:
                answer = asdict(_failure(entry, _WORKER_DIED))
            elif "wrong_interpreter" in answer:
                raise WrongInterpreter(answer["wrong_interpreter"])
            self._results[entry.key] = _parse(answer)

    def _claim(self) -> None:
        """Record what is about to be ours before the first effect."""
        if self._wish.name is not None and not self._is_claimed:
            self._is_claimed = True
            listed = {entry.key: "" for entry in self._listed if not entry.is_absent}
            self._write_members(listed, ())

    def _remember(self) -> None:
        if self._wish.name is None:
            return
        well = [entry for entry in self._entries if self._is_well(entry)]
        applied = {entry.key: self._results[entry.key].identity for entry in well if not entry.is_absent}
        self._write_members(applied, (entry.key for entry in well if entry.is_absent))

    def _write_members(self, applied: Mapping[tuple[str, str], str], gone: Iterable[tuple[str, str]]) -> None:
        members = kept_members(self._members, applied, gone)
        if members != self._members:
            write_members(self._paths, self._wish.name or "", members)
            self._members = dict(members)


def _attempt(entry: Entry, act: Callable[[], ActedT]) -> ActedT | Result:
    """What act returns, or its failure. A defect of ours is one, too: it must not keep the others from their turn."""
    try:
        return act()
    except WrongInterpreter:
        raise
    except Exception as error:
        return _failure(entry, explain(error) or f"{type(error).__name__}: {error}")


def _failure(entry: Entry, message: str) -> Result:
    return Result(entry.kind, entry.name, failed=True, msg=message)


def _result(entry: Entry, outcome: Outcome, obstacles: Sequence[str] = ()) -> Result:
    is_changed = bool(outcome.plan.changes)
    return Result(
        kind=entry.kind,
        name=entry.name,
        changed=is_changed,
        actions=tuple(outcome.plan.actions),
        pending=outcome.pending,
        warnings=(*outcome.plan.warnings, *obstacles),
        diff=outcome.plan.diff(str(entry)) if is_changed else {},
        identity=entry.resource.identity(outcome.current),
    )


def _parse(answer: Mapping[str, Any]) -> Result:
    sequences = {key: tuple(answer[key]) for key in ("actions", "pending", "warnings")}
    return Result(**{**answer, **sequences})


def _waited(entry: Entry, result: Result, current: object) -> Result:
    """The result once the object's wait is over. A failed wait comes after changes that were made all the same."""
    failure = _attempt(entry, lambda: entry.resource.wait(current))
    return replace(result, failed=True, msg=failure.msg) if isinstance(failure, Result) else result
