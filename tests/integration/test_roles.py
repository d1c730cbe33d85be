# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Roles host and site on this machine: they converge, predict what they do, and change nothing when run again."""

from __future__ import annotations

from typing import Any

from ansible_collections.tandem.machines.tests.integration.fixtures import HOST_VARIABLES, IMAGE, POOL
from ansible_collections.tandem.machines.tests.integration.runner import Ansible, Run

SECOND_NETWORK = "tdtest1"
LISTS = {
    "site_networks": [{"name": SECOND_NETWORK}],
    "site_profiles": [
        {
            "name": "small",
            "config": {"limits.memory": "256MiB"},
            "devices": {
                "root": {"type": "disk", "path": "/", "pool": POOL},
                "eth0": {"type": "nic", "network": SECOND_NETWORK},
            },
        }
    ],
    "site_instances": [{"name": "site1", "image": IMAGE, "profiles": ["small"], "wait_for": ["running"]}],
}


def run_role(ansible: Ansible, role: str, variables: dict[str, Any], *arguments: str) -> Run:
    play = {"hosts": "localhost", "gather_facts": False, "vars": variables, "roles": [f"tandem.machines.{role}"]}
    run = ansible.playbook([play], *arguments)
    assert run.status == 0, run.output
    return run


def changed_tasks(run: Run) -> list[str]:
    return [result.task for result in run.changed]


def predicted_and_done(ansible: Ansible, role: str, variables: dict[str, Any]) -> list[str]:
    """Names of the tasks that changed something; the check must have named the same."""
    check = changed_tasks(run_role(ansible, role, variables, "--check"))
    apply = changed_tasks(run_role(ansible, role, variables))
    assert check == apply
    return apply


def test_host_predicts_what_it_does_and_changes_nothing_else_on_a_prepared_host(ansible: Ansible) -> None:
    profile = {**HOST_VARIABLES["host_profile"], "description": "described"}  # type: ignore[dict-item]
    changed = predicted_and_done(ansible, "host", {**HOST_VARIABLES, "host_profile": profile})
    assert changed == ["The default profile exists"]
    assert ansible.task("profile", name=profile["name"], description="").changed


def test_site_makes_what_is_listed_and_removes_what_is_listed_as_absent(ansible: Ansible, debian_image: str) -> None:
    variables = {**HOST_VARIABLES, "site_root": str(ansible.root), **LISTS}
    absent = {name: [{"name": item["name"], "state": "absent"} for item in items] for name, items in LISTS.items()}
    try:
        assert len(predicted_and_done(ansible, "site", variables)) == len(LISTS)
        # Nor does role host, which site includes.
        assert changed_tasks(run_role(ansible, "site", variables)) == []
        assert ansible.task("instance_info", name=["site1"])["instances"][0]["status"] == "running"
    finally:
        removed = predicted_and_done(ansible, "site", {**variables, **absent})
    assert len(removed) == len(LISTS)


def test_site_refuses_an_unknown_option_before_anything_happens(ansible: Ansible) -> None:
    wrong = [{"name": "tdtest9", "sate": "absent"}]
    variables = {**HOST_VARIABLES, "site_root": str(ansible.root), "site_networks": wrong}
    play = {"hosts": "localhost", "gather_facts": False, "vars": variables, "roles": ["tandem.machines.site"]}
    run = ansible.playbook([play])
    assert run.status != 0
    assert "sate" in run.output
    assert not run.changed
