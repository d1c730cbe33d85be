# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Bring all objects of a stack to their desired state: in order of dependency, side by side where they allow it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

from .._core.errors import EngineError, WrongInterpreter
from .._core.resource import Prospects
from .._host.locks import Lock, hold
from .._host.paths import Paths
from .._host.workers import work_through
from .._module.converge import Outcome, glance, settle
from .._module.failure import explain
from .document import build_pruned
from .members import kept_members, other_stacks, read_members, write_members
from .model import ABSENT, Entry, Result, in_order
from .nouns import TOP_LEVEL

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
        self._is_prepared = False
        self._claimed: list[Entry] = []

    def converge(self) -> list[Result]:
        for group in in_order(self._entries, TOP_LEVEL):
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
        made, uses = dict(self._prospects.made), dict(self._prospects.uses)
        for entry in group:
            entry.resource.expect(self._prospects)
            outcome = self._glance(entry)
            if outcome is None:
                continue
            self._results[entry.key] = _result(entry, outcome, outcome.plan.obstacles)
            uses[str(entry)] = entry.resource.uses(outcome.current)
            if not entry.is_absent:
                made[entry.key] = entry.resource.foretell(outcome.current)
        self._prospects = Prospects(made, uses)

    def _apply(self, group: Sequence[Entry]) -> None:
        to_settle, new = [], []
        for entry in group:
            outcome = self._glance(entry)
            if outcome is not None and not outcome.plan.steps:
                self._results[entry.key] = _result(entry, outcome)
            elif entry.key not in self._results:
                to_settle.append(entry)
                if outcome is not None and outcome.previous_state == ABSENT:
                    new.append(entry)
        if to_settle:
            self._prepare()
            self._claim(new)
            self._work(to_settle, self._wish.parallel, self._settle)

    def _glance(self, entry: Entry) -> Outcome | None:
        """State and plan without a lock; None if that failed, or is not enough."""
        # What is to be pruned is looked at as closely as in check mode: anything odd about it is a reason to stop.
        seen = _attempt(entry, lambda: glance(entry.resource, self._wish.predicts or entry.is_pruned))
        if isinstance(seen, Outcome) and entry.is_pruned:
            outcome = seen
            seen = _attempt(entry, lambda: self._spare(entry, outcome)) or outcome
        if isinstance(seen, Result):
            self._results[entry.key] = seen
            return None
        return seen

    def _spare(self, entry: Entry, outcome: Outcome) -> Result | None:
        """An object that this stack lets go of, but must not remove; None if it is to be removed."""
        if not outcome.plan.changes:
            return None
        known, found = self._members[entry.key], entry.resource.identity(outcome.current)
        names = {entry.name, *entry.resource.other_names(outcome.current)}
        listed = (one for one in self._listed if one.kind == entry.kind and not one.is_absent)
        kept = sorted(str(one) for one in listed if one.name in names)
        others = sorted({stack for name in names for stack in self._others(entry.kind, name)})
        if known and found and known != found:
            reason = f"it is not the one that stack {self._wish.name} made, which is gone"
        elif kept:
            reason = f"it is {kept[0]}, too"
        elif others:
            reason = f"it belongs to stack {others[0]}, too"
        else:
            return None
        return Result(entry.kind, entry.name, warnings=(f"{entry} is left alone: {reason}",))

    def _others(self, kind: str, name: str) -> list[str]:
        return other_stacks(self._paths, self._wish.name or "", (kind, name))

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

    def _prepare(self) -> None:
        """Before the first effect: if another interpreter has to begin anew, nothing is lost of what was changed. What
        is missing fails those that need it, in their turn."""
        if not self._is_prepared:
            self._is_prepared = True
            for entry in self._entries:
                _attempt(entry, entry.resource.prepare)

    def _claim(self, new: Sequence[Entry]) -> None:
        """Record what is about to be made before the first effect. What is there may be somebody else's: it becomes
        ours once it is as it is listed."""
        if self._wish.name is not None:
            self._claimed += new
            self._write_members({entry.key: "" for entry in new}, ())

    def _remember(self) -> None:
        if self._wish.name is None:
            return
        ours = [entry for entry in self._listed if not entry.is_absent and self._is_applied(entry)]
        applied = {entry.key: self._results[entry.key].identity for entry in ours}
        gone = [entry.key for entry in self._entries if entry.is_absent and self._is_well(entry)]
        for entry in self._claimed:
            if entry.key not in applied:
                self._reconsider(entry, applied, gone)
        self._write_members(applied, gone)

    def _is_applied(self, entry: Entry) -> bool:
        """Whether the object is as it is listed, though it may not have reached what it was waited for."""
        return self._is_well(entry) or (entry.key in self._results and self._results[entry.key].identity != "")

    def _reconsider(self, entry: Entry, applied: dict[tuple[str, str], str], gone: list[tuple[str, str]]) -> None:
        """A claim to what could not be made: whoever makes something of that name next, it may not be this stack."""
        with suppress(EngineError, OSError):
            current = entry.resource.observe()
            if entry.resource.state(current) == ABSENT:
                gone.append(entry.key)
            else:
                applied[entry.key] = entry.resource.identity(current)

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
