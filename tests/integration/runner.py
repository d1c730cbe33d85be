# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Run playbooks the way a user does and read what every task returned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

CHECKOUT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TIMEOUT_SECONDS = 900

Task = Mapping[str, Any]


@dataclass(frozen=True)
class TaskResult:
    """What one task returned on one host; status is ok, failed, ignored, skipped or unreachable."""

    task: str
    action: str
    host: str
    status: str
    result: Mapping[str, Any]

    @property
    def changed(self) -> bool:
        return bool(self.result.get("changed"))

    @property
    def message(self) -> str:
        return str(self.result.get("msg", ""))

    def __getitem__(self, key: str) -> Any:
        return self.result[key]


@dataclass(frozen=True)
class Run:
    """One ansible-playbook command: exit status, all it printed, and the results in the order they came."""

    status: int
    output: str
    results: Sequence[TaskResult]

    @property
    def changed(self) -> list[TaskResult]:
        return [result for result in self.results if result.changed]

    def named(self, task: str) -> TaskResult:
        """The result of the task of that name."""
        return next(result for result in self.results if result.task == task)


@dataclass(frozen=True)
class FourRuns:
    """The same task checked, applied, checked and applied again."""

    check: TaskResult
    apply: TaskResult
    check_again: TaskResult
    apply_again: TaskResult


def four_times(task: Task) -> list[Task]:
    """The tasks whose results make FourRuns."""
    return [{**task, "check_mode": mode, "diff": True} for mode in (True, False, True, False)]


def require_kept_promise(runs: FourRuns) -> FourRuns:
    """The promise of every module: changed, changed, ok, ok, and the check showed what the apply did."""
    changed = (runs.check.changed, runs.apply.changed, runs.check_again.changed, runs.apply_again.changed)
    assert changed == (True, True, False, False), runs
    assert runs.check.result.get("diff") == runs.apply.result.get("diff")
    assert runs.check.result.get("actions") == runs.apply.result.get("actions")
    assert not runs.check_again.result.get("actions") and not runs.apply_again.result.get("actions")
    return runs


def require_one_line(result: TaskResult) -> TaskResult:
    """A failure that was said in one line, by us."""
    assert result.status in ("failed", "ignored"), result
    assert "\n" not in result.message, result
    # What ansible-core writes before the text of an exception that nobody caught.
    assert "Module failed" not in result.message, result
    return result


@dataclass(frozen=True)
class Ansible:
    """Runs playbooks on localhost, or on the hosts of an inventory (a mapping as in YAML inventories).

    root goes to every module of the collection. directory holds what a run needs and leaves.
    """

    directory: Path
    root: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def playbook(self, plays: Sequence[Mapping[str, Any]] | Path, *arguments: str, inventory: Any = None) -> Run:
        """Run plays (data, or the path of a playbook); a failed task is not an error here."""
        path = plays if isinstance(plays, Path) else self._write("playbook.yml", plays)
        options = [] if inventory is None else ["--inventory", str(self._write("inventory.yml", inventory))]
        return self.command(["ansible-playbook", *options, *arguments, str(path)])

    def command(self, argv: Sequence[str], cwd: Path | None = None) -> Run:
        """Run one of Ansible's programs by its name, or another by its path."""
        results = self.directory / "results.jsonl"
        results.unlink(missing_ok=True)
        program = str(BIN / argv[0]) if (BIN / argv[0]).exists() else argv[0]
        process = subprocess.run(
            [program, *argv[1:]],
            cwd=cwd or self.directory,
            env=self._environment(results),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        lines = results.read_text().splitlines() if results.exists() else []
        return Run(process.returncode, process.stdout, [TaskResult(**json.loads(line)) for line in lines])

    def tasks(self, *tasks: Task, inventory: Any = None, hosts: str = "localhost") -> list[TaskResult]:
        """Results of tasks that must all succeed, in order."""
        run = self.playbook([self._play(tasks, hosts)], "--diff", inventory=inventory)
        assert run.status == 0, run.output
        return list(run.results)

    def task(self, module: str, **options: Any) -> TaskResult:
        """Result of one task with one of our modules."""
        return self.tasks({f"tandem.machines.{module}": options})[0]

    def failure(self, module: str, **options: Any) -> TaskResult:
        """Result of a task that must be refused: in one line, by us, without a traceback."""
        run = self.playbook([self._play([{f"tandem.machines.{module}": options}], "localhost")])
        assert run.status != 0, run.output
        result = run.results[-1]
        assert result.status == "failed", run.output
        assert "Traceback" not in run.output, run.output
        return require_one_line(result)

    def failures(self, module: str, *options: Mapping[str, Any]) -> list[TaskResult]:
        """The same for many tasks in one play, since to start one costs more than a task."""
        tasks = [{f"tandem.machines.{module}": one, "ignore_errors": True} for one in options]
        run = self.playbook([self._play(tasks, "localhost")])
        assert len(run.results) == len(options), run.output
        assert "Traceback" not in run.output, run.output
        return [require_one_line(result) for result in run.results]

    def four_runs(self, task: Task, inventory: Any = None, hosts: str = "localhost") -> FourRuns:
        """Check, apply, check, apply in one play."""
        return FourRuns(*self.tasks(*four_times(task), inventory=inventory, hosts=hosts))

    def check_apply_check_apply(self, task: Task, inventory: Any = None, hosts: str = "localhost") -> FourRuns:
        """The promise of every module, see require_kept_promise()."""
        return require_kept_promise(self.four_runs(task, inventory, hosts))

    def each_kept_its_promise(self, *tasks: Task | Sequence[Task]) -> list[FourRuns]:
        """One play: every task is checked, applied, checked and applied; those in a list are run once, in between."""
        written: list[Task] = []
        begins = []
        for task in tasks:
            if isinstance(task, Mapping):
                begins.append(len(written))
                written += four_times(task)
            else:
                written += task
        results = self.tasks(*written)
        return [require_kept_promise(FourRuns(*results[begin : begin + 4])) for begin in begins]

    def _play(self, tasks: Sequence[Task], hosts: str) -> Mapping[str, Any]:
        defaults = {"group/tandem.machines.all": {"root": str(self.root)}}
        return {"hosts": hosts, "gather_facts": False, "module_defaults": defaults, "tasks": list(tasks)}

    def _write(self, name: str, content: Any) -> Path:
        path = self.directory / name
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    def _environment(self, results: Path) -> Mapping[str, str]:
        """A user's environment with Ansible's defaults: no settings but where the collection is."""
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        empty = self.directory / "ansible.cfg"
        empty.touch()
        return {
            **inherited,
            "ANSIBLE_CONFIG": str(empty),
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".build"),
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callbacks")),
            "ANSIBLE_CALLBACKS_ENABLED": "results",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "ANSIBLE_NOCOLOR": "true",
            "TANDEM_RESULTS": str(results),
            **self.environment,
        }
