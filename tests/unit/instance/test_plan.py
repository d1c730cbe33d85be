# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Plans of instances: every case is a file in cases/."""

from __future__ import annotations

import pathlib
import re
from typing import Any

import pytest
import yaml
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import EngineError
from ansible_collections.tandem.machines.plugins.module_utils._core.kinds import InstanceType, Power, State, Work
from ansible_collections.tandem.machines.plugins.module_utils._instance.model import (
    Current,
    Desired,
    Profile,
    Record,
    Surroundings,
    expand,
    parse_devices,
)
from ansible_collections.tandem.machines.plugins.module_utils._instance.plan import plan_instance
from ansible_collections.tandem.machines.plugins.module_utils._instance.record import (
    parse_record,
    render_devices,
    render_record,
)
from ansible_collections.tandem.machines.plugins.module_utils._spec.instance import INSTANCE

CASES = sorted((pathlib.Path(__file__).parent / "cases").glob("*.yml"))
FINGERPRINT = "a" * 64
ROOT = {"root": {"type": "disk", "path": "/", "pool": "default"}}
NIC = {"eth0": {"type": "nic", "network": "tdbr0"}}


def profiles_of(case: dict[str, Any]) -> dict[str, Profile]:
    given = {"default": {"devices": {**ROOT, **NIC}}, **case.get("profiles", {})}
    return {
        name: Profile(
            name,
            INSTANCE.parse(profile.get("config", {}), name),
            parse_devices(profile.get("devices", {}), {}, name, None),
        )
        for name, profile in given.items()
    }


def record_of(given: dict[str, Any] | None, profiles: dict[str, Profile]) -> Record | None:
    if given is None:
        return None
    kind = InstanceType(given.get("type", "container"))
    names = tuple(given.get("profiles", ["default"]))
    config = INSTANCE.parse(given.get("config", {}), "record", kind)
    devices = parse_devices(given.get("devices", {}), {}, "record", kind)
    expanded_config, expanded_devices = expand(names, given.get("expanded_profiles", profiles), config, devices)
    return Record(
        name="web1",
        uuid="12345678-0000-4000-8000-000000000000",
        type=kind,
        image=FINGERPRINT,
        image_name="debian/12",
        pool="default",
        profiles=names,
        config=config,
        devices=devices,
        expanded_config=INSTANCE.parse(given.get("expanded_config", INSTANCE.render(expanded_config)), "record"),
        expanded_devices=expanded_devices,
        work=Work(given["work"]) if given.get("work") else None,
        created_at="2026-01-01T00:00:00Z",
    )


def current_of(case: dict[str, Any], profiles: dict[str, Profile]) -> Current:
    given = case["current"] or {}
    record = record_of(given.get("record"), profiles)
    power = Power(given.get("power", "stopped"))
    started: dict[str, Any] | None = None
    in_force: dict[str, Any] = {}
    if record is not None and power is not Power.STOPPED:
        devices = render_devices(record.expanded_devices)
        started = {
            "config": INSTANCE.render(record.expanded_config),
            "devices": devices,
            **given.get("started_with", {}),
        }
        keys = ("limits.cpu", "limits.memory", "limits.processes") if record.is_container else ()
        in_force = {key: record.get(key) for key in keys} | INSTANCE.parse(given.get("in_force", {}), "in force")
    return Current(
        record=record,
        power=power,
        in_force=in_force,
        started_with=started,
        is_defined=given.get("is_defined", True),
        has_volume=given.get("has_volume", True),
    )


def desired_of(given: dict[str, Any]) -> Desired:
    options = dict(given)
    options["state"] = State(options.pop("state", "started"))
    if "type" in options:
        options["type"] = InstanceType(options["type"])
    if "profiles" in options:
        options["profiles"] = tuple(options["profiles"])
    options["config"] = INSTANCE.parse(options.get("config", {}), "instance web1", options.get("type"))
    return Desired(name="web1", **options)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: pathlib.Path) -> None:
    case = yaml.safe_load(path.read_text())
    profiles = profiles_of(case)
    current = current_of(case, profiles)
    desired = desired_of(case["desired"])
    around = Surroundings(
        profiles=profiles,
        fingerprint=case.get("fingerprint", FINGERPRINT),
        has_image=case.get("fingerprint", FINGERPRINT) is not None,
        image_types=frozenset(
            InstanceType(word) for word in case.get("image_types", [kind.value for kind in InstanceType])
        ),
        mounts_disks=case.get("mounts_disks", True),
        pools=frozenset(case.get("pools", ["default"])),
        bridges=frozenset(case.get("bridges", ["tdbr0"])),
    )
    if "error" in case:
        with pytest.raises(EngineError) as caught:
            plan_instance(desired, current, around)
        assert re.search(case["error"], str(caught.value)), str(caught.value)
        assert "\n" not in str(caught.value)
        return
    plan = plan_instance(desired, current, around)
    assert [change.path for change in plan.changes] == case["changes"]
    assert [type(step).__name__ for step in plan.steps] == case["steps"]
    assert list(plan.pending) == case.get("pending", [])
    assert bool(plan.changes) == bool(plan.steps)
    for found, expected in ((plan.warnings, "warnings"), (plan.obstacles, "obstacles")):
        assert len(found) == len(case.get(expected, [])), found
        assert all(any(text in line for line in found) for text in case.get(expected, [])), found


def test_records_survive_json() -> None:
    profiles = profiles_of({})
    given = {
        "config": {"limits.memory": "1GiB", "user.role": "web"},
        "devices": {"root": {**ROOT["root"], "size": "4GiB"}},
    }
    record = record_of(given, profiles)
    assert record is not None
    assert parse_record(render_record(record)) == record


def test_pools_of_all_disks_count() -> None:
    devices = {
        "a": {"type": "disk", "pool": "fast", "source": "a", "path": "/a"},
        "b": {"type": "disk", "pool": "default", "source": "b", "path": "/b"},
        "c": {"type": "disk", "source": "/srv", "path": "/c"},
    }
    record = record_of({"devices": devices}, profiles_of({}))
    assert record is not None
    assert record.pools() == ["default", "fast"]
