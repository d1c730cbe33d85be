# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What runs on a real host is described by a document that changes nothing there, and makes anew what is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tandem.machines.tests.integration import test_stack
from ansible_collections.tandem.machines.tests.integration.fixtures import IMAGE, NETWORK
from ansible_collections.tandem.machines.tests.integration.runner import Ansible
from ansible_collections.tandem.machines.tests.integration.test_stack import EVERYTHING, tiny_image

warm_host = test_stack.warm_host

STACK = "test-info"
POOL = "test-info"
SECRET = "hunter2-and-more"
MODULES = {plural: plural.removesuffix("s") for plural in EVERYTHING}


def shop(directory: Path) -> dict[str, Any]:
    """One of everything, with as many kinds of options as one host can have; containers in each power."""
    root = {"type": "disk", "path": "/", "pool": POOL}
    (directory / "shared").mkdir(exist_ok=True)
    shared = {"type": "disk", "source": str(directory / "shared"), "path": "/srv/with blank", "readonly": True}
    config = {"limits.memory": "512MiB", "boot.autostart": False, "cloud-init.user-data": SECRET}
    own = {"limits.cpu": 1, "user.role": "web", "environment.LANG": "C.UTF-8", "security.nesting": "yes"}
    return {
        "storage_pools": [
            {"name": POOL, "driver": "btrfs", "description": "for tests", "config": {"size": "3072MiB", "user.a": 1}},
        ],
        "networks": [
            {"name": "tdinfo0", "config": {"dns.search": "a.example,b.example", "ipv4.dhcp.expiry": "3600s"}},
            {"name": "tdinfo1", "type": "none", "description": "without addresses"},
        ],
        "images": [{**tiny_image(directory, 7), "aliases": ["test-tiny-other"]}],
        "profiles": [
            {
                "name": "test-info",
                "description": "for tests",
                "config": config,
                "devices": {"root": root, "eth0": {"type": "nic", "network": "tdinfo0"}},
            },
            {"name": "test-empty"},
        ],
        "instances": [
            {
                "name": "test-info-on",
                "image": IMAGE,
                "profiles": ["test-empty", "test-info"],
                "description": "runs",
                "config": own,
                "devices": {
                    "eth1": {"type": "nic", "nictype": "bridged", "parent": "tdinfo1", "hwaddr": "00:16:3E:93:00:77"},
                    "shared": shared,
                },
            },
            {"name": "test-info-frozen", "image": IMAGE, "profiles": ["test-info"], "state": "frozen"},
            {
                "name": "test-info-off",
                "image": "test-tiny-other",
                "profiles": [],
                "devices": {"root": root},
                "state": "stopped",
            },
            {
                "name": "test-info-vm",
                "type": "virtual-machine",
                "image": IMAGE,
                "profiles": ["test-info"],
                "devices": {"root": {"size": "8GiB"}, "eth0": {"type": "none"}},
                "state": "present",
            },
        ],
    }


@pytest.fixture
def described(warm_host: None, ansible: Ansible, tmp_path: Path) -> Iterator[Ansible]:
    """A host with the objects of shop() beside its own."""
    try:
        ansible.task("stack", name=STACK, **shop(tmp_path))
        yield ansible
    finally:
        ansible.task("stack", name=STACK, prune=EVERYTHING)


def named(document: dict[str, Any]) -> dict[str, list[str]]:
    return {plural: [item["name"] for item in document[plural]] for plural in EVERYTHING}


def powers(ansible: Ansible) -> dict[str, tuple[str, int]]:
    return {one["name"]: (one["status"], one["pid"]) for one in ansible.task("instance_info")["instances"]}


def test_document_of_a_host_changes_nothing_on_it(described: Ansible) -> None:
    before = powers(described)
    found = described.task("stack_info")
    document = found["stack"]
    assert named(document) == {
        "storage_pools": ["default", POOL],
        "networks": ["tdinfo0", "tdinfo1", NETWORK],
        "images": [IMAGE, "test-tiny-other"],
        "profiles": ["default", "test-empty", "test-info"],
        "instances": ["test-info-frozen", "test-info-off", "test-info-on", "test-info-vm"],
    }
    assert [item["state"] for item in document["instances"]] == ["frozen", "stopped", "started", "stopped"]
    assert found["warnings"] == [
        "profile test-info has config option cloud-init.user-data, which is left out since it is secret"
    ]
    assert SECRET not in str(found)
    tasks = [{f"tandem.machines.{MODULES[plural]}": item} for plural in EVERYTHING for item in document[plural]]
    for result in described.tasks(*tasks):
        assert not result.changed and not result["pending"], result
    runs = described.four_runs({"tandem.machines.stack": document})
    assert not any(run.changed for run in (runs.check, runs.apply, runs.check_again, runs.apply_again)), runs
    assert powers(described) == before


def test_document_makes_anew_what_is_gone(described: Ansible) -> None:
    names = ["test-info-frozen", "test-info-off", "test-info-on", "test-info-vm"]
    document = described.task("stack_info", instances=names)["stack"]
    assert named(document) == {
        "storage_pools": [POOL],
        "networks": ["tdinfo0", "tdinfo1"],
        "images": [IMAGE, "test-tiny-other"],
        "profiles": ["test-empty", "test-info"],
        "instances": names,
    }
    described.task("stack", name=STACK, prune=EVERYTHING)
    # The image of all tests is none of this stack: it must not be pruned in the end.
    images = [item for item in document["images"] if item["name"] != IMAGE]
    assert described.task("stack", name=STACK, **{**document, "images": images}).changed
    found = described.task("stack_info", instances=names)
    assert found["stack"] == document
    # The secret is gone with the profile that had it.
    assert "warnings" not in found.result


def test_one_instance_brings_what_it_needs(described: Ansible) -> None:
    assert named(described.task("stack_info", instances=["test-info-off"])["stack"]) == {
        "storage_pools": [POOL],
        "networks": [],
        "images": ["test-tiny-other"],
        "profiles": [],
        "instances": ["test-info-off"],
    }
    refused = described.failure("stack_info", instances=["test-info-off", "test-nobody"])
    assert "test-nobody" in refused.message


def test_image_that_lost_its_name_is_still_that_of_its_instance(described: Ansible) -> None:
    def described_image() -> str | None:
        item = described.task("stack_info", instances=["test-info-off"])["stack"]["instances"][0]
        assert not described.task("instance", **item).changed
        return item.get("image")

    assert described_image() == "test-tiny-other"
    described.task("image", name="test-tiny7", aliases=[])
    assert described_image() == "test-tiny7"
    described.task("image", name="test-tiny7", state="absent")
    assert described_image() is None


def test_document_goes_through_a_file(described: Ansible, tmp_path: Path) -> None:
    tasks = [
        {"tandem.machines.stack_info": {"root": str(described.root)}, "register": "found"},
        {
            "ansible.builtin.copy": {
                "content": "{{ found.stack | to_nice_yaml(sort_keys=false) }}",
                "dest": str(tmp_path / "written.yml"),
                "mode": "0600",
            }
        },
        {"name": "applied", "tandem.machines.stack": {"src": "written.yml", "root": str(described.root)}},
    ]
    run = described.playbook([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}])
    assert run.status == 0, run.output
    assert not run.named("applied").changed
    written = (tmp_path / "written.yml").read_text()
    assert yaml.safe_load(written) == run.results[0]["stack"]
    assert "instances:\n-   name: test-info-frozen\n" in written
