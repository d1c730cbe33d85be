# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Ansible's own modules inside real guests, through the connection plugin."""

from __future__ import annotations

import getpass
import hashlib
import os
import pwd
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.tests.integration import guests as made
from ansible_collections.tandem.machines.tests.integration.guests import Guest
from ansible_collections.tandem.machines.tests.integration.runner import Ansible, Run, TaskResult

MIB = 1024 * 1024
PASSWORD = "se cret'1"


@pytest.fixture(scope="module")
def guests(
    prepared_host: Ansible, debian_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Guest]]:
    ansible = Ansible(tmp_path_factory.mktemp("guests"), prepared_host.root)
    found = made.create(ansible, debian_image, "test-plug")
    for guest in found.values():
        guest.shell("id joe 2>/dev/null || useradd --create-home --shell /bin/bash joe")
        guest.shell("chpasswd", stdin=f"joe:{PASSWORD}\nroot:{PASSWORD}\n".encode())
        guest.shell("echo 'joe ALL=(ALL) ALL' >/etc/sudoers.d/joe")
    yield found
    made.remove(ansible, found)


@pytest.fixture(params=made.TYPES)
def guest(request: pytest.FixtureRequest, guests: dict[str, Guest]) -> Guest:
    return guests[request.param]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """Variables that lead to this machine by ssh: an sshd of the test's own on loopback."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        pytest.skip("needs sshd: install package openssh-server")
    try:
        pwd.getpwnam("sshd")
    except KeyError:
        pytest.skip("needs the user sshd: install package openssh-server")
    directory = tmp_path_factory.mktemp("sshd")
    for key in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / key)], check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = {
        "ListenAddress": f"127.0.0.1:{port}",
        "HostKey": directory / "host",
        "AuthorizedKeysFile": directory / "user.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
    }
    (directory / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    Path("/run/sshd").mkdir(exist_ok=True)
    server = subprocess.Popen([program, "-D", "-e", "-f", str(directory / "config")], stderr=subprocess.PIPE)
    assert server.stderr is not None
    assert b"listening" in server.stderr.readline()
    yield {
        "ansible_host": "127.0.0.1",
        "ansible_port": port,
        "ansible_user": getpass.getuser(),
        "ansible_ssh_private_key_file": str(directory / "user"),
        "ansible_ssh_common_args": "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR",
        "ansible_control_path_dir": str(directory),
        "ansible_ssh_args": "-o ControlMaster=auto -o ControlPersist=10s",
    }
    server.terminate()
    server.wait(10)


def inventory(guest: Guest, host: Mapping[str, Any] | None = None, **variables: Any) -> dict[str, Any]:
    shared = {
        "ansible_connection": "tandem.machines.instance",
        "ansible_tandem_root": str(guest.root),
        "ansible_tandem_host": "" if host is None else "hypervisor",
        "ansible_tandem_agent_timeout": made.BOOT_SECONDS,
        "ansible_python_interpreter": "/usr/bin/python3",
        # Emulated guests on a busy machine take long to ask for a password.
        "ansible_ssh_timeout": 60,
    }
    hosts = {guest.name: {**shared, **variables}, "hypervisor": {**(host or {})}}
    return {"all": {"hosts": hosts}}


def tasks(ansible: Ansible, guest: Guest, *tasks: Mapping[str, Any], **variables: Any) -> list[TaskResult]:
    return ansible.tasks(*tasks, inventory=inventory(guest, **variables), hosts=guest.name)


def play(ansible: Ansible, guest: Guest, task: Mapping[str, Any], host: Any = None, **variables: Any) -> Run:
    """One task that may fail."""
    plays = [{"hosts": guest.name, "gather_facts": False, "tasks": [task]}]
    return ansible.playbook(plays, inventory=inventory(guest, host, **variables))


def test_ping_setup_user_and_service(ansible: Ansible, guest: Guest) -> None:
    ping, facts, user, again, service, gone = tasks(
        ansible,
        guest,
        {"ansible.builtin.ping": {}},
        {"ansible.builtin.setup": {"gather_subset": ["!all", "!min", "platform", "user", "service_mgr"]}},
        {"ansible.builtin.user": {"name": "ann", "uid": 2345}},
        {"ansible.builtin.user": {"name": "ann", "uid": 2345}},
        {"ansible.builtin.systemd_service": {"name": "systemd-journald", "state": "restarted"}},
        {"ansible.builtin.user": {"name": "ann", "state": "absent", "remove": True}},
    )
    assert ping["ping"] == "pong"
    assert facts["ansible_facts"]["ansible_hostname"] == guest.name
    assert facts["ansible_facts"]["ansible_user_id"] == "root"
    assert facts["ansible_facts"]["ansible_service_mgr"] == "systemd"
    assert [user.changed, again.changed, service.changed, gone.changed] == [True, False, True, True]


@pytest.mark.parametrize("size", [0, 1, 3 * MIB])
@pytest.mark.parametrize("pipelining", [True, False], ids=["pipelining", "no-pipelining"])
def test_copy_and_fetch_are_exact(ansible: Ansible, guest: Guest, tmp_path: Path, size: int, pipelining: bool) -> None:
    data = os.urandom(size)
    source = tmp_path / "source"
    source.write_bytes(data)
    copy, again, _unused = tasks(
        ansible,
        guest,
        {"ansible.builtin.copy": {"src": str(source), "dest": "/root/it's a file"}},
        {"ansible.builtin.copy": {"src": str(source), "dest": "/root/it's a file"}},
        {"ansible.builtin.fetch": {"src": "/root/it's a file", "dest": f"{tmp_path}/fetched", "flat": True}},
        ansible_pipelining=pipelining,
    )
    assert [copy.changed, again.changed] == [True, False]
    assert (tmp_path / "fetched").read_bytes() == data


@pytest.mark.parametrize("over_ssh", [False, True], ids=["local", "ssh"])
def test_files_larger_than_a_piece(
    ansible: Ansible, guest: Guest, tmp_path: Path, over_ssh: bool, request: pytest.FixtureRequest
) -> None:
    host = request.getfixturevalue("sshd") if over_ssh else None
    source = tmp_path / "source"
    source.write_bytes(os.urandom(64 * MIB))
    tasks(
        ansible,
        guest,
        {"ansible.builtin.copy": {"src": str(source), "dest": "/var/tmp/large"}},
        {"ansible.builtin.fetch": {"src": "/var/tmp/large", "dest": f"{tmp_path}/fetched", "flat": True}},
        {"ansible.builtin.file": {"path": "/var/tmp/large", "state": "absent"}},
        host=host,
    )
    digests = [hashlib.sha256((tmp_path / name).read_bytes()).digest() for name in ("source", "fetched")]
    assert digests[0] == digests[1]


@pytest.mark.parametrize("over_ssh", [False, True], ids=["local", "ssh"])
@pytest.mark.parametrize("status", [0, 1, 125, 254, 255])
def test_status_output_and_errors_are_exact(
    ansible: Ansible, guest: Guest, over_ssh: bool, status: int, request: pytest.FixtureRequest
) -> None:
    host = request.getfixturevalue("sshd") if over_ssh else None
    task = {"ansible.builtin.raw": f"printf 'a\\r\\nb\\n\\n'; echo err >&2; exit {status}"}
    result = play(ansible, guest, task, host).results[-1]
    assert (result["rc"], result["stdout"], result["stderr"]) == (status, "a\r\nb\n\n", "err\n")
    assert result.status == ("ok" if status == 0 else "failed")


@pytest.mark.parametrize("over_ssh", [False, True], ids=["local", "ssh"])
@pytest.mark.parametrize(
    ("method", "pipelining"), [("sudo", True), ("sudo", False), ("su", True)], ids=["sudo-pipelining", "sudo", "su"]
)
def test_becoming_with_a_password(
    ansible: Ansible, guest: Guest, over_ssh: bool, method: str, pipelining: bool, request: pytest.FixtureRequest
) -> None:
    host = request.getfixturevalue("sshd") if over_ssh else None
    become = {"become": True, "become_method": method}
    variables = {"ansible_user": "joe", "ansible_become_password": PASSWORD, "ansible_pipelining": pipelining}
    (done,) = tasks(ansible, guest, {"ansible.builtin.command": "id -un", **become}, host=host, **variables)
    assert done["stdout"] == "root"
    wrong = play(
        ansible,
        guest,
        {"ansible.builtin.command": "id -un", **become},
        host,
        **{**variables, "ansible_become_password": "wrong"},
    ).results[-1]
    assert wrong.status in ("failed", "unreachable")
    assert "tandem-" not in wrong.message


def test_becoming_somebody_without_rights(ansible: Ansible, guest: Guest) -> None:
    task = {"ansible.builtin.command": "id -un", "become": True, "become_user": "joe"}
    assert tasks(ansible, guest, task)[0]["stdout"] == "joe"


@pytest.mark.parametrize("user", ["joe", "1000"])
def test_being_another_user_inside(ansible: Ansible, guest: Guest, user: str) -> None:
    (done,) = tasks(ansible, guest, {"ansible.builtin.shell": "id -un; pwd; echo $HOME"}, ansible_user=user)
    assert done["stdout_lines"] == ["joe", "/home/joe", "/home/joe"]


def test_scripts_and_background_tasks(ansible: Ansible, guest: Guest, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text('#!/bin/sh\necho "got $1"\n')
    ran, later = tasks(
        ansible,
        guest,
        {"ansible.builtin.script": f"{script} this"},
        {"ansible.builtin.command": "sleep 2", "async": 60, "poll": 1},
    )
    assert ran["stdout_lines"] == ["got this"]
    assert later["rc"] == 0


def test_what_is_wrong_is_said_in_one_line(ansible: Ansible, guest: Guest) -> None:
    def message(**variables: Any) -> str:
        result = play(ansible, guest, {"ansible.builtin.ping": {}}, **variables).results[-1]
        assert result.status == "unreachable"
        return result.message

    assert message(ansible_tandem_instance="test-none").endswith(
        f"instance test-none does not exist on this host below {guest.root}: create it first"
    )
    assert message(ansible_user="ghost").endswith(
        f"instance {guest.name}: user ghost does not exist in the guest: name one that does"
    )
    assert "/no/python: not found" in message(ansible_tandem_host_python="/no/python")
    assert "instance name '../x' is not valid" in message(ansible_tandem_instance="../x")
