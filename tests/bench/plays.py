# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Playbooks that are timed task by task."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .measure import Sample

_HERE = Path(__file__).parent

Task = Mapping[str, Any]

PING: Task = {"ansible.builtin.ping": {}}


class PlayFailed(Exception):
    """A playbook that was to be timed did not succeed; all that it printed."""


@dataclass(frozen=True)
class Plays:
    """Runs plays on this machine with one ansible-playbook. directory holds what they need and leave."""

    directory: Path
    program: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    module_defaults: Mapping[str, Any] = field(default_factory=dict)

    def run(self, *tasks: Task) -> list[tuple[str, float]]:
        """Name and seconds of each task of one play; a task may say itself what of it counts, see action/."""
        playbook = self.directory / "playbook.json"
        playbook.write_text(json.dumps([self._play(tasks)]))
        durations = self.directory / "durations.jsonl"
        durations.write_text("")
        status, output = self._execute([self.program, playbook], self._environment(durations))
        if status != 0:
            raise PlayFailed(output)
        lines = [json.loads(line) for line in durations.read_text().splitlines()]
        return [(line["name"], line["seconds"]) for line in lines]

    def once(self, **named: Task) -> dict[str, float]:
        """Seconds of each task in a play of their own after a ping, as in a playbook that a person runs.

        'ping' is a second ping: the first of a play is slower than any task after it.
        """
        found = self.run(PING, {"name": "ping", **PING}, *({"name": name, **task} for name, task in named.items()))
        return dict(found[1:])

    def alternate(self, rounds: int, **named: Task) -> dict[str, Sample]:
        """Each named task, all of them in turn, rounds times in one play; the first round warms up."""
        tasks = [{"name": name, **task} for _unused in range(rounds + 1) for name, task in named.items()]
        found: dict[str, list[float]] = {name: [] for name in named}
        for name, seconds in self.run(*tasks):
            found[name].append(seconds)
        return {name: Sample(tuple(values[1:])) for name, values in found.items()}

    def module_file(self, task: Task) -> Path:
        """What Ansible sends to the host for a task: a Python program that is the module with its arguments."""
        directory = self.directory / "kept"
        shutil.rmtree(directory, ignore_errors=True)
        kept = {"ANSIBLE_KEEP_REMOTE_FILES": "true", "ANSIBLE_REMOTE_TMP": str(directory)}
        replace(self, environment={**self.environment, **kept}).run(task)
        return next(directory.glob("*/AnsiballZ_*.py"))

    def _execute(self, argv: Sequence[str | Path], environment: Mapping[str, str]) -> tuple[int, str]:
        """Exit status and output. The program goes with all its workers when this one is interrupted."""
        process = subprocess.Popen(
            argv,
            env=environment,
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            output, _unused = process.communicate()
        except BaseException:
            _kill_tree(process.pid)
            process.wait()
            raise
        return process.returncode, output

    def _play(self, tasks: Sequence[Task]) -> Mapping[str, Any]:
        defaults = {"module_defaults": self.module_defaults} if self.module_defaults else {}
        return {"hosts": "localhost", "gather_facts": False, **defaults, "tasks": list(tasks)}

    def _environment(self, durations: Path) -> Mapping[str, str]:
        """A user's environment with Ansible's defaults: no settings but where things are."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        empty = self.directory / "ansible.cfg"
        empty.touch()
        return {
            **inherited,
            "ANSIBLE_CONFIG": str(empty),
            "ANSIBLE_ACTION_PLUGINS": str(_HERE / "action"),
            "ANSIBLE_CALLBACK_PLUGINS": str(_HERE / "callbacks"),
            "ANSIBLE_CALLBACKS_ENABLED": "durations",
            "ANSIBLE_LIBRARY": str(_HERE / "library"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "TANDEM_DURATIONS": str(durations),
            **self.environment,
        }


def _kill_tree(pid: int) -> None:
    """A program of ours and all that it started, which ansible-playbook keeps in sessions of their own.

    A module that lived on would make what is being cleaned up.
    """
    with contextlib.suppress(ProcessLookupError):
        # Stopped first, so that it starts nothing more.
        os.kill(pid, signal.SIGSTOP)
    for child in _children(pid):
        _kill_tree(child)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    """By their parents: not every kernel has lists of children (CONFIG_PROC_CHILDREN)."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name before may hold anything; after it come state and parent, see proc_pid_stat(5).
            if int(path.read_text(errors="replace").rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parent.name))
    return found
