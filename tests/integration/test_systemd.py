# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Networks and instances as units of systemd, on a host of the test's own: a container with systemd as its PID 1.

The modules reach it through the connection plugin. Such a host has this kernel's control groups, so where they are of
version 1 these tests say nothing about version 2.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import EngineError
from ansible_collections.tandem.machines.tests.integration.guests import Guest
from ansible_collections.tandem.machines.tests.integration.runner import Ansible, TaskResult

pytestmark = pytest.mark.torture

HOST = "test-systemd"
IMAGE = "test-systemd"
NETWORK = "tdinner0"
SECOND_ROOT = "/srv/second"
# Of role host's packages those that networks, a pool of the driver dir and instances of a ready image need.
PACKAGES = (
    "dnsmasq-base", "dosfstools", "e2fsprogs", "fdisk", "lxc", "mtools", "nftables", "ovmf", "procps", "python3-lxc",
    "qemu-system-x86", "qemu-utils", "squashfs-tools-ng", "uidmap", "zstd",
)  # fmt: skip
UNITS = "/etc/systemd/system"
INTO_CONTAINER = "lxc-attach -P /var/lib/tandem/instances -n c1 --"
# liblxc gives every start of a container one of its own.
BOOT_ID = "cat /proc/sys/kernel/random/boot_id"
WAIT_SECONDS = 60

# systemd joins these two hierarchies of version 1 under one name, which a kernel that has them apart cannot do; then
# their places stay empty, and liblxc wants all that there are.
CONTROL_GROUPS = """\
[Unit]
DefaultDependencies=no
Before=sysinit.target
ConditionPathIsSymbolicLink=/sys/fs/cgroup/cpu
[Service]
Type=oneshot
ExecStart=/bin/sh -ec 'cd /sys/fs/cgroup; mount -o remount,rw .; for name in cpu cpuacct; do rm $name; mkdir $name; \
mount -t cgroup -o $name none $name; done; mount -o remount,ro .'
[Install]
WantedBy=sysinit.target
"""


@dataclass(frozen=True)
class SystemdHost:
    """The host inside; root is the state root there."""

    guest: Guest
    ansible: Ansible
    image: str

    def tasks(self, *tasks: Mapping[str, Any]) -> list[TaskResult]:
        variables = {
            "ansible_connection": "tandem.machines.instance",
            "ansible_tandem_root": str(self.guest.root),
            "ansible_python_interpreter": "/usr/bin/python3",
        }
        return self.ansible.tasks(*tasks, inventory={"all": {"hosts": {HOST: variables}}}, hosts=HOST)

    def instance(self, *options: Mapping[str, Any]) -> list[TaskResult]:
        """One task for each."""
        return self.tasks(*({"tandem.machines.instance": {"name": "c1", **each}} for each in options))

    def shell(self, line: str) -> str:
        return self.guest.shell(line).strip()

    def inside(self, line: str) -> str:
        """What a script prints in the container c1 of this host."""
        return self.shell(f"{INTO_CONTAINER} sh -c '{line}'")

    def unit(self, name: str, *properties: str) -> list[str]:
        lines = self.shell(f"systemctl show {' '.join(f'-p {each}' for each in properties)} '{name}'").splitlines()
        found = dict(line.split("=", 1) for line in lines)
        return [found[each] for each in properties]

    def state(self, name: str = "tandem-instance@c1") -> str:
        return self.unit(name, "ActiveState")[0]

    def await_state(self, state: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while self.state() != state:
            assert time.monotonic() < deadline, self.shell("systemctl status tandem-instance@c1 || true")
            time.sleep(0.1)

    def await_boot(self, previous: str = "", way: str = "") -> None:
        """Until this host, or the container that way leads to, has booted and is not in its previous boot."""
        command = f"{way} sh -c 'systemctl is-system-running --wait; {BOOT_ID}'"
        deadline = time.monotonic() + WAIT_SECONDS
        seen: object = None
        while time.monotonic() < deadline:
            try:
                seen = self.guest.execute("/bin/sh", "-c", command)
            except EngineError as error:
                seen = error
            else:
                state, _unused, boot_id = seen.stdout.decode().strip().partition("\n")
                if state in ("running", "degraded") and boot_id not in ("", previous):
                    return
            time.sleep(0.2)
        raise AssertionError(f"has not booted: {seen}")


def systems_files(host: SystemdHost) -> list[str]:
    """Files of ours at systemd."""
    return host.shell(f"find {UNITS} -name 'tandem-*@*' -printf '%P\\n' | sort").splitlines()


@pytest.fixture(scope="module")
def host(prepared_host: Ansible, debian_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemdHost]:
    """With a pool, a network and a profile, and the image of the other tests."""
    source = {"type": "build", "distribution": "debian", "release": "bookworm", "packages": list(PACKAGES)}
    images = prepared_host.tasks(
        {"tandem.machines.image": {"name": IMAGE, "source": source}},
        {"tandem.machines.image_info": {"name": debian_image}},
    )
    fingerprint = images[1]["images"][0]["fingerprint"]
    devices = {
        "image": {"path": f"/srv/{fingerprint}", "source": str(prepared_host.root / "images" / fingerprint)},
        # The host's own, since there is no package of it.
        "qmp": {"path": "/usr/local/lib/python3.11/dist-packages/qemu/qmp", "source": _library("qemu.qmp")},
    }
    prepared_host.task(
        "instance",
        name=HOST,
        image=IMAGE,
        privileged=True,
        nesting=True,
        devices={name: {"type": "disk", "readonly": True, **device} for name, device in devices.items()},
    )
    made = SystemdHost(
        Guest(HOST, "container", prepared_host.root),
        Ansible(tmp_path_factory.mktemp("systemd"), Path("/var/lib/tandem")),
        fingerprint,
    )
    try:
        _prepare(made)
        yield made
    finally:
        prepared_host.tasks(
            {"tandem.machines.instance": {"name": HOST, "state": "absent", "force_stop": True}},
            {"tandem.machines.image": {"name": IMAGE, "state": "absent"}},
        )


def _library(name: str) -> str:
    program = f"import {name}; print(*{name}.__path__)"
    return subprocess.run(
        ["/usr/bin/python3", "-c", program], check=True, capture_output=True, text=True
    ).stdout.strip()


def _prepare(host: SystemdHost) -> None:
    host.await_boot()
    host.guest.shell(f"cat >{UNITS}/control-groups.service", stdin=CONTROL_GROUPS.encode())
    host.shell(
        "systemctl enable --now control-groups.service; "
        "echo root:10000000:65536000 | tee /etc/subuid >/etc/subgid; "
        f"for root in /var/lib/tandem {SECOND_ROOT}; do mkdir -p -m 0711 $root; mkdir -m 0700 $root/images; "
        f"cp -a /srv/{host.image} $root/images/; done"
    )
    _make_surroundings(host, "/var/lib/tandem", NETWORK)


def _make_surroundings(host: SystemdHost, root: str, network: str) -> None:
    devices = {"root": {"type": "disk", "path": "/", "pool": "default"}, "eth0": {"type": "nic", "network": network}}
    host.tasks(
        {"tandem.machines.storage_pool": {"name": "default", "driver": "dir", "root": root}},
        {"tandem.machines.network": {"name": network, "root": root}},
        {"tandem.machines.profile": {"name": "default", "devices": devices, "root": root}},
    )


@pytest.fixture
def container(host: SystemdHost) -> Iterator[SystemdHost]:
    """The host with a running container c1."""
    host.instance({"image": host.image, "wait_for": ["running", "ipv4"]})
    yield host
    host.instance({"state": "absent", "force_stop": True})
    assert [file for file in systems_files(host) if "instance" in file] == []
    assert host.shell("ls /run/tandem/instances; find /sys/fs/cgroup -name 'tandem.*'") == ""


def test_container_is_a_unit(container: SystemdHost) -> None:
    unit = ("tandem-instance@c1", "ActiveState", "MainPID", "UnitFileState", "NeedDaemonReload")
    pid = container.shell("cat /run/tandem/instances/c1/monitor.pid")
    assert container.unit(*unit) == ["active", pid, "enabled", "no"]
    assert container.inside("stat -c %u /root") == "0"
    assert not container.instance({})[0].changed
    container.shell("systemctl stop tandem-instance@c1")
    stopped = container.instance({"state": "present"}, {"state": "stopped"})
    assert [(task.changed, task["instance"]["status"]) for task in stopped] == [(False, "stopped")] * 2
    container.shell("systemctl start tandem-instance@c1")
    started, restarted, stopped_by_us = container.instance(
        {}, {"state": "restarted"}, {"state": "stopped", "stop_timeout": 5, "force_stop": True}
    )
    assert not started.changed and started["instance"]["status"] == "running"
    assert restarted.changed and restarted["instance"]["status"] == "running"
    assert stopped_by_us.changed
    assert container.unit(*unit) == ["inactive", "0", "disabled", "no"]


def test_container_that_ends_in_other_ways(container: SystemdHost) -> None:
    container.await_boot(way=INTO_CONTAINER)
    pid, boot = container.unit("tandem-instance@c1", "MainPID"), container.inside(BOOT_ID)
    container.inside("systemctl --no-block reboot")
    container.await_boot(boot, INTO_CONTAINER)
    assert container.unit("tandem-instance@c1", "ActiveState", "MainPID") == ["active", *pid]
    assert container.inside("touch /root/new; stat -c %u /root /root/new").split() == ["0", "0"]
    container.inside("systemctl --no-block poweroff")
    container.await_state("inactive")
    seen, _started, _frozen = container.instance({"state": "present"}, {"state": "started"}, {"state": "frozen"})
    assert not seen.changed and seen["instance"]["status"] == "stopped"
    container.shell("systemctl stop tandem-instance@c1")
    assert container.unit("tandem-instance@c1", "ActiveState", "Result") == ["inactive", "success"]
    container.instance({"state": "started"}, {"state": "frozen"})
    container.shell("kill -9 $(cat /run/tandem/instances/c1/monitor.pid)")
    container.await_state("failed")
    seen, started = container.instance({"state": "present"}, {"state": "started"})
    assert not seen.changed and seen["instance"]["status"] == "stopped"
    assert started.changed and container.state() == "active"


def test_a_file_that_systemd_has_not_read(container: SystemdHost) -> None:
    """As a module leaves it that is killed before it tells systemd."""
    container.shell(f"touch -d '1 minute' {UNITS}/tandem-instance@c1.service {UNITS}/tandem-network@{NETWORK}.service")
    tasks = (
        {"tandem.machines.instance": {"name": "c1"}},
        {"tandem.machines.network": {"name": NETWORK}},
    )
    assert container.unit("tandem-instance@c1", "NeedDaemonReload") == ["yes"]
    assert container.tasks(*tasks)[0].changed
    for unit in ("tandem-instance@c1", f"tandem-network@{NETWORK}"):
        assert container.unit(unit, "NeedDaemonReload") == ["no"]
    assert [task.changed for task in container.tasks(*tasks)] == [False, False]


def test_two_roots_have_units_of_their_own(container: SystemdHost) -> None:
    _make_surroundings(container, SECOND_ROOT, "tdinner1")
    in_second = {"root": SECOND_ROOT, "image": container.image}
    assert [task.changed for task in container.instance(in_second, in_second)] == [True, False]
    prefix = "root-srv-second:"
    assert container.state(f"tandem-instance@{prefix}c1") == container.state() == "active"
    assert f"tandem-network@{prefix}tdinner1.service" in container.unit(f"tandem-instance@{prefix}c1", "After")[0]
    container.tasks(
        {"tandem.machines.instance": {"name": "c1", "state": "absent", "force_stop": True, "root": SECOND_ROOT}},
        {"tandem.machines.profile": {"name": "default", "state": "absent", "root": SECOND_ROOT}},
        {"tandem.machines.network": {"name": "tdinner1", "state": "absent", "root": SECOND_ROOT}},
    )
    assert not [file for file in systems_files(container) if prefix in file]
    assert container.state() == "active"


def test_host_reboots(container: SystemdHost) -> None:
    others = {
        # One that has hardly begun to boot would not hear that it shall stop.
        "c2": {"config": {"boot.autostart": False}, "wait_for": ["running", "ipv4"]},
        "c3": {"state": "present"},
        "c4": {"config": {"boot.autostart": True}, "state": "present"},
    }
    container.instance(*({"name": name, "image": container.image, **each} for name, each in others.items()))
    boot = container.shell(BOOT_ID)
    container.shell("systemctl --no-block reboot")
    container.await_boot(boot)
    assert container.state(f"tandem-network@{NETWORK}") == "active"
    states = {name: container.state(f"tandem-instance@{name}") for name in ("c1", *others)}
    assert states == {"c1": "active", "c2": "inactive", "c3": "inactive", "c4": "active"}
    again, waits = container.instance({"wait_for": ["running", "ipv4"]}, {"config": {"security.nesting": True}})
    assert not again.changed
    assert waits["pending"] == ["security.nesting"]
    container.instance(*({"name": name, "state": "absent", "force_stop": True} for name in others))


@pytest.mark.vm
def test_virtual_machine_is_a_unit(host: SystemdHost) -> None:
    unit = ("tandem-instance@v1", "ActiveState", "Result")
    machine = {"name": "v1", "type": "virtual-machine", "image": host.image, "memory": "512MiB"}
    # Nobody waits for it to boot: that it ends when asked is for other tests.
    force = {"name": "v1", "stop_timeout": 0.1, "force_stop": True}
    try:
        created, again = host.instance(machine, machine)
        assert created.changed and not again.changed
        pid = host.unit("tandem-instance@v1", "MainPID")[0]
        assert host.shell(f"cat /proc/{pid}/comm").startswith("qemu-system")
        assert again["instance"]["pid"] == int(pid)
        host.shell(f"kill -9 {pid}")
        seen, started, restarted, stopped = host.instance(
            {"name": "v1", "state": "present"},
            {"name": "v1"},
            {**force, "state": "restarted"},
            {**force, "state": "stopped"},
        )
        assert not seen.changed and seen["instance"]["status"] == "stopped"
        assert [task["instance"]["status"] for task in (started, restarted, stopped)] == [
            "running",
            "running",
            "stopped",
        ]
        assert host.unit(*unit) == ["inactive", "success"]
        host.shell("systemctl start tandem-instance@v1")
        assert host.instance({"name": "v1", "state": "present"})[0]["instance"]["status"] == "running"
    finally:
        host.instance({"name": "v1", "state": "absent", "force_stop": True})
    assert not [file for file in systems_files(host) if "v1" in file]
    assert (
        host.shell("ls /run/tandem/instances; find /sys/fs/cgroup -name 'tandem.*'; ip -br link | grep '^tv' || true")
        == ""
    )
