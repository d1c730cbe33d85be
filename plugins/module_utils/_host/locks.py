# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Kernel locks, one per object, taken in one order and freed by the kernel when the process dies."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from .._core.errors import Locked
from .files import ensure_directory
from .paths import Paths

# Everybody takes locks in this order, several of one kind by name: no two runs can wait for each other.
# 'unpacking' guards making in a pool what the containers of an image stand on; 'allocation' picking a free id or
# address: it is held for moments and nothing is locked inside it.
ORDER = ("stack", "host", "pool", "image", "network", "profile", "instance", "volume", "unpacking", "allocation")


@dataclass(frozen=True)
class Lock:
    """A lock to take: kind is one of ORDER, name the object's own."""

    kind: str
    name: str = "all"
    shared: bool = False

    @property
    def rank(self) -> tuple[int, str]:
        return ORDER.index(self.kind), self.name

    @property
    def file_name(self) -> str:
        return f"{self.kind}-{self.name.replace('/', '+')}"


@contextmanager
def hold(paths: Paths, locks: Iterable[Lock], timeout_seconds: float) -> Iterator[None]:
    """Hold all locks; Locked after timeout_seconds, naming who holds the one that was missing."""
    deadline = time.monotonic() + timeout_seconds
    with ExitStack() as stack:
        ensure_directory(paths.run, 0o711)
        ensure_directory(paths.locks, 0o700)
        for lock in sorted(set(locks), key=lambda lock: lock.rank):
            stack.enter_context(_hold_one(paths.locks / lock.file_name, lock, deadline, timeout_seconds))
        yield


@contextmanager
def _hold_one(path: Path, lock: Lock, deadline: float, timeout_seconds: float) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        operation = fcntl.LOCK_SH if lock.shared else fcntl.LOCK_EX
        if not _flock_until(descriptor, operation, deadline):
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "an unknown process"
            raise Locked(f"{lock.kind} {lock.name} is locked by {holder}; gave up after {timeout_seconds:g} s")
        if not lock.shared:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _flock_until(descriptor: int, operation: int, deadline: float) -> bool:
    """flock with a deadline: blocks in the kernel, woken by an interval timer, never polls."""
    try:
        fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        pass

    class Expired(Exception):
        pass

    def expire(signum: int, frame: object) -> None:
        raise Expired

    previous = signal.signal(signal.SIGALRM, expire)
    # Repeated, in case the signal comes just before the call blocks.
    signal.setitimer(signal.ITIMER_REAL, max(deadline - time.monotonic(), 0.001), 0.1)
    try:
        fcntl.flock(descriptor, operation)
        return True
    except Expired:
        return False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
