# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Roles on this machine: they converge, predict what they do, and change nothing when run again."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.tandem.machines.tests.integration.fixtures import HOST_VARIABLES, IMAGE, POOL
from ansible_collections.tandem.machines.tests.integration.runner import Ansible, Run

SECOND_NETWORK = "tdtest1"
Variables = Mapping[str, Any]


def small_profile(pool: str) -> dict[str, Any]:
    devices = {
        "root": {"type": "disk", "path": "/", "pool": pool},
        "eth0": {"type": "nic", "network": SECOND_NETWORK},
    }
    return {"name": "small", "config": {"limits.memory": "256MiB"}, "devices": devices}


CONTAINER = {"image": IMAGE, "profiles": ["small"], "wait_for": ["running"]}
LISTS = {
    "site_networks": [{"name": SECOND_NETWORK}],
    "site_profiles": [small_profile(POOL)],
    "site_instances": [{**CONTAINER, "name": "site1"}],
}


def run_roles(ansible: Ansible, roles: Sequence[str], variables: Variables, *arguments: str) -> Run:
    names = [f"tandem.machines.{role}" for role in roles]
    play = {"hosts": "localhost", "gather_facts": False, "vars": variables, "roles": names}
    run = ansible.playbook([play], *arguments)
    assert run.status == 0, run.output
    return run


def changed_tasks(run: Run) -> list[str]:
    return [result.task for result in run.changed]


def predicted_and_done(ansible: Ansible, roles: Sequence[str], variables: Variables) -> list[str]:
    """Names of the tasks that changed something; the check must have named the same, and in a stack the same plan."""
    check = run_roles(ansible, roles, variables, "--check")
    apply = run_roles(ansible, roles, variables)
    assert plans(check) == plans(apply)
    return changed_tasks(apply)


def plans(run: Run) -> list[tuple[str, list[str]]]:
    return [(result.task, result.result.get("plan", [])) for result in run.changed]


def absent(lists: Variables) -> dict[str, Any]:
    return {name: [{"name": item["name"], "state": "absent"} for item in items] for name, items in lists.items()}


def test_host_predicts_what_it_does_and_changes_nothing_else_on_a_prepared_host(ansible: Ansible) -> None:
    profile = {**HOST_VARIABLES["host_profile"], "description": "described"}  # type: ignore[dict-item]
    changed = predicted_and_done(ansible, ["host"], {**HOST_VARIABLES, "host_profile": profile})
    assert changed == ["The default profile exists"]
    assert ansible.task("profile", name=profile["name"], description="").changed


def test_site_makes_what_is_listed_and_removes_what_is_listed_as_absent(ansible: Ansible, debian_image: str) -> None:
    variables = {**HOST_VARIABLES, "site_root": str(ansible.root), **LISTS}
    try:
        assert predicted_and_done(ansible, ["site"], variables) == ["Everything is as listed"]
        # Nor does role host, which site includes.
        assert changed_tasks(run_roles(ansible, ["site"], variables)) == []
        assert ansible.task("instance_info", name=["site1"])["instances"][0]["status"] == "running"
    finally:
        removed = predicted_and_done(ansible, ["site"], {**variables, **absent(LISTS)})
    assert removed == ["Everything is as listed"]


def test_site_predicts_what_it_can_before_the_host_is_prepared(ansible: Ansible) -> None:
    unprepared = {**HOST_VARIABLES, "host_extra_packages": ["tandem-test-no-such-package"]}
    run = run_roles(ansible, ["site"], {**unprepared, "site_root": str(ansible.root), **LISTS}, "--check")
    assert changed_tasks(run) == ["In check mode the missing packages are named", "Everything is as listed"]
    assert len(run.changed[-1]["results"]) == len(LISTS)


def test_each_role_makes_what_is_listed_and_removes_what_is_listed_as_absent(
    ansible: Ansible, debian_image: str, tmp_path: Path
) -> None:
    disk = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    lists = {
        "storage_pools": [{"name": "plain", "driver": "dir"}],
        "networks_list": [{"name": SECOND_NETWORK}],
        "images_list": [{"name": "empty-disk", "source": {"type": "file", "path": str(disk)}}],
        "instances_profiles": [small_profile("plain")],
        "instances_list": [{**CONTAINER, "name": "role1"}],
    }
    roles = ("storage", "networks", "images", "instances")
    outcomes = [
        "Storage pools are as listed",
        "Networks are as listed",
        "Images are as listed",
        "Profiles and instances are as listed",
    ]
    roots = {f"{role}_root": str(ansible.root) for role in roles}
    try:
        assert predicted_and_done(ansible, roles, {**roots, **lists}) == outcomes
        assert changed_tasks(run_roles(ansible, roles, {**roots, **lists})) == []
        assert ansible.task("instance_info", name=["role1"])["instances"][0]["status"] == "running"
    finally:
        removed = predicted_and_done(ansible, roles[::-1], {**roots, **absent(lists)})
    assert removed == outcomes[::-1]


def test_site_refuses_an_unknown_option_before_anything_happens(ansible: Ansible) -> None:
    wrong = [{"name": "tdtest9", "sate": "absent"}]
    variables = {**HOST_VARIABLES, "site_root": str(ansible.root), "site_networks": wrong}
    play = {"hosts": "localhost", "gather_facts": False, "vars": variables, "roles": ["tandem.machines.site"]}
    run = ansible.playbook([play])
    assert run.status != 0
    assert "sate" in run.output
    assert not run.changed
