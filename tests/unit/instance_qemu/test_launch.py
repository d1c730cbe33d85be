# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The launch program, as far as it can be tried without being root: it stands alone and says what it misses."""

from __future__ import annotations

import ast
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import TimedOut
from ansible_collections.tandem.machines.plugins.module_utils._host.process import Process
from ansible_collections.tandem.machines.plugins.module_utils._instance.qemu import launch, startup

SOURCE = Path(launch.__file__)
MACHINE = {"uid": 2000001, "gid": 2000001, "argv": ["/usr/bin/qemu-system-x86_64", "-name", "guest=web1"]}


def test_it_is_a_program_of_the_standard_library_for_python_3_9() -> None:
    tree = ast.parse(SOURCE.read_text(), feature_version=(3, 9))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_qemu_is_executed_without_any_right() -> None:
    command = launch.setpriv_command(MACHINE)
    assert command[command.index("--reuid") + 1] == command[command.index("--regid") + 1] == "2000001"
    for option in ("--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all"):
        assert option in command
    assert command[command.index("--") + 1 :] == MACHINE["argv"]


@pytest.mark.parametrize("source", ["/srv/data", "/srv/a,sandbox=none", "/srv/back\\slash"])
def test_a_path_cannot_become_an_option_of_virtiofsd(source: str) -> None:
    command = launch.virtiofsd_command({"program": "/v", "source": source}, 7)
    (option,) = [word for word in command if word.startswith("source=")]
    assert option.replace("\\\\", "\0").replace("\\,", "").count(",") == 0
    assert option[len("source=") :].replace("\\,", ",").replace("\\\\", "\\") == source


def test_a_text_is_opened_as_a_file() -> None:
    descriptor = launch.open_text({"name": "fstab", "text": "tandem-a /ä virtiofs rw 0 0\n"}, {}, [])
    # As QEMU does, by a name that opens it anew.
    assert Path(f"/dev/fd/{descriptor}").read_text(encoding="utf-8") == "tandem-a /ä virtiofs rw 0 0\n"
    os.close(descriptor)


def test_version_1_has_a_group_in_each_hierarchy_and_a_missing_one_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "CGROUP_ROOT", str(tmp_path))
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory/cgroup.procs").touch()
    settings = {"memory": [["memory.limit_in_bytes", "5"]], "pids": [["pids.max", "7"]]}
    missing: list[str] = []
    launch.join_groups({"path": "tandem/web1", "v1": settings, "v2": []}, missing)
    assert (tmp_path / "memory/tandem/web1/memory.limit_in_bytes").read_text() == "5"
    assert (tmp_path / "memory/tandem/web1/cgroup.procs").read_text() == str(os.getpid())
    assert missing == ["control group pids (No such file or directory)"]
    assert not (tmp_path / "pids").exists()


@pytest.mark.parametrize("path", ["web1", "tandem/web1"])
def test_version_2_has_one_group_and_its_controllers_are_handed_down(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "CGROUP_ROOT", str(tmp_path))
    (tmp_path / "cgroup.controllers").write_text("memory pids")
    missing: list[str] = []
    groups = {"path": path, "v1": {"memory": [["no", "no"]]}, "v2": [["memory.max", "5"], ["pids.max", "7"]]}
    launch.join_groups(groups, missing)
    group = tmp_path / path
    assert (group / "memory.max").read_text() == "5"
    assert (group / "pids.max").read_text() == "7"
    assert (group / "cgroup.procs").read_text() == str(os.getpid())
    for level in sorted({tmp_path, group.parent}):
        assert (level / "cgroup.subtree_control").read_text() == "+memory +pids"
    assert not (group / "cgroup.subtree_control").exists()
    assert not missing


def test_a_limit_that_cannot_be_set_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "CGROUP_ROOT", str(tmp_path))
    (tmp_path / "memory/tandem/web1/memory.limit_in_bytes").mkdir(parents=True)
    (tmp_path / "memory/cgroup.procs").touch()
    missing: list[str] = []
    launch.join_groups({"path": "tandem/web1", "v1": {"memory": [["memory.limit_in_bytes", "5"]]}, "v2": []}, missing)
    assert missing == ["control group setting memory.limit_in_bytes (Is a directory)"]


def test_a_running_machine_is_recognised_and_an_ended_one_is_not(tmp_path: Path) -> None:
    process = Process.of(os.getpid())
    assert process is not None
    record = tmp_path / launch.STARTED
    record.write_text(json.dumps({"process": process.record()}))
    assert launch.read_started(str(tmp_path)) == os.getpid()
    with pytest.raises(launch.LaunchError, match=f"it runs already as process {os.getpid()}"):
        launch.require_not_running(str(tmp_path))
    for change in ({"start_time": 1}, {"boot_id": "another"}, {"pid": 2**22 + 1}):
        record.write_text(json.dumps({"process": {**process.record(), **change}}))
        assert launch.read_started(str(tmp_path)) is None
    record.write_text("{")
    assert launch.read_started(str(tmp_path)) is None


def test_a_description_of_another_version_is_refused(tmp_path: Path) -> None:
    program = tmp_path / "launch"
    program.write_bytes(SOURCE.read_bytes())
    (tmp_path / "qemu.json").write_text(json.dumps({"schema": 99}))
    done = subprocess.run([sys.executable, "-I", str(program)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "launch: qemu.json has schema 99, this program reads 1\n")


def test_a_missing_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(launch.LaunchError, match=r"root\.qcow2 cannot be opened: No such file"):
        launch.open_file({"path": str(tmp_path / "root.qcow2"), "write": True}, {}, [])


class TestStartup:
    """The module's end of the conversation."""

    @pytest.fixture
    def process(self) -> Any:
        found = Process.of(os.getpid())
        assert found is not None
        return found

    def test_a_complaint_is_heard(self, tmp_path: Path, process: Process) -> None:
        with startup.listening(tmp_path) as listener:
            client = launch.connect_notify(str(tmp_path))
            assert client is not None
            client.sendall(b"no bridge")
            client.close()
            assert startup.await_launch(listener, process, 5) == "no bridge"
        assert not list(tmp_path.iterdir())

    def test_the_end_of_the_stream_means_that_qemu_was_executed(self, tmp_path: Path, process: Process) -> None:
        with startup.listening(tmp_path) as listener:
            client = launch.connect_notify(str(tmp_path))
            assert client is not None
            client.close()
            assert startup.await_launch(listener, process, 5) == ""

    def test_a_program_that_ends_without_a_word_is_not_waited_for(self, tmp_path: Path) -> None:
        child = subprocess.Popen(["/bin/sleep", "60"])
        ended = Process.of(child.pid)
        child.kill()
        with startup.listening(tmp_path) as listener:
            assert startup.await_launch(listener, ended, 5) == ""
            child.wait()
            assert startup.await_launch(listener, None, 5) == ""

    def test_a_program_that_hangs_is_given_up(self, tmp_path: Path, process: Process) -> None:
        with startup.listening(tmp_path) as listener:
            with pytest.raises(TimedOut, match="launch program to begin"):
                startup.await_launch(listener, process, 0.1)
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            client.connect(str(tmp_path / launch.NOTIFY_SOCKET))
            with client, pytest.raises(TimedOut, match="to execute QEMU"):
                startup.await_launch(listener, process, 0.1)

    def test_at_boot_nobody_listens(self, tmp_path: Path) -> None:
        assert launch.connect_notify(str(tmp_path)) is None
