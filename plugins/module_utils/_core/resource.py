# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What every noun gives the Ansible edge: observe, plan, and how to show itself. Pure: no I/O."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from .plan import Plan

CurrentT = TypeVar("CurrentT")


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
