# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What every noun gives the Ansible edge: observe, plan, and how to show itself. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from .options import OptionTable
from .plan import Plan

CurrentT = TypeVar("CurrentT")


@dataclass(frozen=True, eq=False, repr=False)
class Prospects:
    """What the same run does before an object's turn. In check mode nothing of it shows on the host.

    made holds, by noun and name, what the run makes or changes, as objects that refer to it need it (None where its
    existence is all they need). moved names, as 'noun name', what the run removes or changes: it stands in
    nobody's way any more.
    """

    made: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    moved: frozenset[str] = frozenset()

    def names(self, noun: str) -> frozenset[str]:
        return frozenset(name for kind, name in self.made if kind == noun)

    def objects(self, noun: str) -> dict[str, Any]:
        return {name: value for (kind, name), value in self.made.items() if kind == noun}

    def holding(self, users: tuple[str, ...]) -> tuple[str, ...]:
        """Those of users, each as 'noun name', that will still be there."""
        return tuple(user for user in users if user not in self.moved)


NO_PROSPECTS = Prospects()


class Resource(Protocol[CurrentT]):
    """One desired object. The edge (_module/converge.py) decides when which verb is called.

    noun is the key under which modules return the object; locks are (kind, name, shared) triples in
    the sense of _host/locks.py, needed to change it.
    """

    @property
    def noun(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def locks(self) -> tuple[tuple[str, str, bool], ...]: ...

    @property
    def host(self) -> Any: ...

    @property
    def waits(self) -> bool:
        """Whether wait has anything to wait for."""

    def waits_in_turn(self, current: CurrentT) -> bool:
        """Whether others should begin only when the wait is over: a boot that takes much of the host."""

    def expect(self, prospects: Prospects) -> None:
        """Take into account what the same run does before; for check mode, called before observe."""

    def foretell(self, current: CurrentT) -> Any:
        """What prospects hold of this object once its plan has run."""

    def identity(self, current: CurrentT) -> str:
        """What tells this object from a later one of the same name; '' where nothing does."""

    def prepare(self) -> None:
        """Import what applying needs; for whoever forks before, so that it is done once."""

    def observe(self) -> CurrentT:
        """Read the host; changes nothing. An object under interrupted work is shown as it is."""

    def is_busy(self, current: CurrentT) -> bool:
        """Whether the record says that work is under way: an interrupted run, or one that holds the lock now."""

    def plan(self, current: CurrentT) -> Plan[Any]:
        """What to do. Finishing or undoing interrupted work is part of the plan."""

    def plan_again(self, current: CurrentT) -> Plan[Any]:
        """The same after applying; differs from plan only for wishes that are events, such as 'restarted'."""

    def plan_undo(self, current: CurrentT) -> Plan[Any]:
        """After a failed step: takes back an unfinished creation; empty for anything that existed before."""

    def wait(self, current: CurrentT) -> CurrentT:
        """Wait for what the task waits for; returns the object as seen then. Called after applying."""

    def describe(self, current: CurrentT) -> dict[str, Any]:
        """The object as modules return it; {} when absent."""

    def predict(self, current: CurrentT) -> dict[str, Any]:
        """What describe will give after the plan has run, as far as it can be known before."""

    def state(self, current: CurrentT) -> str:
        """The object's state in one word: absent, present, or an instance's power."""


@dataclass(frozen=True, eq=False, repr=False)
class Noun:
    """A kind of object: what every way to manage one needs to know, so that all of them are alike.

    name is the module's and the key under which it returns the object, plural the key of lists. arguments is the
    module's argument spec without the options of every module. build makes the resource from parameters of that
    spec and from where everything lies (_host/paths.py); InvalidRequest for what can be seen from the parameters
    alone. table has the options that parameter config takes, to know its secrets.

    names and options read the host, whose paths they take. names gives all objects of the kind. options gives what a
    task for build would say to make the object as it is now, power included, and what is secret in full; values as
    records have them, and nothing that says nothing. None without such an object, and while work on it is under way
    or was interrupted. EngineError if it cannot be read.
    """

    name: str
    plural: str
    arguments: Mapping[str, Any]
    build: Callable[[Mapping[str, Any], Any], Resource[Any]]
    table: OptionTable | None
    names: Callable[[Any], Iterable[str]]
    options: Callable[[Any, str], dict[str, Any] | None]


def leave_out_empty(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those that say nothing. An empty list says something: none of what there could be."""
    return {key: value for key, value in options.items() if value is not None and value != "" and value != {}}
