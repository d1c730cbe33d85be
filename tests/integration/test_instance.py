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
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import EngineError
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._instance.execute import Command, execute
from ansible_collections.tandem.machines.tests.integration import fixtures
from ansible_collections.tandem.machines.tests.integration.guests import (
    BOOT_SECONDS,
    ODD_PATH,
    TYPES,
    Guest,
    directories,
)
from ansible_collections.tandem.machines.tests.integration.module_process import ModuleProcess
from ansible_collections.tandem.machines.tests.integration.runner import (
    Ansible,
    FourRuns,
    four_times,
    require_kept_promise,
    require_one_line,
)

NAMES = {"container": "test-c", "virtual-machine": "test-v"}
# For virtual machines whose clean shutdown is not the point: they need not have booted.
AT_ONCE = {"stop_timeout": 0.1, "force_stop": True}


def options(kind: str, **more: Any) -> dict[str, Any]:
    return {"name": NAMES[kind], "type": kind, "image": "debian/12", **more}


def remove(ansible: Ansible, name: str) -> None:
    """Without Ansible, which takes a second to start."""
    ModuleProcess("instance", ansible.root, ansible.directory).finish(
        {"name": name, "state": "absent", "force_stop": True}
    )


def make(ansible: Ansible, **options: Any) -> Mapping[str, Any]:
    """The same for a creation that is not the point; the instance."""
    result = ModuleProcess("instance", ansible.root, ansible.directory).finish(options).result
    assert result["changed"]
    return dict(result["instance"])


@pytest.fixture(params=TYPES)
def kind(request: pytest.FixtureRequest, ansible: Ansible, debian_image: str) -> Iterator[str]:
    """Each type of instance; whatever a test leaves of it is removed."""
    yield request.param
    remove(ansible, NAMES[request.param])


# Emulated, a machine takes long to boot until it can be shut down cleanly. One test waits for that; the others do in
# `make torture`.
by_kind_and_stop = pytest.mark.parametrize(
    ("kind", "is_clean"),
    [
        pytest.param("container", True, id="container"),
        pytest.param("virtual-machine", False, id="virtual-machine-at-once"),
        pytest.param("virtual-machine", True, id="virtual-machine", marks=pytest.mark.torture),
    ],
    indirect=["kind"],
)


@pytest.fixture
def container(ansible: Ansible, debian_image: str) -> Iterator[str]:
    yield NAMES["container"]
    remove(ansible, NAMES["container"])


@pytest.fixture(params=TYPES)
def guest(request: pytest.FixtureRequest, guests: dict[str, Guest]) -> Guest:
    """One that runs already, for what needs no other."""
    return guests[request.param]


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


def task(kind: str, **options: Any) -> dict[str, Any]:
    return {"tandem.machines.instance": {"name": NAMES[kind], **options}}


def test_every_state_is_checked_then_applied_then_nothing(ansible: Ansible, kind: str) -> None:
    created, started, frozen, thawed = ansible.each_kept_its_promise(
        task(kind, type=kind, image="debian/12", state="present", config={"user.role": "web"}),
        task(kind, state="started"),
        task(kind, state="frozen"),
        task(kind, state="started"),
    )
    assert created.apply["instance"]["status"] == "stopped"
    assert created.apply["previous_state"] == "absent"
    assert created.check["instance"]["config"] == created.apply["instance"]["config"] == {"user.role": "web"}
    assert started.apply["instance"]["status"] == "running"
    assert frozen.apply["instance"]["status"] == "frozen"
    assert thawed.apply["previous_state"] == "frozen"
    pid = started.apply["instance"]["pid"]
    assert thawed.apply["instance"]["pid"] == pid
    assert is_alive(pid)
    stopped, absent = ansible.each_kept_its_promise(
        [task(kind, wait_for=["agent"], wait_timeout=BOOT_SECONDS)],
        task(kind, state="stopped", stop_timeout=120),
        task(kind, state="absent"),
    )
    assert stopped.apply["instance"]["status"] == "stopped"
    assert not is_alive(pid)
    assert absent.apply["instance"] == {}
    assert not (ansible.root / "instances" / NAMES[kind]).exists()


@by_kind_and_stop
def test_creation_starts_and_restart_acts_each_time(ansible: Ansible, kind: str, is_clean: bool) -> None:
    wait = [task(kind, wait_for=["agent"], wait_timeout=BOOT_SECONDS)] if is_clean else []
    stop = {"stop_timeout": 120} if is_clean else AT_ONCE
    restart = task(kind, state="restarted", **stop)
    freeze = {"tandem.machines.instance": options(kind, state="frozen")}
    create = {"tandem.machines.instance": options(kind)}
    results = ansible.tasks(
        *four_times(create), *wait, restart, freeze, *four_times(task(kind, state="absent", force_stop=True))
    )
    created = require_kept_promise(FourRuns(*results[:4]))
    restarted, frozen = results[-6:-4]
    removed = require_kept_promise(FourRuns(*results[-4:]))
    assert restarted.changed
    assert restarted["instance"]["pid"] != created.apply["instance"]["pid"]
    assert frozen.changed
    assert removed.apply["previous_state"] == "frozen"


def test_config_devices_profiles_merge_replace_and_remove(ansible: Ansible, kind: str) -> None:
    def change(**more: Any) -> dict[str, Any]:
        return task(kind, state="present", **more)

    def profile(**more: Any) -> list[dict[str, Any]]:
        return [{"tandem.machines.profile": {"name": "test-small", **more}}]

    make(ansible, **options(kind, state="present", config={"user.a": "1", "limits.memory": "512MiB"}))
    try:
        merged, removed, replaced, device, listed = ansible.each_kept_its_promise(
            change(config={"user.b": 2}),
            change(config={"user.a": None}),
            change(config={"user.c": True}, config_mode="replace"),
            change(devices={"eth0": {"hwaddr": "00:16:3e:00:aa:bb"}}),
            profile(config={"limits.memory": "256MiB"}),
            change(profiles=["default", "test-small"]),
        )
        assert merged.apply["instance"]["config"] == {"limits.memory": "512MiB", "user.a": "1", "user.b": "2"}
        assert merged.apply["diff"]["after"] == {"config": {"user.b": "2"}}
        assert removed.apply["diff"]["before"] == {"config": {"user.a": "1"}}
        assert replaced.apply["instance"]["config"] == {"user.c": "true"}
        assert device.apply["instance"]["devices"]["eth0"]["network"] == fixtures.NETWORK
        assert listed.apply["instance"]["expanded_config"]["limits.memory"] == "256MiB"
        in_use = ansible.failure("profile", name="test-small", state="absent")
        assert in_use.message == f"profile test-small is used by instance {NAMES[kind]}: remove it there first"
        changed, _unused = ansible.each_kept_its_promise(
            profile(config={"limits.memory": "300MiB"}), change(), change(profiles=["default"])
        )
        assert changed.apply["diff"]["after"] == {"expanded_config": {"limits.memory": "300MiB"}}
    finally:
        remove(ansible, NAMES[kind])
        ansible.task("profile", name="test-small", state="absent")


def test_limits_of_a_running_container_change_at_once(ansible: Ansible, container: str) -> None:
    pid = make(ansible, **options("container", memory="512MiB", cpu=1))["pid"]
    memory = "memory.max" if Path("/sys/fs/cgroup/cgroup.controllers").exists() else "memory.limit_in_bytes"
    assert cgroup_value(container, memory) == str(512 * 1024**2)
    assert len(cgroup_value(container, "cpuset.cpus")) == 1
    changes = ({"memory": "768MiB"}, {"config": {"limits.cpu": "0-1"}}, {"config": {"limits.processes": 500}})
    for four in ansible.each_kept_its_promise(*(task("container", **change) for change in changes)):
        assert not four.apply["pending"]
    assert cgroup_value(container, memory) == str(768 * 1024**2)
    assert cgroup_value(container, "cpuset.cpus") == "0-1"
    assert cgroup_value(container, "pids.max") == "500"
    removed = ansible.check_apply_check_apply(task("container", config={"limits.memory": None}))
    assert removed.apply["instance"]["pid"] == pid
    assert cgroup_value(container, memory) not in (str(768 * 1024**2), str(512 * 1024**2))


def test_drift_is_seen_and_mended(ansible: Ansible, container: str) -> None:
    make(ansible, **options("container", memory="512MiB"))
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


@by_kind_and_stop
def test_what_needs_a_restart_is_pending_and_when_asked_done(ansible: Ansible, kind: str, is_clean: bool) -> None:
    change = {"config": {"security.nesting": True}} if kind == "container" else {"memory": "768MiB"}
    key = "security.nesting" if kind == "container" else "limits.memory"
    wait = {"wait_for": ["agent"], "wait_timeout": BOOT_SECONDS} if is_clean else {}
    stop = {"stop_timeout": 120} if is_clean else AT_ONCE
    first = make(ansible, **options(kind, **wait))
    refused = ansible.failure("instance", name=NAMES[kind], when_restart_needed="fail", **change)
    assert key in refused.message
    reported, restarted = ansible.each_kept_its_promise(
        task(kind, **change), task(kind, when_restart_needed="restart", **stop)
    )
    for result in (reported.check, reported.apply, reported.apply_again):
        assert result["pending"] == [key]
        assert result["restart_required"] is True
    assert restarted.apply["pending"] == []
    assert restarted.apply["instance"]["pid"] != first["pid"]


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
    create = {"tandem.machines.instance": options("container", devices=devices)}
    info = {"tandem.machines.instance_info": {"name": [container]}}
    read = {"tandem.machines.instance_exec": {"name": container, "argv": ["cat", "/srv/my data/hello"]}}
    write = {"tandem.machines.instance_exec": {"name": container, "argv": ["touch", "/srv/my data/x"]}}
    grow = task("container", devices={"root": {"size": "4GiB"}})
    results = ansible.tasks(*four_times(create), read, {**write, "ignore_errors": True}, info, *four_times(grow), info)
    require_kept_promise(FourRuns(*results[:4]))
    seen, denied, small = results[4:7]
    grown = require_kept_promise(FourRuns(*results[7:11]))
    assert seen["stdout"] == "from the host"
    assert require_one_line(denied)["rc"] != 0
    assert small["instances"][0]["disk"]["total_bytes"] == 3 * 1024**3
    assert grown.apply["pending"] == []
    assert results[11]["instances"][0]["disk"]["total_bytes"] == 4 * 1024**3


@pytest.fixture
def machine(ansible: Ansible, debian_image: str) -> Iterator[str]:
    yield NAMES["virtual-machine"]
    remove(ansible, NAMES["virtual-machine"])


LOOK = 'cat /data/hello "$1/hello"; date > /data/written; ! touch "$1/x" 2> /dev/null; test ! -e /x'


def test_disks_of_a_virtual_machine(ansible: Ansible, guests: dict[str, Guest]) -> None:
    """Of the machine that runs already, which was made with two."""
    machine = guests["virtual-machine"]
    assert machine.shared is not None
    (machine.shared / "hello").write_text("from the host")
    same = {"tandem.machines.instance": machine.definition}
    read = {"tandem.machines.instance_exec": {"name": machine.name, "argv": ["sh", "-ec", LOOK, "sh", ODD_PATH]}}
    data = machine.definition["devices"]["data"]
    bad = {"devices": {"more": {**data, "source": f"{machine.shared}/hello"}}}
    changes = ({"more": {**data, "path": "/more"}, "data": None}, {"more": None, "data": data})
    tasks = [{"tandem.machines.instance": {"name": machine.name, "devices": change}} for change in changes]
    results = ansible.tasks(
        same,
        read,
        {"tandem.machines.instance": {"name": machine.name, **bad}, "ignore_errors": True},
        *(run for task in tasks for run in four_times(task)),
    )
    shown, seen, refused = results[:3]
    assert not shown.changed and not shown["pending"] and "warnings" not in shown.result
    assert set(shown["instance"]["devices"]) == {"data", "fixed_1"}
    assert seen["stdout"] == "from the host" * 2
    assert (machine.shared / "written").read_text() and not (machine.shared / "x").exists()
    assert require_one_line(refused).message.endswith(
        f"device more: {machine.shared}/hello is not a directory of this host"
    )
    for four, pending in ((results[3:7], ["devices.data", "devices.more"]), (results[7:11], [])):
        runs = require_kept_promise(FourRuns(*four))
        assert runs.check["pending"] == runs.apply["pending"] == runs.apply_again["pending"] == pending


@pytest.mark.torture
def test_disks_of_a_virtual_machine_from_its_creation_to_a_reboot(
    ansible: Ansible, machine: str, host_directory: Path
) -> None:
    """One machine: its disks are there after its boot and after a reboot from inside."""

    def sh(text: str, *arguments: str) -> str:
        result = ansible.task("instance_exec", name=machine, argv=["sh", "-ec", text, "sh", *arguments])
        return str(result["stdout"])

    (host_directory / "hello").write_text("from the host")
    created = ansible.check_apply_check_apply(
        {"tandem.machines.instance": options("virtual-machine", devices=directories(host_directory))}
    )
    assert not created.apply["pending"] and "warnings" not in created.apply.result
    ansible.task("instance", name=machine, wait_for=["agent"], wait_timeout=BOOT_SECONDS)
    assert sh(LOOK, ODD_PATH) == "from the host" * 2
    assert (host_directory / "written").read_text() and not (host_directory / "x").exists()
    booted = sh("cat /proc/sys/kernel/random/boot_id; rm /data/written; systemctl reboot").strip()
    await_boot(machine, ansible.root, booted)
    assert sh(LOOK, ODD_PATH) == "from the host" * 2
    assert (host_directory / "written").exists()
    assert ansible.task("instance", name=machine)["instance"]["pid"] == created.apply["instance"]["pid"]


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


def test_environment_reaches_commands(ansible: Ansible, guests: dict[str, Guest]) -> None:
    name = guests["container"].name
    given, taken = ({"name": name, "config": {"environment.ROLE": role}} for role in ("web server", None))
    read = {"tandem.machines.instance_exec": {"name": name, "argv": ["printenv", "ROLE"]}}
    _unused, shown, _unused = ansible.tasks(
        {"tandem.machines.instance": given}, read, {"tandem.machines.instance": taken}
    )
    assert shown["stdout"] == "web server"


def test_privileged_and_unprivileged_root(ansible: Ansible, container: str) -> None:
    def owner_of(pid: int) -> int:
        return Path(f"/proc/{pid}").stat().st_uid

    assert owner_of(make(ansible, **options("container"))["pid"]) >= 65536
    change = {"name": container, "privileged": True, "when_restart_needed": "restart", **AT_ONCE}
    assert owner_of(ansible.task("instance", **change)["instance"]["pid"]) == 0


def test_a_reboot_from_inside_keeps_owners_and_disks(ansible: Ansible, container: str, host_directory: Path) -> None:
    disk = {"type": "disk", "source": str(host_directory), "path": "/shared", "shift": True}
    pid = make(ansible, **options("container", devices={"shared": disk}, wait_for=["agent"]))["pid"]
    init = os.pidfd_open(pid)
    ansible.task("instance_exec", name=container, argv=["systemctl", "reboot"])
    assert select.select([init], [], [], 60)[0]
    os.close(init)
    after = ansible.task("instance", name=container, wait_for=["agent"])
    assert after["instance"]["pid"] != pid and not after.changed
    owners = "stat -c %u /root /shared; touch /root/x /shared/x; stat -c %u /root/x /shared/x"
    assert ansible.task("instance_exec", name=container, argv=["sh", "-ec", owners])["stdout"].split() == ["0"] * 4
    assert (host_directory / "x").stat().st_uid == 0


def test_wait_for_says_what_it_saw(ansible: Ansible, guests: dict[str, Guest]) -> None:
    name = guests["container"].name
    wait = {"name": name, "wait_for": ["running", "ipv4"], "wait_timeout": 60}
    late = {"name": name, "wait_for": ["port:81"], "wait_timeout": 1.5}
    shown, failed = ansible.tasks(
        {"tandem.machines.instance": wait}, {"tandem.machines.instance": late, "ignore_errors": True}
    )
    addresses = shown["instance"]["addresses"]
    assert any(address["family"] == "inet" and address["scope"] == "global" for address in addresses)
    message = require_one_line(failed).message
    assert f"timed out after 1.5 s waiting for port:81 of instance {name}; last seen: addresses: " in message
    assert "port 81 closed" in message


def test_info_is_alike_for_both_types(ansible: Ansible, guest: Guest) -> None:
    wait = {"name": guest.name, "wait_for": ["ipv4"], "wait_timeout": BOOT_SECONDS}
    _unused, shown = ansible.tasks({"tandem.machines.instance": wait}, {"tandem.machines.instance_info": {}})
    [found] = [entry for entry in shown["instances"] if entry["name"] == guest.name]
    assert found["status"] == "running"
    assert found["memory"]["limit_bytes"] == 512 * 1024**2
    assert found["memory"]["used_bytes"] > 0
    assert found["disk"]["used_bytes"] > 0
    assert any(address["family"] == "inet" for address in found["addresses"])
    assert found["snapshots"] == []
    assert set(found) >= {"pid", "processes", "cpu_seconds", "pending", "expanded_config", "root"}


def test_instances_survive_the_end_of_the_play(ansible: Ansible, guest: Guest) -> None:
    """The play that started this one has ended long ago."""
    again = ansible.task("instance", name=guest.name)
    assert not again.changed
    assert is_alive(again["instance"]["pid"])


def test_hand_made_changes_by_lxc_tools_are_seen(ansible: Ansible, container: str) -> None:
    make(ansible, **options("container"))
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


def test_bad_input_gets_one_line_and_changes_nothing(ansible: Ansible, debian_image: str) -> None:
    image = {"name": "test-bad", "image": "debian/12"}
    tasks = [given if "name" in given else {**image, **given} for given, _unused in BAD]
    for failed, (given, message) in zip(ansible.failures("instance", *tasks), BAD):
        assert message in failed.message, given
    for name in ("test-bad", "web1"):
        assert not (ansible.root / "instances" / name).exists()


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
