# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Plans of storage pools: every case is a file in cases/."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import EngineError
from ansible_collections.tandem.machines.plugins.module_utils._core.kinds import LIVE, Work
from ansible_collections.tandem.machines.plugins.module_utils._core.plan import Plan
from ansible_collections.tandem.machines.plugins.module_utils._core.values import parse_size
from ansible_collections.tandem.machines.plugins.module_utils._spec.storage import STORAGE_POOL_CONFIG
from ansible_collections.tandem.machines.plugins.module_utils._storage.model import (
    Current,
    Source,
    SourceKind,
    parse_desired,
)
from ansible_collections.tandem.machines.plugins.module_utils._storage.plan import plan_storage_pool, plan_undo
from ansible_collections.tandem.machines.plugins.module_utils._storage.record import Backing, Presence, Recorded
from ansible_collections.tandem.machines.plugins.module_utils._storage.steps import (
    GrowPool,
    MakeBacking,
    RemountPool,
    WriteRecord,
)

CASES = sorted((Path(__file__).parent / "cases").glob("*.yml"))
UUID = "11111111-1111-1111-1111-111111111111"
SIZES = ("size_bytes", "backing_bytes", "filesystem_bytes", "free_bytes")


def with_sizes(given: dict[str, Any]) -> dict[str, Any]:
    return {key: parse_size(value) if key in SIZES and value is not None else value for key, value in given.items()}


def recorded_of(given: dict[str, Any]) -> Recorded:
    values = {"driver": "btrfs", **with_sizes(given)}
    values["backing"] = Backing(values["backing"])
    values["config"] = STORAGE_POOL_CONFIG.parse(values.get("config", {}), "case")
    values["work"] = Work(values["work"]) if values.get("work") else None
    return Recorded(name="p1", uuid="00000000-0000-0000-0000-000000000000", **values)


def current_of(given: dict[str, Any]) -> Current:
    values = with_sizes(given)
    if "recorded" in values:
        values["recorded"] = recorded_of(values["recorded"])
    if "presence" in values:
        values["presence"] = Presence(values["presence"])
    if "source" in values:
        values["source"] = Source(**{**values["source"], "kind": SourceKind(values["source"]["kind"])})
    for key in ("users", "used_by", "missing_tools"):
        values[key] = tuple(values.get(key, ()))
    return Current(**values)


def planned(case: dict[str, Any]) -> Plan[Any]:
    return plan_storage_pool(parse_desired({"name": "p1", **case["desired"]}, UUID), current_of(case["current"]))


def named(step: Any) -> str:
    if isinstance(step, WriteRecord) and step.recorded.work is not None:
        return f"WriteRecord {step.recorded.work.value}"
    return type(step).__name__


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    if "error" in case:
        kind, _unused, message = case["error"].partition(": ")
        with pytest.raises(EngineError) as failure:
            planned(case)
        assert type(failure.value).__name__ == kind
        assert re.search(message, str(failure.value))
        assert "\n" not in str(failure.value)
        return
    plan = planned(case)
    assert [change.path for change in plan.changes] == case["changes"]
    assert [named(step) for step in plan.steps] == case["steps"]
    assert len(plan.warnings) == len(case.get("warnings", ()))
    assert all(part in warning for part, warning in zip(case.get("warnings", ()), plan.warnings))
    assert list(plan.obstacles) == case.get("obstacles", [])
    if "recorded" in case:
        last = next(step for step in reversed(plan.steps) if isinstance(step, WriteRecord)).recorded
        assert last.work is None
        for key, value in with_sizes(case["recorded"]).items():
            assert getattr(last, key) == value, key


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_steps_say_what_they_do(path: Path) -> None:
    case = yaml.safe_load(path.read_text())
    if "error" not in case:
        assert all(action and "\n" not in action for action in planned(case).actions)


def test_new_pool_gets_the_id_that_was_chosen_for_it() -> None:
    plan = planned({"desired": {"driver": "dir"}, "current": {}})
    assert {step.recorded.uuid for step in plan.steps if isinstance(step, (WriteRecord, MakeBacking))} == {UUID}


def test_undo_takes_back_only_an_unfinished_creation() -> None:
    unfinished = current_of({"recorded": {"backing": "loop", "work": "create"}})
    finished = current_of({"recorded": {"backing": "loop"}})
    assert [named(step) for step in plan_undo(unfinished).steps] == ["ClearPool"]
    assert plan_undo(finished) == plan_undo(Current()) == Plan()


def test_every_live_option_is_applied_live() -> None:
    """size grows, mount options remount; what is free only needs the record."""
    setters = {"size": GrowPool, "btrfs.mount_options": RemountPool, "user.*": None}
    assert {option.key for option in STORAGE_POOL_CONFIG if option.container is LIVE} == set(setters)
    values = {"size": "400MiB", "btrfs.mount_options": "noatime"}
    for key, setter in setters.items():
        if setter is None:
            continue
        current = {"recorded": {"backing": "loop", "size_bytes": "300MiB"}, "presence": "mounted"}
        current = {**current, "backing_bytes": "300MiB", "filesystem_bytes": "300MiB"}
        plan = planned({"desired": {"config": {key: values[key]}}, "current": current})
        assert any(isinstance(step, setter) for step in plan.steps)
