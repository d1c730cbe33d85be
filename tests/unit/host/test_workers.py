# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Workers: side by side, answers of any size, deaths that are noticed."""

from __future__ import annotations

import errno
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._host.workers import work_through


def answers(count: int, parallel: int, perform: Any, **more: Any) -> dict[int, Any]:
    return dict(work_through(count, parallel, perform, **more))


def test_each_piece_is_answered_once_by_a_process_of_its_own() -> None:
    found = answers(7, 3, lambda number: {"number": number, "pid": os.getpid()})
    assert sorted(found) == list(range(7))
    assert all(found[number]["number"] == number for number in found)
    assert os.getpid() not in {answer["pid"] for answer in found.values()}


def test_large_answers_arrive_whole() -> None:
    assert answers(2, 2, lambda number: {"text": "x" * 3_000_000})[1]["text"] == "x" * 3_000_000


def test_death_of_a_worker_is_its_own() -> None:
    def perform(number: int) -> dict[str, int]:
        if number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"number": number}

    assert answers(3, 2, perform) == {0: {"number": 0}, 1: None, 2: {"number": 2}}


def test_pieces_run_side_by_side() -> None:
    """Each waits for a word of the other."""
    pipes = [os.pipe(), os.pipe()]

    def perform(number: int) -> dict[str, str]:
        os.write(pipes[1 - number][1], b"x")
        return {"got": os.read(pipes[number][0], 1).decode()}

    try:
        assert answers(2, 2, perform) == {0: {"got": "x"}, 1: {"got": "x"}}
    finally:
        for descriptor in (end for pipe in pipes for end in pipe):
            os.close(descriptor)


def test_nothing_is_begun_once_it_is_enough(tmp_path: Path) -> None:
    done: list[int] = []

    def perform(number: int) -> dict[str, Any]:
        (tmp_path / str(number)).touch()
        return {}

    for number, _answer in work_through(5, 1, perform, lambda: len(done) < 2):
        done.append(number)
    assert done == [0, 1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


def test_workers_end_with_whoever_gives_up_on_them() -> None:
    def perform(number: int) -> dict[str, Any]:
        if number == 0:
            return {"pid": os.getpid()}
        signal.pause()
        return {}

    work = work_through(2, 2, perform)
    next(work)
    work.close()
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    assert not children.exists() or not children.read_text().split()


def test_as_many_work_at_once_as_the_host_bears(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe2, waitpid = os.pipe2, os.waitpid
    alive = 0

    def open_pipe(flags: int) -> tuple[int, int]:
        nonlocal alive
        if alive == 3:
            raise OSError(errno.EMFILE, "Too many open files")
        alive += 1
        return pipe2(flags)

    def wait(pid: int, options: int) -> tuple[int, int]:
        nonlocal alive
        alive -= 1
        return waitpid(pid, options)

    monkeypatch.setattr(os, "pipe2", open_pipe)
    monkeypatch.setattr(os, "waitpid", wait)
    assert sorted(work_through(10, 1000, lambda number: {"is": number})) == [(n, {"is": n}) for n in range(10)]
    alive = 3
    with pytest.raises(OSError, match="Too many"):
        next(work_through(1, 1, lambda number: {}))


def test_all_workers_are_ended_though_some_have_answered_unheard() -> None:
    def perform(number: int) -> dict[str, int]:
        if number == 2:
            time.sleep(60)
        return {}

    work = work_through(3, 3, perform)
    next(work)
    time.sleep(0.2)
    work.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
