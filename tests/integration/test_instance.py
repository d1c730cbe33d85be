# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Real containers and real virtual machines: every state and option checked, applied, checked, applied."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import EngineError
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._image.store import open_store
from ansible_collections.tandem.machines.plugins.module_utils._instance.execute import Command, execute
from ansible_collections.tandem.machines.tests.integration import fixtures
from ansible_collections.tandem.machines.tests.integration.runner import Ansible

TYPES = ("container", "virtual-machine")
NAMES = {"container": "test-c", "virtual-machine": "test-v"}
# A guest that is emulated needs this long to boot on a busy machine.
BOOT_SECONDS = 300


def options(kind: str, **more: Any) -> dict[str, Any]:
    return {"name": NAMES[kind], "type": kind, "image": "debian/12", **more}


@pytest.fixture(params=TYPES)
def kind(request: pytest.FixtureRequest, ansible: Ansible, debian_image: str) -> Iterator[str]:
    """Each type of instance; whatever a test leaves of it is removed."""
    yield request.param
    ansible.task("instance", name=NAMES[request.param], state="absent", force_stop=True)


@pytest.fixture
def container(ansible: Ansible, debian_image: str) -> Iterator[str]:
    yield NAMES["container"]
    ansible.task("instance", name=NAMES["container"], state="absent", force_stop=True)


def cgroup_value(name: str, item: str) -> str:
    """A control file of a container's group, whichever hierarchy has it."""
    pattern = f"tandem.{name}.*/container/{item}"
    controller = item.partition(".")[0]
    top = Path("/sys/fs/cgroup")
    found = [*top.glob(pattern), *(top / controller).glob(pattern)]
    assert len(found) == 1, found
    return found[0].read_text().strip()


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended may wait for init to reap it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_every_state_is_checked_then_applied_then_nothing(ansible: Ansible, kind: str) -> None:
    def four(**more: Any) -> Any:
        return ansible.check_apply_check_apply({"tandem.machines.instance": {"name": NAMES[kind], **more}})

    created = four(type=kind, image="debian/12", state="present", config={"user.role": "web"})
    assert created.apply["instance"]["status"] == "stopped"
    assert created.apply["previous_state"] == "absent"
    assert created.check["instance"]["config"] == created.apply["instance"]["config"] == {"user.role": "web"}
    started = four(state="started")
    assert started.apply["instance"]["status"] == "running"
    pid = started.apply["instance"]["pid"]
    assert is_alive(pid)
    assert four(state="frozen").apply["instance"]["status"] == "frozen"
    thawed = four(state="started")
    assert thawed.apply["previous_state"] == "frozen"
    assert thawed.apply["instance"]["pid"] == pid
    ansible.task("instance", name=NAMES[kind], wait_for=["agent"], wait_timeout=BOOT_SECONDS)
    stopped = four(state="stopped", stop_timeout=120)
    assert stopped.apply["instance"]["status"] == "stopped"
    assert not is_alive(pid)
    assert four(state="absent").apply["instance"] == {}
    assert not (ansible.root / "instances" / NAMES[kind]).exists()


def test_creation_starts_and_restart_acts_each_time(ansible: Ansible, kind: str) -> None:
    task = {"tandem.machines.instance": options(kind)}
    created = ansible.check_apply_check_apply(task)
    first = created.apply["instance"]["pid"]
    ansible.task("instance", name=NAMES[kind], wait_for=["agent"], wait_timeout=BOOT_SECONDS)
    restarted = [ansible.task("instance", name=NAMES[kind], state="restarted", stop_timeout=120)]
    assert restarted[0].changed
    assert restarted[0]["instance"]["pid"] != first
    assert ansible.task("instance", **options(kind, state="frozen")).changed
    removed = ansible.check_apply_check_apply(
        {"tandem.machines.instance": {"name": NAMES[kind], "state": "absent", "force_stop": True}}
    )
    assert removed.apply["previous_state"] == "frozen"


def test_config_devices_profiles_merge_replace_and_remove(ansible: Ansible, kind: str) -> None:
    def four(**more: Any) -> Any:
        return ansible.check_apply_check_apply({"tandem.machines.instance": {"name": NAMES[kind], **more}})

    ansible.task("instance", **options(kind, state="present", config={"user.a": "1", "limits.memory": "512MiB"}))
    merged = four(state="present", config={"user.b": 2})
    assert merged.apply["instance"]["config"] == {"limits.memory": "512MiB", "user.a": "1", "user.b": "2"}
    assert merged.apply["diff"]["after"] == {"config": {"user.b": "2"}}
    removed = four(state="present", config={"user.a": None})
    assert removed.apply["diff"]["before"] == {"config": {"user.a": "1"}}
    replaced = four(state="present", config={"user.c": True}, config_mode="replace")
    assert replaced.apply["instance"]["config"] == {"user.c": "true"}
    device = four(state="present", devices={"eth0": {"hwaddr": "00:16:3e:00:aa:bb"}})
    assert device.apply["instance"]["devices"]["eth0"]["network"] == fixtures.NETWORK
    ansible.task("profile", name="test-small", config={"limits.memory": "256MiB"})
    try:
        listed = four(state="present", profiles=["default", "test-small"])
        assert listed.apply["instance"]["expanded_config"]["limits.memory"] == "256MiB"
        in_use = ansible.failure("profile", name="test-small", state="absent")
        assert in_use.message == f"profile test-small is used by instance {NAMES[kind]}: remove it there first"
        ansible.task("profile", name="test-small", config={"limits.memory": "300MiB"})
        changed = four(state="present")
        assert changed.apply["diff"]["after"] == {"expanded_config": {"limits.memory": "300MiB"}}
        four(state="present", profiles=["default"])
    finally:
        ansible.task("instance", name=NAMES[kind], state="absent")
        ansible.task("profile", name="test-small", state="absent")


def test_limits_of_a_running_container_change_at_once(ansible: Ansible, container: str) -> None:
    ansible.task("instance", **options("container", memory="512MiB", cpu=1))
    memory = "memory.max" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "memory.limit_in_bytes"
    assert cgroup_value(container, memory) == str(512 * 1024**2)
    assert len(cgroup_value(container, "cpuset.cpus")) == 1
    pid = ansible.task("instance", name=container)["instance"]["pid"]
    for change in ({"memory": "768MiB"}, {"config": {"limits.cpu": "0-1"}}, {"config": {"limits.processes": 500}}):
        four = ansible.check_apply_check_apply({"tandem.machines.instance": {"name": container, **change}})
        assert not four.apply["pending"]
    assert cgroup_value(container, memory) == str(768 * 1024**2)
    assert cgroup_value(container, "cpuset.cpus") == "0-1"
    assert cgroup_value(container, "pids.max") == "500"
    removed = ansible.check_apply_check_apply(
        {"tandem.machines.instance": {"name": container, "config": {"limits.memory": None}}}
    )
    assert removed.apply["instance"]["pid"] == pid
    assert cgroup_value(container, memory) not in (str(768 * 1024**2), str(512 * 1024**2))


def test_drift_is_seen_and_mended(ansible: Ansible, container: str) -> None:
    ansible.task("instance", **options("container", memory="512MiB"))
    item = "memory.max" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "memory.limit_in_bytes"
    [path] = [*Path("/sys/fs/cgroup").glob(f"tandem.{container}.*/container/{item}")] or [
        *Path("/sys/fs/cgroup/memory").glob(f"tandem.{container}.*/container/{item}")
    ]
    path.write_text(str(600 * 1024**2))
    four = ansible.check_apply_check_apply({"tandem.machines.instance": {"name": container}})
    assert four.apply["diff"]["before"] == {"in force": {"limits.memory": "600MiB"}}
    assert path.read_text().strip() == str(512 * 1024**2)
    config = ansible.root / "instances" / container / "config"
    config.write_text(config.read_text() + "lxc.environment = EVIL=1\n")
    mended = ansible.check_apply_check_apply({"tandem.machines.instance": {"name": container}})
    assert mended.apply["diff"]["after"] == {"native configuration": "current"}
    assert "EVIL" not in config.read_text()


def test_what_needs_a_restart_is_pending_and_when_asked_done(ansible: Ansible, kind: str) -> None:
    change = {"config": {"security.nesting": True}} if kind == "container" else {"memory": "768MiB"}
    key = "security.nesting" if kind == "container" else "limits.memory"
    first = ansible.task("instance", **options(kind, wait_for=["agent"], wait_timeout=BOOT_SECONDS))
    refused = ansible.failure("instance", name=NAMES[kind], when_restart_needed="fail", **change)
    assert key in refused.message
    reported = ansible.check_apply_check_apply({"tandem.machines.instance": {"name": NAMES[kind], **change}})
    for result in (reported.check, reported.apply, reported.apply_again):
        assert result["pending"] == [key]
        assert result["restart_required"] is True
    restarted = ansible.check_apply_check_apply(
        {"tandem.machines.instance": {"name": NAMES[kind], "when_restart_needed": "restart", "stop_timeout": 120}}
    )
    assert restarted.apply["pending"] == []
    assert restarted.apply["instance"]["pid"] != first["instance"]["pid"]


def test_two_runs_at_once(ansible: Ansible, kind: str, tmp_path: Path) -> None:
    """One does the work, the other waits and finds nothing to do."""
    task = {"name": "both", "tandem.machines.instance": options(kind), "delegate_to": "localhost"}
    inventory = {"all": {"hosts": {name: {"ansible_connection": "local"} for name in ("first", "second")}}}
    results = ansible.tasks(task, inventory=inventory, hosts="all")
    assert sorted(result.changed for result in results) == [False, True]
    assert results[0]["instance"]["pid"] == results[1]["instance"]["pid"]


@pytest.fixture
def host_directory() -> Iterator[Path]:
    """A directory that only root can reach on the host."""
    top = Path(mkdtemp(prefix="shared-with-guests-", dir="/var/tmp"))
    (top / "my data").mkdir()
    yield top / "my data"
    shutil.rmtree(top)


def test_disks_of_a_container(ansible: Ansible, container: str, host_directory: Path) -> None:
    source = host_directory
    (source / "hello").write_text("from the host")
    devices = {
        "data": {"type": "disk", "source": str(source), "path": "/srv/my data", "readonly": True},
        "root": {"size": "3GiB"},
    }
    ansible.check_apply_check_apply({"tandem.machines.instance": options("container", devices=devices)})
    read = ansible.task("instance_exec", name=container, argv=["cat", "/srv/my data/hello"])
    assert read["stdout"] == "from the host"
    denied = ansible.failure("instance_exec", name=container, argv=["touch", "/srv/my data/x"])
    assert denied["rc"] != 0
    info = ansible.task("instance_info", name=[container])["instances"][0]
    assert info["disk"]["total_bytes"] == 3 * 1024**3
    grown = ansible.check_apply_check_apply(
        {"tandem.machines.instance": {"name": container, "devices": {"root": {"size": "4GiB"}}}}
    )
    assert grown.apply["pending"] == []
    assert ansible.task("instance_info", name=[container])["instances"][0]["disk"]["total_bytes"] == 4 * 1024**3


@pytest.fixture(scope="session")
def machine_image(prepared_host: Ansible, debian_image: str) -> str:
    """The image with its disk, which stays with it; only the first test would seem to leave that behind."""
    store = open_store(Paths(prepared_host.root))
    store.ensure_disk(store.require(debian_image).fingerprint)
    return debian_image


@pytest.fixture
def machine(ansible: Ansible, machine_image: str) -> Iterator[str]:
    yield NAMES["virtual-machine"]
    ansible.task("instance", name=NAMES["virtual-machine"], state="absent", force_stop=True)


def test_disks_of_a_virtual_machine(ansible: Ansible, machine: str, host_directory: Path) -> None:
    """One machine: its disks are there after its boot and after a reboot from inside."""

    def sh(text: str, *arguments: str) -> str:
        result = ansible.task("instance_exec", name=machine, argv=["sh", "-ec", text, "sh", *arguments])
        return str(result["stdout"])

    (host_directory / "hello").write_text("from the host")
    odd = "/srv/my \"d\\ä\", 'x' $(touch /x)#"
    data = {"type": "disk", "source": str(host_directory), "path": "/data"}
    fixed = {**data, "path": odd, "readonly": True}
    created = ansible.check_apply_check_apply(
        {"tandem.machines.instance": options("virtual-machine", devices={"data": data, "fixed_1": fixed})}
    )
    assert not created.apply["pending"] and "warnings" not in created.apply.result
    ansible.task("instance", name=machine, wait_for=["agent"], wait_timeout=BOOT_SECONDS)
    look = 'cat /data/hello "$1/hello"; date > /data/written; ! touch "$1/x" 2> /dev/null; test ! -e /x'
    assert sh(look, odd) == "from the host" * 2
    assert (host_directory / "written").read_text() and not (host_directory / "x").exists()
    bad = ansible.failure("instance", name=machine, devices={"more": {**data, "source": f"{host_directory}/hello"}})
    assert bad.message.endswith(f"device more: {host_directory}/hello is not a directory of this host")
    shown = ansible.task("instance", name=machine)
    assert set(shown["instance"]["devices"]) == {"data", "fixed_1"} and not shown.changed and not shown["pending"]
    for change in ({"more": {**data, "path": "/more"}, "data": None}, {"more": None, "data": data}):
        four = ansible.check_apply_check_apply({"tandem.machines.instance": {"name": machine, "devices": change}})
        pending = ["devices.data", "devices.more"] if change["more"] else []
        assert four.check["pending"] == four.apply["pending"] == four.apply_again["pending"] == pending
    booted = sh("cat /proc/sys/kernel/random/boot_id; rm /data/written; systemctl reboot").strip()
    await_boot(machine, ansible.root, booted)
    assert sh(look, odd) == "from the host" * 2
    assert (host_directory / "written").exists()
    assert ansible.task("instance", name=machine)["instance"]["pid"] == shown["instance"]["pid"]


def await_boot(name: str, root: Path, before: str) -> None:
    """Block until the guest's boot id is another one and its agent answers."""
    deadline = time.monotonic() + BOOT_SECONDS
    while time.monotonic() < deadline:
        with suppress(EngineError):
            command = Command(("cat", "/proc/sys/kernel/random/boot_id"), timeout_seconds=20)
            outcome = execute(Paths(root), name, command, agent_timeout_seconds=BOOT_SECONDS)
            if outcome.status == 0 and outcome.stdout.decode().strip() != before:
                return
        time.sleep(1)
    pytest.fail(f"{name} did not boot again")


def test_environment_reaches_commands(ansible: Ansible, container: str) -> None:
    ansible.task("instance", **options("container", config={"environment.ROLE": "web server"}))
    result = ansible.task("instance_exec", name=container, argv=["printenv", "ROLE"])
    assert result["stdout"] == "web server"


def test_privileged_and_unprivileged_root(ansible: Ansible, container: str) -> None:
    def owner_of_init() -> int:
        pid = ansible.task("instance", name=container)["instance"]["pid"]
        return Path(f"/proc/{pid}").stat().st_uid

    ansible.task("instance", **options("container"))
    assert owner_of_init() >= 65536
    ansible.task("instance", name=container, privileged=True, when_restart_needed="restart")
    assert owner_of_init() == 0


def test_a_reboot_from_inside_keeps_owners_and_disks(ansible: Ansible, container: str, host_directory: Path) -> None:
    disk = {"type": "disk", "source": str(host_directory), "path": "/shared", "shift": True}
    pid = ansible.task("instance", **options("container", devices={"shared": disk}, wait_for=["agent"]))["instance"][
        "pid"
    ]
    init = os.pidfd_open(pid)
    ansible.task("instance_exec", name=container, argv=["systemctl", "reboot"])
    assert select.select([init], [], [], 60)[0]
    os.close(init)
    after = ansible.task("instance", name=container, wait_for=["agent"])
    assert after["instance"]["pid"] != pid and not after.changed
    owners = "stat -c %u /root /shared; touch /root/x /shared/x; stat -c %u /root/x /shared/x"
    assert ansible.task("instance_exec", name=container, argv=["sh", "-ec", owners])["stdout"].split() == ["0"] * 4
    assert (host_directory / "x").stat().st_uid == 0


def test_wait_for_says_what_it_saw(ansible: Ansible, container: str) -> None:
    ansible.task("instance", **options("container", wait_for=["running", "ipv4"], wait_timeout=60))
    shown = ansible.task("instance", name=container)["instance"]["addresses"]
    assert any(address["family"] == "inet" and address["scope"] == "global" for address in shown)
    late = ansible.failure("instance", name=container, wait_for=["port:81"], wait_timeout=1.5)
    assert "timed out after 1.5 s waiting for port:81 of instance test-c; last seen: addresses: " in late.message
    assert "port 81 closed" in late.message


def test_info_is_alike_for_both_types(ansible: Ansible, kind: str) -> None:
    ansible.task("instance", **options(kind, memory="512MiB", wait_for=["agent", "ipv4"], wait_timeout=BOOT_SECONDS))
    info = ansible.task("instance_info")["instances"]
    [found] = [entry for entry in info if entry["name"] == NAMES[kind]]
    assert found["status"] == "running"
    assert found["memory"]["limit_bytes"] == 512 * 1024**2
    assert found["memory"]["used_bytes"] > 0
    assert found["disk"]["used_bytes"] > 0
    assert any(address["family"] == "inet" for address in found["addresses"])
    assert found["snapshots"] == []
    assert set(found) >= {"pid", "processes", "cpu_seconds", "pending", "expanded_config", "root"}


def test_instances_survive_the_end_of_the_play(ansible: Ansible, kind: str) -> None:
    pid = ansible.task("instance", **options(kind))["instance"]["pid"]
    parent = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("PPid")]
    assert is_alive(pid), parent
    again = ansible.task("instance", name=NAMES[kind])
    assert not again.changed
    assert again["instance"]["pid"] == pid


def test_hand_made_changes_by_lxc_tools_are_seen(ansible: Ansible, container: str) -> None:
    ansible.task("instance", **options("container"))
    lxcpath = str(ansible.root / "instances")
    listed = subprocess.run(["lxc-ls", "-P", lxcpath, "--running"], capture_output=True, text=True, check=True)
    assert container in listed.stdout.split()
    subprocess.run(["lxc-stop", "-P", lxcpath, "-n", container, "-k"], check=True)
    restarted = ansible.task("instance", name=container)
    assert restarted.changed
    assert restarted["previous_state"] == "stopped"


BAD = [
    ({"name": "Web1"}, "instance name 'Web1' is not valid: use 1 to 63 of a-z"),
    ({"name": "web1\n"}, r"instance name 'web1\n' is not valid"),
    ({"name": "web1"}, "instance web1 does not exist yet: give image to create it"),
    ({"name": "web1", "image": "debian/99"}, "image debian/99 does not exist: create it with tandem.machines.image"),
    ({"name": "web1", "image": "../x"}, "image name '../x' is not valid"),
    ({"config": {"limits.memroy": "1GiB"}}, "unknown config option 'limits.memroy'; did you mean limits.memory?"),
    ({"config": {"limits.memory": "1 GB B"}}, "config option limits.memory: '1 GB B' is not a size"),
    ({"config": {"limits.cpu": "0-"}}, "config option limits.cpu: '0-' is not a CPU limit"),
    ({"memory": "1GiB", "config": {"limits.memory": "1GiB"}}, "memory and config option limits.memory are the same"),
    (
        {"type": "virtual-machine", "nesting": True},
        "security.nesting is not for a virtual-machine: a virtual machine has",
    ),
    ({"devices": {"eth1": {"type": "nic"}}}, "device eth1: give either network, or parent with nictype bridged"),
    ({"devices": {"eth1": {"type": "nick"}}}, "device eth1: type 'nick' is not known; use one of disk, nic, none"),
    ({"devices": {"eth0": {"network": "nope0"}}}, "network nope0 does not exist"),
    (
        {"devices": {"r2": {"type": "disk", "path": "/", "pool": "default"}}},
        "more than one root disk: devices r2 and root",
    ),
    ({"devices": {"d": {"type": "disk", "path": "/x", "source": "../x"}}}, "source '../x' must be an absolute path"),
    (
        {"devices": {"d": {"type": "disk", "path": "/x", "source": "/no/where"}}},
        "/no/where is not a directory of this host",
    ),
    (
        {"type": "virtual-machine", "devices": {"d": {"type": "disk", "path": "/x", "source": "/no/where"}}},
        "instance test-bad: device d: /no/where is not a directory of this host",
    ),
    (
        {"devices": {"d": {"type": "disk", "path": "/x", "pool": "default", "source": "../x"}}},
        "instance test-bad: device d: storage volume name '../x' is not valid",
    ),
    ({"devices": {"root": {"pool": "fast"}}}, "storage pool fast does not exist"),
    ({"profiles": ["nope"]}, "profile nope does not exist: create it with tandem.machines.profile"),
    ({"wait_for": ["ipv5"]}, "wait_for 'ipv5' is not known: use running, ipv4, ipv6, agent, cloud-init or port:"),
    ({"state": "stopped", "wait_for": ["ipv4"]}, "wait_for needs state started or restarted, not stopped"),
    ({"cpus": 1}, "Unsupported parameters"),
    ({"root": "relative"}, "root"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=lambda value: None if isinstance(value, dict) else value[:40])
def test_bad_input_gets_one_line_and_changes_nothing(
    ansible: Ansible, debian_image: str, given: dict[str, Any], message: str
) -> None:
    if "name" in given:
        failed = ansible.failure("instance", **given)
    else:
        failed = ansible.failure("instance", name="test-bad", image="debian/12", **given)
    assert message in failed.message
    assert not (ansible.root / "instances" / "test-bad").exists()


def test_check_mode_of_a_whole_play_on_an_empty_host_only_warns(ansible: Ansible, debian_image: str) -> None:
    run = ansible.playbook(
        [
            {
                "hosts": "localhost",
                "gather_facts": False,
                "module_defaults": {"group/tandem.machines.all": {"root": str(ansible.root)}},
                "tasks": [
                    {
                        "tandem.machines.instance": {
                            "name": "test-later",
                            "image": "debian/later",
                            "devices": {
                                "root": {"pool": "later"},
                                "eth0": {"network": "later0"},
                                "data": {"type": "disk", "source": "/later", "path": "/data"},
                            },
                        }
                    }
                ],
            }
        ],
        "--check",
    )
    assert run.status == 0, run.output
    warnings = " ".join(run.results[0].result["warnings"])
    for missing in ("image debian/later", "storage pool later", "network later0"):
        assert f"{missing} does not exist" in warnings
    assert "device data: /later is not a directory of this host" in warnings
