# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The connection plugin without a guest: whose options go where, and what is read from the way to the host."""

from __future__ import annotations

import ast
import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible_collections.tandem.machines.plugins.connection.instance import Connection, render_program
from ansible_collections.tandem.machines.tests.integration.runner import Ansible, Run
from ansible_collections.tandem.machines.tests.unit.imports import MODULE_UTILS, closure

OPTIONS = {
    "remote_addr": "web1",
    "remote_user": "root",
    "host": "",
    "host_become": True,
    "host_python": "/usr/bin/python3",
    "root": "/nonexistent",
    "agent_timeout": 1,
    "lock_timeout": 1,
}
# In place of ssh: notes its arguments under the guest's name, and runs the command here.
_SSH = """#!/bin/sh
for command; do :; done
guest=$(printf %s "$command" | sed 's/.*"instance": "\\([^"]*\\)".*/\\1/')
printf '%s\\n' "$@" >"$(dirname "$0")/$guest.ssh"
exec /bin/sh -c "$command"
"""
HOSTS = {
    "localhost": {"ansible_connection": "local"},
    "kvm1": {"ansible_host": "10.0.0.5", "ansible_user": "admin", "ansible_port": 2222},
    "me": {"ansible_connection": "local"},
}
GUESTS: Mapping[str, Mapping[str, Any]] = {
    "plain": {"ansible_tandem_host": "kvm9.example.org"},
    "own": {
        "ansible_tandem_host": "kvm9",
        "ansible_ssh_user": "root",
        "ansible_ssh_port": 22022,
        "ansible_ssh_common_args": "-J jump",
        "ansible_user": "www",
        "ansible_port": 99,
    },
    "known": {"ansible_tandem_host": "kvm1", "ansible_user": "www"},
    "mixed": {"ansible_tandem_host": "kvm1", "ansible_ssh_port": 2022},
    "renamed": {"ansible_tandem_host": "kvm1", "ansible_tandem_instance": "other-name"},
    "here": {"ansible_tandem_host": "localhost"},
    "empty": {},
    "by-inventory": {"ansible_tandem_host": "me"},
}


class Outing:
    """One run of a task on every guest above, and what ssh was given for each."""

    def __init__(self, directory: Path, run: Run) -> None:
        self._directory = directory
        self.messages = {result.host: result.message for result in run.results}
        self.output = run.output

    def ssh(self, instance: str) -> str | None:
        noted = self._directory / f"{instance}.ssh"
        return " ".join(noted.read_text().splitlines()[:-1]) if noted.exists() else None


@pytest.fixture(scope="module")
def outing(tmp_path_factory: pytest.TempPathFactory) -> Outing:
    directory = tmp_path_factory.mktemp("ssh")
    ssh = directory / "ssh"
    ssh.write_text(_SSH)
    ssh.chmod(0o755)
    shared = {
        "ansible_connection": "tandem.machines.instance",
        "ansible_tandem_root": "/nonexistent",
        "ansible_tandem_host_become": False,
        "ansible_ssh_executable": str(ssh),
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    inventory = {"all": {"hosts": HOSTS, "children": {"guests": {"hosts": GUESTS, "vars": shared}}}}
    play = {
        "hosts": "guests",
        "gather_facts": False,
        "remote_user": "player",
        "tasks": [{"ansible.builtin.ping": {}}],
    }
    run = Ansible(directory, Path("/nonexistent")).playbook([play], "--forks", "8", inventory=inventory)
    return Outing(directory, run)


@pytest.mark.parametrize("guest", [*GUESTS])
def test_every_way_leads_to_the_program_on_the_host(outing: Outing, guest: str) -> None:
    name = GUESTS[guest].get("ansible_tandem_instance", guest)
    assert f"instance {name} does not exist on this host below /nonexistent" in outing.messages[guest], outing.output


@pytest.mark.parametrize("guest", ["here", "empty", "by-inventory"])
def test_this_machine_needs_no_ssh(outing: Outing, guest: str) -> None:
    assert outing.ssh(guest) is None


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        ("plain", ["kvm9.example.org"]),
        ("own", ["kvm9", "Port=22022", 'User="root"', "-J jump"]),
        ("known", ["10.0.0.5", "Port=2222", 'User="admin"']),
        ("mixed", ["10.0.0.5", "Port=2022", 'User="admin"']),
        ("other-name", ["10.0.0.5"]),
    ],
)
def test_options_of_ssh_are_about_the_host(outing: Outing, instance: str, expected: list[str]) -> None:
    """Variables that begin with ansible_ssh_, and the host's own where it is in the inventory."""
    arguments = outing.ssh(instance)
    assert arguments is not None
    for argument in expected:
        assert argument in arguments
    assert arguments.split()[-1] == expected[0]
    for about_the_guest in ("www", "player", "Port=99", "-tt"):
        assert about_the_guest not in arguments


def test_what_is_sent_is_all_that_the_program_imports() -> None:
    program = render_program().replace("exec(", "print(", 1)
    printed = subprocess.run(["python3", "-c", program], capture_output=True, text=True, check=True).stdout
    text = ast.literal_eval(printed).decode()
    sources = ast.literal_eval(text.partition("\n")[0].removeprefix("SOURCES = "))
    sent = {name.removeprefix("tandem.").replace(".", "/") + ".py" for name, source in sources.items() if source}
    assert sent == {path.relative_to(MODULE_UTILS).as_posix() for path in closure(MODULE_UTILS / "_instance/enter.py")}


class FakeWay:
    """Stands for the connection to the host."""

    def __init__(self, status: int, out: bytes, err: str) -> None:
        self._answer = (status, out, err)

    def set_become_plugin(self, plugin: object) -> None:
        pass

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        self.request = json.loads(shlex.split(cmd)[-1])
        self.in_data = in_data
        status, out, err = self._answer
        return status, out, err.replace("MARK", self.request["mark"]).encode()


def guest_with(way: Any = None, **options: Any) -> Any:
    """The plugin as it is when connected; __init__ needs a play."""
    guest = object.__new__(Connection)
    guest.__dict__.update(_options={**OPTIONS, **options}, _way=way, _connected=True, become=None)
    return guest


def run(status: int, err: str, out: bytes = b"", in_data: bytes | None = None) -> tuple[FakeWay, Any]:
    way = FakeWay(status, out, err)
    return way, guest_with(way).exec_command("id", in_data=in_data)


@pytest.mark.parametrize(
    ("status", "err", "expected"),
    [
        (0, "MARK entered\n", (0, b"", b"")),
        (3, "Warning: x\nMARK entered\nerror\n", (3, b"", b"Warning: x\nerror\n")),
        (254, "MARK entered\nerror\nMARK 255\n", (255, b"", b"error\n")),
        (254, "MARK entered\n", (254, b"", b"")),
        (125, "MARK entered\n", (125, b"", b"")),
    ],
)
def test_status_and_errors_are_the_commands_own(status: int, err: str, expected: tuple[int, bytes, bytes]) -> None:
    assert run(status, err)[1] == expected


@pytest.mark.parametrize(
    ("status", "err", "message"),
    [
        (1, "sudo: a password is required\n", "cannot enter instance web1: sudo: a password is required"),
        (127, "/bin/sh: 1: /usr/bin/python3: not found\n", "cannot enter instance web1: .*not found"),
        (125, "MARK error instance web1 is stopped: start it\n", "^instance web1 is stopped: start it$"),
        (125, "MARK entered\nMARK error user joe does not exist\n", "^instance web1: user joe does not exist$"),
    ],
)
def test_a_guest_that_was_not_reached_is_unreachable(status: int, err: str, message: str) -> None:
    with pytest.raises(AnsibleConnectionFailure, match=message):
        run(status, err)


def test_a_command_without_input_gets_none() -> None:
    assert run(0, "MARK entered\n")[0].request["input"] is False
    way, _unused = run(0, "MARK entered\n", in_data=b"x")
    assert (way.request["input"], way.in_data) == (True, b"x")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(AnsibleError, match="cannot read"):
        guest_with().put_file(str(tmp_path / "none"), "/root/x")


@pytest.mark.parametrize(("uid", "become", "expected"), [("0", True, ""), ("5", True, "sudo -n "), ("5", False, "")])
def test_who_is_not_root_on_the_host_becomes_root(tmp_path: Path, uid: str, become: bool, expected: str) -> None:
    for name, text in {"id": f"echo {uid}", "sudo": 'echo "sudo $1"; shift; exec "$@"'}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    guest = guest_with(host_become=become, host_python="python3")
    line = guest._on_the_host("mark", {"mark": "mark", "root": "/nonexistent", "instance": "web1", "input": False})
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    done = subprocess.run(["/bin/sh", "-c", line], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == expected.strip()
    assert (done.returncode, done.stderr[:31]) == (125, "mark error instance web1 does n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["id", "sudo"], "the program's file is removed"
