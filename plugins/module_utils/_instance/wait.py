# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Waiting for what a task's wait_for lists: each condition is seen, or the wait fails saying what was seen last."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Callable

from .._core.errors import Conflict, EngineError, TimedOut
from .._core.kinds import Power
from .._host.run import events
from . import agent
from .execute import Command, execute
from .host import Host
from .model import Address, Record

# Nothing on the host tells when a guest's port opens or a virtual machine gets an address of its own.
_LOOK_AGAIN_SECONDS = 0.5


def wait_for(host: Host, record: Record, conditions: Iterable[str], timeout_seconds: float) -> None:
    """Block until every condition holds; TimedOut names the one that did not and what was seen last."""
    deadline = time.monotonic() + timeout_seconds
    for condition in conditions:
        waiting = Waiting(host, record, condition, deadline, timeout_seconds)
        if condition == "running":
            waiting.for_running()
        elif condition in ("ipv4", "ipv6"):
            waiting.for_address("inet" if condition == "ipv4" else "inet6")
        elif condition == "agent":
            waiting.for_agent()
        elif condition == "cloud-init":
            waiting.for_cloud_init()
        else:
            waiting.for_port(int(condition.partition(":")[2]))


class Waiting:
    """One condition of one instance, with the deadline all of them share."""

    def __init__(self, host: Host, record: Record, condition: str, deadline: float, timeout_seconds: float) -> None:
        self._host = host
        self._record = record
        self._condition = condition
        self._deadline = deadline
        self._timeout_seconds = timeout_seconds
        self._driver = host.driver(record)
        self._definition = host.definition(record)

    def for_running(self) -> None:
        power = self._driver.power(self._definition)
        if power is not Power.RUNNING:
            raise self._timed_out(power.value)

    def for_agent(self) -> None:
        """A container needs no agent: it can be entered as soon as it runs."""
        if self._record.is_container:
            self.for_running()
            return
        try:
            agent.ping(f"{self._definition.run_directory}/qga.sock", self._record.name, self._remaining())
        except TimedOut as error:
            raise self._timed_out(str(error).rpartition("last seen: ")[2]) from None

    def for_address(self, family: str) -> None:
        self._until(lambda: self._find_address(family) is not None, lambda: f"addresses: {self._seen_addresses()}")

    def for_port(self, port: int) -> None:
        self._until(lambda: self._answers(port), lambda: f"addresses: {self._seen_addresses()}, port {port} closed")

    def for_cloud_init(self) -> None:
        self.for_agent()
        command = Command(("cloud-init", "status", "--wait"), timeout_seconds=self._remaining())
        outcome = execute(self._host.paths, self._record.name, command)
        if outcome.status not in (0, 2):  # 2: done, with recoverable errors
            shown = (outcome.stdout or outcome.stderr).decode("utf-8", "replace").strip()[:300]
            raise Conflict(f"instance {self._record.name}: cloud-init did not finish well: {' '.join(shown.split())}")

    def _until(self, holds: Callable[[], bool], seen: Callable[[], str]) -> None:
        with self._events() as wait:
            while not holds():
                if self._driver.power(self._definition) is not Power.RUNNING:
                    raise Conflict(f"instance {self._record.name} stopped while {self._condition} was waited for")
                if time.monotonic() >= self._deadline:
                    raise self._timed_out(seen())
                wait(min(self._remaining(), self._look_again_seconds()))

    @contextmanager
    def _events(self) -> Iterator[Callable[[float], bool]]:
        """Changes of addresses: the container's own, seen from its network namespace; else the host's neighbours."""
        pid = self._driver.pid(self._definition)
        if self._record.is_container and pid is not None:
            argv = ["nsenter", f"--net=/proc/{pid}/ns/net", "ip", "monitor", "address"]
        else:
            argv = ["ip", "monitor", "neigh"]
        with events(argv) as wait:
            yield wait

    def _look_again_seconds(self) -> float:
        only_events = self._record.is_container and not self._condition.startswith("port:")
        return 10 if only_events else _LOOK_AGAIN_SECONDS

    def _find_address(self, family: str) -> Address | None:
        return next(
            (address for address in self._addresses() if address.family == family and address.scope == "global"), None
        )

    def _addresses(self) -> tuple[Address, ...]:
        with suppress(EngineError):
            return self._driver.addresses(self._definition)
        return ()

    def _answers(self, port: int) -> bool:
        address = self._find_address("inet") or self._find_address("inet6")
        if address is None:
            return False
        try:
            socket.create_connection((address.address, port), timeout=min(2, self._remaining())).close()
        except OSError:
            return False
        return True

    def _seen_addresses(self) -> str:
        return ", ".join(address.address for address in self._addresses()) or "none"

    def _remaining(self) -> float:
        return max(self._deadline - time.monotonic(), 0.01)

    def _timed_out(self, seen: str) -> TimedOut:
        return TimedOut(f"{self._condition} of instance {self._record.name}", self._timeout_seconds, seen)
