# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Processes by identity (pid, start time, boot id) and pidfd, never by command line or a bare pid file."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from .._core.errors import TimedOut


@lru_cache(maxsize=1)
def boot_id() -> str:
    """The kernel's id of this boot (UUID text)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which pid started (field 22 of /proc/PID/stat); None if gone or a zombie."""
    found = _state(pid)
    return None if found is None or found[0] in "ZX" else found[1]


def _state(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process, also of one that is dying."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command in field 2 may hold blanks and parentheses; everything after the last ')' is numeric.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])


@dataclass(frozen=True)
class Process:
    """One process of this boot; a reused pid has another start time and does not match."""

    pid: int
    start_time: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has pid now, None if there is none."""
        started = start_time(pid)
        return None if started is None else cls(pid, started, boot_id())

    @classmethod
    def parse(cls, record: Mapping[str, Any] | None) -> Process | None:
        """A process from its JSON record, None without a record."""
        if record is None:
            return None
        return cls(int(record["pid"]), int(record["start_time"]), str(record["boot_id"]))

    def record(self) -> dict[str, Any]:
        return {"pid": self.pid, "start_time": self.start_time, "boot_id": self.boot_id}

    def is_alive(self) -> bool:
        return self.boot_id == boot_id() and start_time(self.pid) == self.start_time

    def signal(self, number: int) -> bool:
        """Send a signal to exactly this process; False if it has ended."""
        descriptor = self._open()
        if descriptor is None:
            return False
        try:
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    def wait(self, timeout_seconds: float) -> None:
        """Block until the process has ended; TimedOut after timeout_seconds."""
        descriptor = self._open()
        if descriptor is None:
            return
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + timeout_seconds
        try:
            while not poll.poll(max(deadline - time.monotonic(), 0) * 1000):
                if time.monotonic() >= deadline:
                    raise TimedOut(f"process {self.pid} to end", timeout_seconds, "still running")
        finally:
            os.close(descriptor)

    def end(self, timeout_seconds: float = 5) -> None:
        """SIGTERM, then SIGKILL after timeout_seconds; returns when the process has ended."""
        if not self.signal(signal.SIGTERM):
            return
        try:
            self.wait(timeout_seconds)
        except TimedOut:
            self.signal(signal.SIGKILL)
            self.wait(10)

    def _open(self) -> int | None:
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        # The first thread of a dying process is a zombie while others still hold its files and groups:
        # that it has ended is for the pidfd to say.
        found = _state(self.pid)
        if self.boot_id == boot_id() and found is not None and found[1] == self.start_time:
            return descriptor
        os.close(descriptor)
        return None
