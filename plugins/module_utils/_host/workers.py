# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Work on many objects at once, each in a forked copy of this process.

Processes and not threads: locks, deadlines by signal and changes of namespace belong to a process, and Python
runs one thread at a time.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .priority import raise_priority

_PR_SET_PDEATHSIG = 1
_CHUNK_BYTES = 1024 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


def work_through(
    count: int, parallel: int, perform: Callable[[int], Mapping[str, Any]], goes_on: Callable[[], bool] = lambda: True
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Perform pieces 0 to count - 1 of some work, at most parallel of them at once, in workers of their own.

    Gives number and answer (JSON values) of each piece as it ends; None for one whose worker died, such as of a
    lack of memory. No piece is begun once goes_on() is false. Workers die with this process.
    """
    waiting = 0
    running: dict[int, _Worker] = {}
    try:
        while True:
            while len(running) < parallel and waiting < count and goes_on():
                try:
                    worker = _Worker(waiting, perform)
                except OSError:
                    # The host bears no more processes or open files.
                    if not running:
                        raise
                    parallel = len(running)
                    break
                waiting += 1
                running[worker.descriptor] = worker
            if not running:
                return
            for descriptor in _readable(running):
                if running[descriptor].read():
                    continue
                worker = running.pop(descriptor)
                yield worker.index, worker.answer()
    finally:
        for worker in running.values():
            worker.end()


def _readable(running: Mapping[int, _Worker]) -> list[int]:
    poller = select.poll()
    for descriptor in running:
        poller.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _events in poller.poll()]


class _Worker:
    """A forked process that performs one piece, and the pipe its answer comes through."""

    def __init__(self, index: int, perform: Callable[[int], Mapping[str, Any]]) -> None:
        self.index = index
        self._data = bytearray()
        self.descriptor, writer = os.pipe2(os.O_CLOEXEC)
        parent = os.getpid()
        try:
            self._pid = os.fork()
        except OSError:
            os.close(self.descriptor)
            os.close(writer)
            raise
        if self._pid == 0:
            _perform_and_exit(index, perform, writer, parent)
        os.close(writer)

    def read(self) -> bool:
        """Take what has come; whether more may come."""
        chunk = os.read(self.descriptor, _CHUNK_BYTES)
        self._data += chunk
        return bool(chunk)

    def answer(self) -> dict[str, Any] | None:
        return json.loads(self._data) if self._reap() == 0 else None

    def end(self) -> None:
        """What it did until now, and may have answered, is of no interest."""
        os.kill(self._pid, signal.SIGKILL)
        self._reap()

    def _reap(self) -> int:
        os.close(self.descriptor)
        return os.waitpid(self._pid, 0)[1]


def _perform_and_exit(index: int, perform: Callable[[int], Mapping[str, Any]], writer: int, parent: int) -> None:
    """In the forked process: never returns."""
    status = 1
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        raise_priority()
        if os.getppid() == parent:
            with os.fdopen(writer, "wb") as stream:
                stream.write(json.dumps(perform(index)).encode())
            status = 0
    finally:
        os._exit(status)
