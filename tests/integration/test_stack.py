# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Many objects in one task on a real host: the plan tells the truth, failures are apart, pruning is careful."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.tandem.machines.tests.integration.fixtures import IMAGE
from ansible_collections.tandem.machines.tests.integration.module_process import ModuleProcess
from ansible_collections.tandem.machines.tests.integration.moments import fractions
from ansible_collections.tandem.machines.tests.integration.runner import Ansible, TaskResult

EVERYTHING = ["storage_pools", "networks", "images", "profiles", "instances"]
STACK = "test-shop"


def profile(name: str, network: str, pool: str = "default", **more: Any) -> dict[str, Any]:
    devices = {"root": {"type": "disk", "path": "/", "pool": pool}, "eth0": {"type": "nic", "network": network}}
    return {"name": name, "devices": devices, **more}


def container(name: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "image": IMAGE, "force_stop": True, "stop_timeout": 1, **more}


def shop() -> dict[str, Any]:
    """One of everything, each standing on the one before."""
    return {
        "storage_pools": [{"name": "test-plain", "driver": "dir"}],
        "networks": [{"name": "tdshop0", "config": {"ipv4.address": "10.231.7.1/24"}}],
        "profiles": [profile("test-web", "tdshop0", config={"limits.memory": "512MiB"})],
        "instances": [
            container("test-web1", profiles=["test-web"], wait_for=["ipv4"]),
            container("test-web2", profiles=["default", "test-web"], state="stopped"),
            container("test-vm", profiles=["test-web"], type="virtual-machine", state="present"),
        ],
    }


@pytest.fixture(scope="session")
def warm_host(prepared_host: Ansible, debian_image: str) -> None:
    """What the first stack of a host and the first virtual machine of an image leave for all later ones."""
    document = {
        "profiles": [{"name": "first"}],
        "instances": [container("first", type="virtual-machine", state="present")],
    }
    prepared_host.task("stack", name="first", **document)
    prepared_host.task("stack", name="first", prune=EVERYTHING)


@pytest.fixture
def stack(warm_host: None, ansible: Ansible) -> Iterator[Ansible]:
    """Whatever a test leaves of its stack is removed."""
    yield ansible
    for name in (STACK, f"{STACK}-2"):
        ansible.task("stack", name=name, prune=EVERYTHING)


def changed_names(result: TaskResult) -> list[str]:
    return [f"{entry['kind']} {entry['name']}" for entry in result["results"] if entry["changed"]]


def failed_names(result: TaskResult) -> list[str]:
    return [entry["name"] for entry in result["results"] if entry["failed"]]


def same_plan(one: TaskResult, other: TaskResult) -> bool:
    return one["plan"] == other["plan"] and one["results"] == other["results"]


def test_document_is_checked_applied_changed_and_pruned(stack: Ansible) -> None:
    def four(document: dict[str, Any]) -> TaskResult:
        task = {"tandem.machines.stack": {"name": STACK, "prune": EVERYTHING, **document}}
        runs = stack.four_runs(task)
        flags = (runs.check.changed, runs.apply.changed, runs.check_again.changed, runs.apply_again.changed)
        assert flags == (True, True, False, False), runs
        assert same_plan(runs.check, runs.apply)
        assert runs.check.result.get("diff") == runs.apply.result.get("diff")
        assert [line for line in runs.apply_again["plan"] if not line.startswith("! ")] == []
        return runs.apply

    assert four(shop())["plan"] == [
        "+ create storage_pool test-plain",
        "+ create network tdshop0",
        "+ create profile test-web",
        "+ create instance test-web1",
        "+ create instance test-web2",
        "+ create instance test-vm",
    ]
    changed = shop()
    # A profile reaches its instances in the same run; what it changes of a running one at once is no restart.
    changed["profiles"][0]["config"] = {"limits.memory": "640MiB", "security.nesting": True}
    del changed["instances"][1]
    assert four(changed)["plan"] == [
        "~ change profile test-web",
        "    config: limits.memory: 512MiB -> 640MiB",
        "    config: security.nesting: nothing -> true",
        "~ change instance test-web1",
        "    expanded_config: limits.memory: 512MiB -> 640MiB",
        "    expanded_config: security.nesting: nothing -> true",
        "! restart needed by instance test-web1: security.nesting",
        "~ change instance test-vm",
        "    expanded_config: limits.memory: 512MiB -> 640MiB",
        "- remove instance test-web2",
    ]
    assert four({})["plan"] == [
        "- remove instance test-vm",
        "- remove instance test-web1",
        "- remove network tdshop0",
        "- remove profile test-web",
        "- remove storage_pool test-plain",
    ]


def test_three_of_twenty_fail_and_are_repaired_alone(stack: Ansible) -> None:
    names = [f"test-many{number:02d}" for number in range(20)]
    broken = {"test-many03", "test-many11", "test-many19"}
    items = [container(name, profiles=["missing"] if name in broken else ["default"]) for name in names]
    failed = stack.failure("stack", name=STACK, instances=items)
    assert failed.message.startswith("3 of 20 objects failed: instance test-many03: profile missing does not exist")
    assert set(failed_names(failed)) == broken
    present = stack.task("instance_info", name=names)["instances"]
    running = [one["name"] for one in present if one["status"] == "running"]
    assert running == [name for name in names if name not in broken]
    repaired = stack.task("stack", name=STACK, instances=[container(name) for name in names])
    assert changed_names(repaired) == [f"instance {name}" for name in sorted(broken)]
    assert not stack.task("stack", name=STACK, instances=[container(name) for name in names]).changed


def test_prune_leaves_what_is_protected_shared_or_not_ours(stack: Ansible) -> None:
    kept = container("test-kept", state="present", config={"security.protection.delete": True})
    shared = container("test-shared", state="present")
    replaced = container("test-replaced", state="present")
    stack.task("stack", name=STACK, instances=[kept, shared, replaced])
    stack.task("stack", name=f"{STACK}-2", instances=[shared])
    stack.task("instance", name="test-replaced", state="absent")
    stack.task("instance", name="test-replaced", image=IMAGE, state="present")
    try:
        refused = stack.failure("stack", name=STACK, prune=["instances"])
        assert refused.message == (
            "1 of 3 objects failed: instance test-kept: security.protection.delete is set: set it to false to delete it"
        )
        assert sorted(refused["warnings"]) == [
            "instance test-replaced is left alone: it is not the one that stack test-shop made, which is gone",
            "instance test-shared is left alone: it belongs to stack test-shop-2, too",
        ]
        names = [item["name"] for item in (kept, shared, replaced)]
        assert len(stack.task("instance_info", name=names)["instances"]) == 3
    finally:
        stack.task("instance", name="test-kept", state="present", config={"security.protection.delete": False})
        stack.task("instance", name="test-replaced", state="absent")


def test_src_is_read_where_ansible_runs_and_check_mode_prints_the_plan(stack: Ansible) -> None:
    document = {"profiles": [profile("test-web", "tdtest0")]}
    (stack.directory / "shop.yml").write_text(yaml.safe_dump(document))
    task = {"tandem.machines.stack": {"src": "shop.yml", "name": STACK, "root": str(stack.root)}}
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [task]}]
    check = stack.playbook(play, "--check")
    assert check.status == 0 and "[localhost] + create profile test-web\n" in check.output, check.output
    assert [len(stack.playbook(play).changed) for _unused in range(2)] == [1, 0]
    (stack.directory / "shop.yml").write_text("instance: []")
    assert "unknown key 'instance'" in stack.failure("stack", src="shop.yml").message
    assert "missing.yml" in stack.failure("stack", src="missing.yml").message


WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"instances": [{"name": "test-a", "imge": "x"}]}, "unknown option 'imge'; did you mean image?"),
    ({"networks": [{"name": "tdx0", "config": {"ipv4.addres": "x"}}]}, "did you mean ipv4.address?"),
    ({"instances": [{"name": "test-a"}, {"name": "test-a"}]}, "instance test-a is listed twice"),
    ({"instances": [{"name": "../x"}]}, "instance name '../x' is not valid"),
    ({"prune": ["instances"]}, "give the stack a name"),
    ({"parallel": 0}, "parallel 0 is not a number of workers"),
    ({"name": "a b"}, "stack name 'a b' is not valid"),
    ({"instances": [container("test-a", config={"environment.X": "a\nb"})]}, "config option environment.X"),
)


def test_wrong_input_changes_nothing(stack: Ansible) -> None:
    good = {"profiles": [profile("test-good", "tdtest0")], "root": str(stack.root)}
    tasks = [{"tandem.machines.stack": {**good, **document}, "ignore_errors": True} for document, _unused in WRONG]
    run = stack.playbook([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}])
    assert run.status == 0 and "Traceback" not in run.output, run.output
    for result, (_unused, message) in zip(run.results, WRONG, strict=True):
        assert result.status == "ignored" and message in result.message and "\n" not in result.message
    assert "test-good" not in [found["name"] for found in stack.task("profile_info")["profiles"]]


def test_secret_of_an_item_is_not_shown(stack: Ansible) -> None:
    secret = "hunter2-and-more"
    item = {"name": "test-web", "config": {"cloud-init.user-data": secret}}
    run = stack.playbook(
        [{"hosts": "localhost", "gather_facts": False, "tasks": [
            {"tandem.machines.stack": {"root": str(stack.root), "name": STACK, "profiles": [item]}},
        ]}],
        "-vvv", "--diff",
    )  # fmt: skip
    assert run.status == 0, run.output
    assert secret not in str(run.results)


@pytest.mark.moments
def test_killed_stack_is_finished_by_the_same_task(stack: Ansible, tmp_path: Path) -> None:
    module = ModuleProcess("stack", stack.root, tmp_path)
    document = {"name": STACK, "prune": EVERYTHING, **shop()}
    nothing = {"name": STACK, "prune": EVERYTHING}
    seconds = module.finish(document).seconds
    module.finish(nothing)
    hits = 0
    moments = fractions(3)
    for moment in moments:
        hits += module.kill_after(document, seconds * moment)
        assert not module.finish(document).result.get("failed")
        assert not module.finish(document).result["changed"]
        hits += module.kill_after(nothing, moment)
        module.finish(nothing)
        assert not module.finish(nothing).result["changed"]
        assert not (stack.root / "stacks" / f"{STACK}.json").exists()
    assert hits >= len(moments)


def test_network_of_a_running_guest_stays_until_it_restarts(stack: Ansible) -> None:
    def document(name: str, **more: Any) -> dict[str, Any]:
        networks = [{"name": name, "config": {"ipv4.address": f"10.231.{name[-1]}.1/24"}}]
        guest = container("test-moved", devices={"eth0": {"type": "nic", "network": name}}, **more)
        return {"name": STACK, "prune": ["networks"], "networks": networks, "instances": [guest]}

    stack.task("stack", **document("tdmove1"))
    refused = stack.failure("stack", **document("tdmove2"))
    assert "network tdmove1 is in use by instance test-moved" in refused.message
    assert Path("/sys/class/net/tdmove1").exists()
    runs = stack.four_runs({"tandem.machines.stack": document("tdmove2", when_restart_needed="restart")})
    assert (runs.check.changed, runs.apply.changed, runs.apply_again.changed) == (True, True, False)
    assert runs.check["plan"] == runs.apply["plan"] and runs.apply["plan"][-1] == "- remove network tdmove1"


def tiny_image(path: Path, number: int) -> dict[str, Any]:
    """A root file system that is none but unpacks as one."""
    path.mkdir(exist_ok=True)
    (path / "os-release").write_text(f"NAME=tiny{number}\n")
    archive = path / f"tiny{number}.tar"
    with tarfile.open(archive, "w") as tar:
        for directory in ("etc", "bin", "proc", "sys", "dev", "sbin"):
            entry = tarfile.TarInfo(directory)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        tar.add(path / "os-release", "etc/os-release")
    return {"name": f"test-tiny{number}", "source": {"type": "file", "path": str(archive)}}


def large(directory: Path) -> dict[str, Any]:
    """4 networks, 2 pools, 5 images (one of them built before), 60 containers, 2 virtual machines."""
    networks = [
        {"name": f"tdlarge{number}", "config": {"ipv4.address": f"10.232.{number}.1/24"}} for number in range(4)
    ]
    profiles = [
        profile(f"test-large{number}", f"tdlarge{number}", "default" if number % 2 else "test-second")
        for number in range(4)
    ]
    running = [container(f"test-run{number:02d}", profiles=[f"test-large{number % 4}"]) for number in range(20)]
    defined = [
        container(
            f"test-tiny{number:02d}",
            image=f"test-tiny{number % 4}",
            profiles=[f"test-large{number % 4}"],
            state="stopped",
        )
        for number in range(40)
    ]
    machines = [
        container(f"test-vm{number}", type="virtual-machine", profiles=["test-large1"], memory="256MiB")
        for number in range(2)
    ]
    return {
        "storage_pools": [{"name": "test-second", "driver": "btrfs", "config": {"size": "5GiB"}}],
        "networks": networks,
        "images": [tiny_image(directory / "tiny", number) for number in range(4)],
        "profiles": profiles,
        "instances": [*running, *defined, *machines],
    }


@pytest.mark.torture
def test_large_document_is_applied_changed_in_ten_places_and_pruned_to_half(stack: Ansible, tmp_path: Path) -> None:
    def four(document: dict[str, Any]) -> TaskResult:
        runs = stack.four_runs({"tandem.machines.stack": {"name": STACK, "prune": EVERYTHING, **document}})
        flags = (runs.check.changed, runs.apply.changed, runs.check_again.changed, runs.apply_again.changed)
        assert flags == (True, True, False, False)
        assert same_plan(runs.check, runs.apply)
        return runs.apply

    document = large(tmp_path)
    applied = four(document)
    assert len(changed_names(applied)) == 1 + 4 + 4 + 4 + 62
    instances = document["instances"]
    for number in range(4):
        instances[number]["memory"] = "300MiB"
    instances[4]["state"] = "stopped"
    instances[5]["config"] = {"user.role": "web"}
    instances[20]["description"] = "changed"
    document["networks"][2]["config"]["dns.domain"] = "large"
    document["images"][0]["aliases"] = ["test-other"]
    document["profiles"][3]["description"] = "changed"
    assert len(changed_names(four(document))) == 10
    document["instances"] = [item for item in instances if int(item["name"][-1]) % 2]
    document["profiles"] = [item for item in document["profiles"] if item["name"][-1] in "13"]
    document["networks"] = [item for item in document["networks"] if item["name"][-1] in "13"]
    document["images"] = [item for item in document["images"] if item["name"][-1] in "13"]
    del document["storage_pools"]
    pruned = four(document)
    assert len(changed_names(pruned)) == 31 + 2 + 2 + 2 + 1
    assert all(line.startswith("- remove ") for line in pruned["plan"])
    assert os.path.exists(f"/sys/class/net/{document['networks'][0]['name']}")
