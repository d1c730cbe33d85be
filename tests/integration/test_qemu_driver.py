# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Virtual machines for real: what QEMU may, what it is given, what it leaves."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import (
    CommandFailed,
    Conflict,
    QmpError,
    TimedOut,
)
from ansible_collections.tandem.machines.plugins.module_utils._core.kinds import InstanceType, Power
from ansible_collections.tandem.machines.plugins.module_utils._core.values import Cpus
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._host.process import Process
from ansible_collections.tandem.machines.plugins.module_utils._host.supervisor import open_supervisor
from ansible_collections.tandem.machines.plugins.module_utils._image.disk_files import DiskFiles
from ansible_collections.tandem.machines.plugins.module_utils._image.store import open_store
from ansible_collections.tandem.machines.plugins.module_utils._instance import agent
from ansible_collections.tandem.machines.plugins.module_utils._instance.model import (
    Boot,
    DiskDefinition,
    InstanceDefinition,
    NicDefinition,
    Record,
)
from ansible_collections.tandem.machines.plugins.module_utils._instance.qemu import command, disk, program, seed
from ansible_collections.tandem.machines.plugins.module_utils._instance.qemu.driver import QemuDriver
from ansible_collections.tandem.machines.plugins.module_utils._instance.qemu.qmp import Qmp
from ansible_collections.tandem.machines.tests.integration.leaks import compare, observe
from ansible_collections.tandem.machines.tests.integration.runner import Ansible

BRIDGE = "tdq0"
HOST_ADDRESS, GUEST_ADDRESS = "10.91.0.1", "10.91.0.2"
UID = 2000001
# Emulation on a busy machine.
BOOT_SECONDS = 420
MIB = 1024**2


def ip(*words: str) -> Any:
    done = subprocess.run(["ip", "-j", "-d", *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout or "[]")


@pytest.fixture(scope="session")
def image(prepared_host: Ansible, debian_image: str) -> DiskFiles:
    """What a machine boots; made once, it stays with the image."""
    store = open_store(Paths(prepared_host.root))
    return store.ensure_disk(store.require(debian_image).fingerprint)


@pytest.fixture(scope="module", autouse=True)
def nothing_leaks(image: DiskFiles) -> Iterator[None]:
    """Instead of the check of each test: these share one machine, which the last of them shuts down."""
    before = observe()
    yield
    leaks = compare(before, observe())
    assert not leaks, "left behind or taken away by this file:\n" + "\n".join(map(str, leaks))


@pytest.fixture(scope="module")
def bridge() -> Iterator[str]:
    ip("link", "add", BRIDGE, "type", "bridge")
    try:
        ip("address", "add", f"{HOST_ADDRESS}/24", "dev", BRIDGE)
        ip("link", "set", BRIDGE, "up")
        yield BRIDGE
    finally:
        ip("link", "del", BRIDGE)


class Lab:
    """A state root of its own with a driver on it."""

    def __init__(self, root: Path, image: DiskFiles) -> None:
        self.root = root
        self.image = image
        self.paths = Paths(root)
        self.supervisor = open_supervisor(self.paths)
        self.driver = QemuDriver(self.paths, self.supervisor)

    def define(self, name: str, **changes: Any) -> InstanceDefinition:
        """A definition whose files and disk exist."""
        definition = self.definition(name, **changes)
        self.driver.create_disk(definition, None)
        self.driver.define(definition)
        return definition

    def definition(self, name: str, config: Any = None, machine: str = "", **changes: Any) -> InstanceDefinition:
        directory = self.paths.instance(name)
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _unused, newest = program.ask_program()
        record = Record(
            name=name,
            uuid="0a3b0a5e-1111-4222-8333-444455556666",
            type=InstanceType.VIRTUAL_MACHINE,
            image="0f" * 32,
            image_name="debian/12",
            pool="default",
            expanded_config=config or {},
            volatile={"qemu.uid": str(UID), "qemu.machine": machine or newest},
        )
        text = self.image.command_line.replace("quiet", "")
        definition = InstanceDefinition(
            record=record,
            directory=str(directory),
            run_directory=str(self.paths.instance_run(name)),
            root=str(self.root / f"{name}.qcow2"),
            backing=str(self.image.disk),
            boot=Boot(str(self.image.kernel), str(self.image.initrd), text),
            memory_bytes=512 * MIB,
        )
        return replace(definition, **changes)


@pytest.fixture(scope="module")
def lab(image: DiskFiles) -> Iterator[Lab]:
    root = Path(tempfile.mkdtemp(prefix="tandem-qemu-test-", dir="/var/tmp"))
    found = Lab(root, image)
    yield found
    for directory in root.glob("instances/*"):
        found.driver.kill(found.definition(directory.name))
    shutil.rmtree(found.paths.run)
    shutil.rmtree(root)


@pytest.fixture
def machine(lab: Lab) -> Iterator[InstanceDefinition]:
    """A running machine that nobody waits for to boot."""
    definition = lab.define("blank")
    lab.driver.start(definition)
    yield definition
    lab.driver.kill(definition)


def leftovers(lab: Lab, definition: InstanceDefinition) -> list[str]:
    """What a machine that does not run must not leave."""
    taps = [nic.host_name for nic in definition.nics if Path(f"/sys/class/net/{nic.host_name}").exists()]
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{definition.cgroup}")]
    run = [definition.run_directory] if Path(definition.run_directory).exists() else []
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes()
        except OSError:
            continue
        if f"guest={definition.name}\0".encode() in text or str(lab.root).encode() in text:
            processes.append(f"{path.parent.name}: {text[:60]!r}")
    mounts = [line for line in Path("/proc/mounts").read_text().splitlines() if str(lab.paths.run) in line]
    return [*taps, *groups, *run, *processes, *mounts]


def await_agent(lab: Lab, definition: InstanceDefinition) -> None:
    try:
        agent.ping(f"{definition.run_directory}/qga.sock", definition.name, BOOT_SECONDS)
    except TimedOut:
        lab.driver.save_console(definition)
        pytest.fail((Path(definition.directory) / "console.log").read_text(errors="replace")[-2000:])


def nic(number: int, bridge_name: str = BRIDGE) -> NicDefinition:
    return NicDefinition(f"eth{number}", bridge_name, f"tvq{number}", f"00:16:3e:91:00:0{number}", f"eth{number}")


class TestWithoutABoot:
    """QEMU runs; whether its guest does plays no part."""

    def test_starting_twice_starts_one(self, lab: Lab, machine: InstanceDefinition) -> None:
        pid = lab.driver.pid(machine)
        lab.driver.start(machine)
        assert lab.driver.pid(machine) == pid
        assert lab.driver.power(machine) is Power.RUNNING

    def test_defining_twice_writes_once(self, lab: Lab, machine: InstanceDefinition) -> None:
        before = {path.name: path.stat().st_mtime_ns for path in Path(machine.directory).iterdir()}
        assert lab.driver.is_defined_current(machine)
        lab.driver.define(machine)
        assert {path.name: path.stat().st_mtime_ns for path in Path(machine.directory).iterdir()} == before
        assert not lab.driver.is_defined_current(replace(machine, memory_bytes=600 * MIB))

    def test_what_it_was_started_with_is_remembered(self, lab: Lab) -> None:
        definition = lab.define("remembers", config={"limits.cpu": Cpus(1)})
        lab.driver.start(definition)
        try:
            changed = lab.define("remembers", config={"limits.cpu": Cpus(2)})
            assert lab.driver.started_with(changed) == {"config": {"limits.cpu": "1"}, "devices": {}}
        finally:
            lab.driver.kill(definition)

    def test_a_killed_qemu_leaves_nothing_once_cleaned(self, lab: Lab, bridge: str) -> None:
        definition = lab.define("killed", nics=(nic(3),))
        lab.driver.start(definition)
        process = Process.of(lab.driver.pid(definition) or 0)
        assert process is not None
        assert len(leftovers(lab, definition)) >= 3
        process.signal(signal.SIGKILL)
        process.wait(10)
        assert lab.driver.power(definition) is Power.STOPPED
        assert lab.driver.pid(definition) is None
        lab.driver.clean(definition)
        assert not leftovers(lab, definition)
        lab.driver.clean(definition)

    def test_a_stopped_process_can_be_killed(self, lab: Lab, machine: InstanceDefinition) -> None:
        process = Process.of(lab.driver.pid(machine) or 0)
        assert process is not None
        process.signal(signal.SIGSTOP)
        lab.driver.kill(machine)
        assert not process.is_alive()
        assert not leftovers(lab, machine)

    def test_a_start_that_was_interrupted_is_begun_anew(self, lab: Lab, machine: InstanceDefinition) -> None:
        pid = lab.driver.pid(machine)
        (Path(machine.run_directory) / "started.json").unlink()
        assert lab.driver.power(machine) is Power.STOPPED
        lab.driver.start(machine)
        assert lab.driver.pid(machine) not in (None, pid)

    def test_a_second_launch_is_refused(self, machine: InstanceDefinition) -> None:
        program_file = f"{machine.directory}/launch"
        done = subprocess.run(["/usr/bin/python3", "-I", "-S", program_file], check=False)
        assert done.returncode == 1
        assert "it runs already as process" in (Path(machine.directory) / "qemu.log").read_text()

    def test_a_missing_bridge_is_named(self, lab: Lab) -> None:
        definition = lab.define("unbridged", nics=(nic(4, "tdq-none"),))
        with pytest.raises(CommandFailed, match="interface tvq4 cannot join bridge tdq-none: No such device"):
            lab.driver.start(definition)
        assert not leftovers(lab, definition)

    def test_a_missing_disk_is_named(self, lab: Lab) -> None:
        definition = lab.define("diskless")
        Path(definition.root).unlink()
        with pytest.raises(CommandFailed, match=r"diskless\.qcow2 cannot be opened: No such file"):
            lab.driver.start(definition)
        assert not leftovers(lab, definition)

    def test_a_disk_in_use_is_refused_by_qemu(self, lab: Lab, machine: InstanceDefinition) -> None:
        other = replace(lab.definition("thief"), root=machine.root)
        lab.driver.define(other)
        with pytest.raises(CommandFailed, match='Failed to get "write" lock'):
            lab.driver.start(other)
        assert lab.driver.power(machine) is Power.RUNNING

    def test_what_qemu_says_is_reported(self, lab: Lab) -> None:
        definition = lab.define("odd", machine="pc-q35-0.1")
        with pytest.raises(CommandFailed, match="unsupported machine type"):
            lab.driver.start(definition)
        assert not leftovers(lab, definition)

    def test_freezing_is_seen_and_killed_through(self, lab: Lab, machine: InstanceDefinition) -> None:
        lab.driver.freeze(machine)
        assert lab.driver.power(machine) is Power.FROZEN
        lab.driver.thaw(machine)
        assert lab.driver.power(machine) is Power.RUNNING
        lab.driver.freeze(machine)
        lab.driver.kill(machine)
        assert lab.driver.power(machine) is Power.STOPPED
        with pytest.raises(Conflict, match="does not run"):
            lab.driver.freeze(machine)

    def test_an_order_to_execute_a_program_fails(self, lab: Lab, machine: InstanceDefinition) -> None:
        """QEMU 7.2 is killed by its own filter, later ones report a failure."""
        with Qmp(Path(machine.run_directory) / "qmp.sock", lab.driver.pid(machine)) as monitor:
            monitor.execute("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]})
            try:
                monitor.execute("migrate", {"uri": "exec:sleep 60"})
                monitor.wait_for("MIGRATION", 30, status="failed")
            except QmpError as error:
                assert error.error_class == "Disconnected"

    def test_pinned_cpus_are_used(self, lab: Lab) -> None:
        last = max(os.sched_getaffinity(0))
        definition = lab.define("pinned", config={"limits.cpu": Cpus(1, (last,))})
        lab.driver.start(definition)
        try:
            for task in Path(f"/proc/{lab.driver.pid(definition)}/task").iterdir():
                assert os.sched_getaffinity(int(task.name)) == {last}
        finally:
            lab.driver.kill(definition)

    def test_a_kernel_that_others_may_not_read_is_handed_over(self, lab: Lab) -> None:
        kernel = lab.root / "private-vmlinuz"
        shutil.copy(lab.definition("private").boot.kernel, kernel)
        kernel.chmod(0o600)
        definition = lab.definition("private")
        definition = lab.define("private", boot=replace(definition.boot, kernel=str(kernel)))
        lab.driver.start(definition)
        try:
            assert lab.driver.power(definition) is Power.RUNNING
        finally:
            lab.driver.kill(definition)


class Guest:
    """A booted machine with everything a machine can have."""

    def __init__(self, lab: Lab, definition: InstanceDefinition) -> None:
        self.lab = lab
        self.definition = definition
        self.driver = lab.driver
        self.agent_path = f"{definition.run_directory}/qga.sock"

    @property
    def pid(self) -> int:
        found = self.driver.pid(self.definition)
        assert found is not None
        return found

    def run(self, text: str) -> str:
        """Standard output of a shell command in the guest, which must succeed."""
        with agent.Agent(self.agent_path, self.definition.name, 60) as connection:
            arguments = {"path": "/bin/sh", "arg": ["-ec", text], "capture-output": True}
            pid = connection.call("guest-exec", **arguments)["pid"]
            while not (status := connection.call("guest-exec-status", pid=pid))["exited"]:
                time.sleep(0.1)
        error = base64.b64decode(status.get("err-data", "")).decode()
        assert status["exitcode"] == 0, error
        return base64.b64decode(status.get("out-data", "")).decode()


@pytest.fixture(scope="module")
def guest(lab: Lab, bridge: str) -> Iterator[Guest]:
    patch = pytest.MonkeyPatch()
    # Small, so that a guest under emulation can fill it.
    patch.setattr(command, "CONSOLE_LOG_BYTES", 64 * 1024)
    source = lab.root / "shared,directory"
    source.mkdir()
    (source / "greeting").write_text("from the host")
    config = {"limits.cpu": Cpus(2), "cloud-init.user-data": "#cloud-config\n{secret: sesame}\n"}
    shares = [DiskDefinition("data", str(source), "/data")]
    shares.append(DiskDefinition("fixed", str(source), "/fixed", is_readonly=True))
    changes = {"nics": (nic(0), nic(1)), "disks": tuple(shares), "memory_bytes": 768 * MIB}
    definition = lab.define("guest", config=config, **changes)
    lab.driver.start(definition)
    try:
        await_agent(lab, definition)
        yield Guest(lab, definition)
    finally:
        patch.undo()
        lab.driver.kill(definition)


@pytest.mark.vm
class TestGuest:
    """One machine, booted once. The last test shuts it down."""

    def test_every_thread_runs_without_rights(self, guest: Guest) -> None:
        tasks = list(Path(f"/proc/{guest.pid}/task").iterdir())
        assert len(tasks) > 2
        for task in tasks:
            status = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
            assert {status[f"Cap{name}"].strip() for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
            assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
            assert status["Uid"].split() == status["Gid"].split() == [str(UID)] * 4
            assert not status["Groups"].split()
        limits = Path(f"/proc/{guest.pid}/limits").read_text()
        assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
        assert guest.driver.missing(guest.definition) == ()

    def test_qemu_sees_nothing_of_the_host(self, guest: Guest) -> None:
        root = Path(f"/proc/{guest.pid}/root")
        assert {path.name for path in root.iterdir()} <= {
            *("usr", "dev", "etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32"),
        }
        assert {path.name for path in (root / "etc").iterdir()} <= {"ld.so.cache", "alternatives"}
        mounts = Path(f"/proc/{guest.pid}/mounts").read_text()
        assert str(guest.lab.root) not in mounts
        assert all(" ro," in line for line in mounts.splitlines() if " /dev/" not in line)
        devices = Path(f"/proc/{guest.pid}/net/dev").read_text().splitlines()[2:]
        assert [line.split(":")[0].strip() for line in devices] == ["lo"]
        for kind in ("mnt", "net", "ipc", "uts"):
            assert os.readlink(f"/proc/{guest.pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}")

    def test_its_descriptors_are_the_listed_ones(self, guest: Guest) -> None:
        description = json.loads((Path(guest.definition.directory) / "qemu.json").read_text())
        listed = {item["path"] for item in description["resources"] if "path" in item}
        links = {os.readlink(path) for path in Path(f"/proc/{guest.pid}/fd").iterdir()}
        ours = {"/console.log", "/dev/net/tun", "/dev/null", f"{guest.definition.directory}/qemu.log"}
        opened = {link for link in links if link.startswith("/") and not link.startswith("/memfd:")}
        assert opened <= listed | ours
        assert opened >= {guest.definition.root, guest.definition.backing, *ours}

    def test_orders_to_read_the_host_fail(self, guest: Guest) -> None:
        with Qmp(Path(guest.definition.run_directory) / "qmp.sock", guest.pid) as monitor:
            for path in ("/etc/passwd", "/proc/self/environ", guest.definition.backing, guest.definition.root):
                node = {"driver": "file", "node-name": "stolen", "filename": path, "read-only": True}
                with pytest.raises(QmpError, match=r"No such file|Permission denied"):
                    monitor.execute("blockdev-add", node)

    def test_its_limits_are_in_force(self, guest: Guest) -> None:
        group = guest.definition.cgroup
        assert f":/{group}\n" in Path(f"/proc/{guest.pid}/cgroup").read_text()
        if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
            memory = int(Path(f"/sys/fs/cgroup/memory/{group}/memory.limit_in_bytes").read_text())
            assert 768 * MIB < memory < 2048 * MIB
            assert int(Path(f"/sys/fs/cgroup/pids/{group}/pids.max").read_text()) < 1000
            assert "a *:*" not in Path(f"/sys/fs/cgroup/devices/{group}/devices.list").read_text()

    def test_the_guest_has_what_it_was_given(self, guest: Guest) -> None:
        assert guest.run("nproc") == "2\n"
        assert 600 * 1024 < int(guest.run("awk '/MemTotal/ {print $2}' /proc/meminfo")) < 768 * 1024
        assert guest.run("cat /sys/class/net/e*/address") == "00:16:3e:91:00:01\n00:16:3e:91:00:00\n"
        assert guest.run("cd /sys/block; for disk in vd*; do cat $disk/serial; echo; done").split() == [
            "tandem_root",
            "tandem_seed",
        ]
        assert "tandem.stream" in guest.run("cat /sys/class/virtio-ports/*/name")
        assert guest.run("cat /sys/class/dmi/id/product_uuid").strip() == guest.definition.record.uuid

    def test_its_taps_are_up_in_the_bridge(self, guest: Guest) -> None:
        links = {link["ifname"]: link for link in ip("link", "show", "master", BRIDGE)}
        assert set(links) == {"tvq0", "tvq1"}
        for number in (0, 1):
            assert "UP" in links[f"tvq{number}"]["flags"]
            assert links[f"tvq{number}"]["address"] == f"fe:16:3e:91:00:0{number}"
            assert links[f"tvq{number}"]["linkinfo"]["info_data"]["persist"] is False

    def test_frames_pass_both_ways(self, guest: Guest) -> None:
        name = guest.run("grep -l 00:16:3e:91:00:00 /sys/class/net/*/address").split("/")[4]
        guest.run(f"ip link set {name} up; ip address add {GUEST_ADDRESS}/24 dev {name}")
        with socket.create_server((HOST_ADDRESS, 0)) as server:
            server.settimeout(60)
            port = server.getsockname()[1]
            connect = f'import socket; print(socket.create_connection(("{HOST_ADDRESS}", {port}), 60).recv(9))'
            # The listener's queue holds the connection and what is written to it until we look.
            guest.run(f"(python3 -c '{connect}' > /run/heard) > /dev/null 2>&1 &")
            connection, (peer, _unused) = server.accept()
            with connection:
                connection.sendall(b"from host")
                assert not connection.recv(1)
        assert peer == GUEST_ADDRESS
        assert guest.run("sleep 1; cat /run/heard") == "b'from host'\n"
        found = {address.address: address for address in guest.driver.addresses(guest.definition)}
        assert found[GUEST_ADDRESS].prefix == 24
        assert found[GUEST_ADDRESS].hwaddr == "00:16:3e:91:00:00"

    def test_the_seed_is_cloud_inits(self, guest: Guest) -> None:
        text = guest.run("mount -o ro LABEL=CIDATA /mnt; cat /mnt/user-data /mnt/meta-data; umount /mnt")
        assert text.startswith("#cloud-config\n{secret: sesame}\n")
        assert json.loads(text.splitlines()[-1])["local-hostname"] == "guest"
        command_line = Path(f"/proc/{guest.pid}/cmdline").read_bytes()
        assert b"sesame" not in command_line
        assert stat_mode(Path(guest.definition.directory) / "seed.img") == 0o600

    def test_a_host_directory_is_shared(self, guest: Guest) -> None:
        assert guest.run("cat /data/greeting; echo back > /data/answer") == "from the host"
        assert (guest.lab.root / "shared,directory/answer").read_text() == "back\n"
        with pytest.raises(AssertionError, match="Read-only file system"):
            guest.run("echo no > /fixed/answer")

    def test_the_disk_grows_while_it_runs(self, guest: Guest) -> None:
        before = disk.virtual_size(Path(guest.definition.root))
        guest.driver.grow_disk(guest.definition, before + 512 * MIB)
        guest.driver.grow_disk(guest.definition, before + 512 * MIB)
        assert disk.virtual_size(Path(guest.definition.root)) == before + 512 * MIB
        assert int(guest.run("cat /sys/block/vda/size")) * 512 == before + 512 * MIB
        with pytest.raises(Conflict, match="cannot shrink"):
            guest.driver.grow_disk(guest.definition, before)

    def test_its_use_is_known(self, guest: Guest) -> None:
        usage = guest.driver.usage(guest.definition)
        assert 64 * MIB < (usage.memory_bytes or 0) < 2048 * MIB
        assert usage.memory_limit_bytes == 768 * MIB
        assert (usage.cpu_seconds or 0) > 1

    def test_the_console_is_kept_and_bounded(self, guest: Guest) -> None:
        kept = Path(guest.definition.directory) / "console.log"
        guest.driver.save_console(guest.definition)
        assert b"Linux version" in kept.read_bytes()
        guest.run("head -c 200000 /dev/zero | tr '\\0' x > /dev/ttyS0")
        before = kept.stat().st_size
        guest.driver.save_console(guest.definition)
        assert 32 * 1024 < kept.stat().st_size - before <= 64 * 1024
        guest.run("echo after the flood > /dev/ttyS0")
        guest.driver.save_console(guest.definition)
        assert kept.read_bytes().endswith(b"after the flood\r\n")

    def test_the_console_can_be_talked_to(self, guest: Guest) -> None:
        os.chdir(guest.definition.run_directory)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as console:
            console.connect("console.sock")
            console.settimeout(30)
            console.sendall(b"\r")
            seen = b""
            while b"login:" not in seen:
                seen += console.recv(4096)
        os.chdir("/")

    def test_sockets_are_roots_alone(self, guest: Guest) -> None:
        directory = Path(guest.definition.run_directory)
        assert stat_mode(directory) == 0o700
        found = {path.name: stat_mode(path) for path in directory.glob("*.sock")}
        assert found == dict.fromkeys(("qmp.sock", "console.sock", "qga.sock", "stream.sock"), 0o600)

    def test_it_shuts_down_when_asked_even_when_frozen_and_leaves_nothing(self, guest: Guest) -> None:
        # Makes room for what it prints when it shuts down.
        guest.driver.save_console(guest.definition)
        guest.driver.freeze(guest.definition)
        guest.driver.stop(guest.definition, 90)
        assert guest.driver.power(guest.definition) is Power.STOPPED
        assert not leftovers(guest.lab, guest.definition)
        assert b"Power down" in (Path(guest.definition.directory) / "console.log").read_bytes()


@pytest.mark.vm
def test_firmware_boots_it_and_the_launch_program_stops_it(lab: Lab) -> None:
    """As at boot and shutdown of a host with systemd: the launch program alone."""
    definition = lab.define("firmware", config={"limits.cpu": Cpus(2)}, boot=Boot())
    program_file = ["/usr/bin/python3", "-I", "-S", f"{definition.directory}/launch"]
    process = subprocess.Popen(program_file)
    try:
        while not Path(f"{definition.run_directory}/started.json").exists():
            assert process.poll() is None
            time.sleep(0.05)
        await_agent(lab, definition)
        assert lab.driver.pid(definition) == process.pid
        subprocess.run([*program_file, "stop", "90"], check=True)
        assert process.wait(5) == 0
        lab.driver.clean(definition)
        assert not leftovers(lab, definition)
    finally:
        process.kill()
        process.wait()


def stat_mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


class TestFiles:
    """Disks and seeds, without any machine."""

    @pytest.fixture
    def base(self, tmp_path: Path) -> Path:
        path = tmp_path / "base image,1.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "64M"], check=True)
        return path

    def test_an_overlay_states_its_formats(self, base: Path, tmp_path: Path) -> None:
        path = tmp_path / "root.qcow2"
        disk.create_overlay(path, base, 128 * MIB)
        done = subprocess.run(["qemu-img", "info", "--output=json", path], capture_output=True, check=True)
        facts = json.loads(done.stdout)
        assert (facts["format"], facts["backing-filename-format"]) == ("qcow2", "qcow2")
        assert facts["full-backing-filename"] == str(base)
        assert disk.virtual_size(path) == 128 * MIB
        assert stat_mode(path) == 0o600

    def test_an_overlay_is_as_large_as_its_image_unless_told(self, base: Path, tmp_path: Path) -> None:
        disk.create_overlay(tmp_path / "root.qcow2", base)
        assert disk.virtual_size(tmp_path / "root.qcow2") == 64 * MIB

    def test_an_overlay_smaller_than_its_image_is_refused(self, base: Path, tmp_path: Path) -> None:
        with pytest.raises(Conflict, match="too small for its image"):
            disk.create_overlay(tmp_path / "root.qcow2", base, MIB)
        assert not (tmp_path / "root.qcow2").exists()

    def test_a_disk_grows_and_never_shrinks(self, base: Path) -> None:
        assert disk.grow(base, 96 * MIB)
        assert not disk.grow(base, 96 * MIB)
        with pytest.raises(Conflict, match="cannot shrink"):
            disk.grow(base, 64 * MIB)
        assert disk.virtual_size(base) == 96 * MIB

    def test_a_format_is_never_probed(self, tmp_path: Path) -> None:
        path = tmp_path / "raw"
        path.write_bytes(b"\0" * MIB)
        with pytest.raises(CommandFailed):
            disk.virtual_size(path)

    @pytest.mark.parametrize("size", [0, 10, 300_000])
    def test_a_seed_holds_its_texts(self, tmp_path: Path, size: int) -> None:
        path = tmp_path / "seed.img"
        texts = {"meta-data": "{}\n", "user-data": "#cloud-config\nä: " + "x" * size, "network-config": "version: 2\n"}
        seed.write_seed(path, texts)
        for name, text in texts.items():
            done = subprocess.run(["mtype", "-i", path, f"::{name}"], capture_output=True, check=True)
            assert done.stdout.decode() == text
        label = subprocess.run(["mlabel", "-s", "-i", path, "::"], capture_output=True, text=True, check=True)
        assert "CIDATA" in label.stdout
        assert stat_mode(path) == 0o600
        assert seed.seed_digest(texts) != seed.seed_digest({**texts, "meta-data": ""})
