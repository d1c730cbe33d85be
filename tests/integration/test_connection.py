# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Ansible's own modules inside real guests, through the connection plugin."""

from __future__ import annotations

import getpass
import os
import select
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.tests.integration import guests as made
from ansible_collections.tandem.machines.tests.integration.guests import PASSWORD, Guest
from ansible_collections.tandem.machines.tests.integration.runner import CHECKOUT, Ansible, TaskResult

MIB = 1024 * 1024


@pytest.fixture(params=made.TYPES)
def guest(request: pytest.FixtureRequest, guests: dict[str, Guest]) -> Iterator[Guest]:
    found = guests[request.param]
    yield found
    await_programs(found)


def await_programs(guest: Guest) -> None:
    """Block until the programs that enter the guest have ended: Ansible leaves one to itself, to end when it notices
    that nobody reads any more, after a wrong password.
    """
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f'"instance": "{guest.name}"'.encode() in (path / "cmdline").read_bytes():
                await_end(int(path.name))


def await_end(pid: int) -> None:
    process = os.pidfd_open(pid)
    try:
        assert select.select([process], [], [], 60)[0], f"process {pid} goes on"
    finally:
        os.close(process)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """Variables that lead to this machine by ssh: an sshd of the test's own on loopback."""
    package = CHECKOUT / ".build" / "openssh-server"
    program = package / "usr/sbin/sshd"
    linked = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    if "not found" in linked:
        pytest.skip(f"the sshd of this distribution lacks libraries: {linked}")
    directory = tmp_path_factory.mktemp("sshd")
    # The server insists on a user of its own. Here it is one in its own mount namespace only.
    accounts = Path("/etc/passwd").read_text()
    if "\nsshd:" not in accounts:
        accounts += f"sshd:x:65533:65534::{directory}:/usr/sbin/nologin\n"
    (directory / "passwd").write_text(accounts)
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
    # Newer servers are several programs, which they look for where the package would have put them.
    for name, part in (("SshdSessionPath", "sshd-session"), ("SshdAuthPath", "sshd-auth")):
        if (package / "usr/lib/openssh" / part).exists():
            settings[name] = package / "usr/lib/openssh" / part
    (directory / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
    own = Path("/run/sshd")
    is_ours = not own.exists()
    own.mkdir(mode=0o755, exist_ok=True)
    script = 'mount --bind "$1/passwd" /etc/passwd && exec "$2" -D -e -f "$1/config"'
    server = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(directory), str(program)], stderr=subprocess.PIPE
    )
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
    if is_ours:
        own.rmdir()


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


def ways(*whole: tuple[str, str], short: list[tuple[str, str]]) -> list[Any]:
    """Parameters guest, host and is_whole: some ways with all steps; others with a few, and with all as torture.

    In an emulated guest a task takes seconds, and what differs by ssh is seen with a few.
    """
    some = [pytest.param(*way, False, id="-".join([*way, "short"])) for way in short]
    return [
        *(pytest.param(*way, True, id="-".join(way)) for way in whole),
        *some,
        *(pytest.param(*way, True, id="-".join(way), marks=pytest.mark.torture) for way in short),
    ]


def by_ways(parameters: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(("guest", "host", "is_whole"), parameters, indirect=["guest", "host"])


by_each_way = by_ways(
    [
        *ways(("container", "local"), short=[("container", "ssh"), ("virtual-machine", "local")]),
        pytest.param("virtual-machine", "ssh", True, id="virtual-machine-ssh", marks=pytest.mark.torture),
    ]
)


@pytest.fixture
def host(request: pytest.FixtureRequest) -> Any:
    """How the guest's host is reached: None here, else the variables of a host in the inventory."""
    return request.getfixturevalue("sshd") if request.param == "ssh" else None


def play(ansible: Ansible, guest: Guest, tasks: list[Mapping[str, Any]], host: Any = None) -> list[TaskResult]:
    """Results of tasks inside the guest, in one play since a play costs more than a task; none ends it."""
    going_on = {"hosts": guest.name, "gather_facts": False, "ignore_errors": True, "ignore_unreachable": True}
    run = ansible.playbook([{**going_on, "tasks": tasks}], inventory=inventory(guest, host))
    assert len(run.results) >= len(tasks), run.output
    return list(run.results)


def succeed(ansible: Ansible, guest: Guest, tasks: list[Mapping[str, Any]], host: Any = None) -> list[TaskResult]:
    return ansible.tasks(*tasks, inventory=inventory(guest, host), hosts=guest.name)


@by_ways(ways(("container", "local"), short=[("virtual-machine", "local")]))
def test_ordinary_modules(ansible: Ansible, guest: Guest, host: Any, is_whole: bool, tmp_path: Path) -> None:
    script = tmp_path / "script.sh"
    script.write_text('#!/bin/sh\necho "got $1"\n')
    facts, made_user, again, removed, ran, joe, became, *more = succeed(
        ansible,
        guest,
        [
            {"ansible.builtin.setup": {"gather_subset": ["!all", "!min", "platform", "user", "service_mgr"]}},
            {"ansible.builtin.user": {"name": "ann", "uid": 2345}},
            {"ansible.builtin.user": {"name": "ann", "uid": 2345}},
            {"ansible.builtin.user": {"name": "ann", "state": "absent", "remove": True}},
            {"ansible.builtin.script": f"{script} this"},
            {"ansible.builtin.raw": "id -un; pwd; echo $HOME", "vars": {"ansible_user": "joe"}},
            {"ansible.builtin.command": "id -un", "become": True, "become_user": "joe"},
            *(MORE_ORDINARY if is_whole else ()),
        ],
        host,
    )
    assert facts["ansible_facts"]["ansible_hostname"] == guest.name
    assert facts["ansible_facts"]["ansible_user_id"] == "root"
    assert facts["ansible_facts"]["ansible_service_mgr"] == "systemd"
    assert [step.changed for step in (made_user, again, removed)] == [True, False, True]
    assert ran["stdout_lines"] == ["got this"]
    assert joe["stdout_lines"] == ["joe", "/home/joe", "/home/joe"]
    assert became["stdout"] == "joe"
    if is_whole:
        ping, service, joe, number, *later = more
        assert ping["ping"] == "pong"
        assert service.changed
        assert joe["stdout_lines"] == number["stdout_lines"] == ["joe", "/home/joe", "/home/joe"]
        assert later[-1]["rc"] == 0


MORE_ORDINARY: list[Mapping[str, Any]] = [
    {"ansible.builtin.ping": {}},
    {"ansible.builtin.systemd_service": {"name": "systemd-journald", "state": "restarted"}},
    {"ansible.builtin.shell": "id -un; pwd; echo $HOME", "vars": {"ansible_user": "joe"}},
    {"ansible.builtin.shell": "id -un; pwd; echo $HOME", "vars": {"ansible_user": "1000"}},
    {"ansible.builtin.command": "sleep 1", "async": 60, "poll": 1},
]


@by_each_way
def test_files_are_exact(ansible: Ansible, guest: Guest, host: Any, is_whole: bool, tmp_path: Path) -> None:
    """Empty, small and larger than the pieces in which they go; with and without pipelining."""
    large = "it's a file"
    sizes = {large: 5 * MIB, "empty": 0, "small": 70_001} if is_whole else {large: 5 * MIB}
    tasks: list[Mapping[str, Any]] = []
    changed = []
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(os.urandom(size))
        inside = f"/var/tmp/{tmp_path.name} {name}"
        copy = {"ansible.builtin.copy": {"src": str(tmp_path / name), "dest": inside}}
        fetch = {"ansible.builtin.fetch": {"src": inside, "dest": f"{tmp_path}/back {name}", "flat": True}}
        again = [copy] if is_whole else []
        tasks += [{**copy, "vars": {"ansible_pipelining": size > 100_000}}, *again, fetch]
        changed += [True, *([False] if is_whole else []), True]
    results = succeed(ansible, guest, tasks, host)
    assert [result.changed for result in results] == changed
    for name in sizes:
        assert (tmp_path / name).read_bytes() == (tmp_path / f"back {name}").read_bytes()


@by_each_way
def test_status_output_and_errors_are_exact(ansible: Ansible, guest: Guest, host: Any, is_whole: bool) -> None:
    statuses = [0, 1, 125, 254, 255] if is_whole else [0, 125, 255]
    tasks = [{"ansible.builtin.raw": f"printf 'a\\r\\nb\\n\\n'; echo err >&2; exit {status}"} for status in statuses]
    results = play(ansible, guest, tasks, host)
    assert [result["rc"] for result in results] == statuses
    assert {result["stdout"] for result in results} == {"a\r\nb\n\n"}
    assert {result["stderr"] for result in results} == {"err\n"}


@by_each_way
def test_becoming_with_a_password(ansible: Ansible, guest: Guest, host: Any, is_whole: bool) -> None:
    def task(password: str, method: str, pipelining: bool = True) -> Mapping[str, Any]:
        variables = {"ansible_user": "joe", "ansible_become_password": password, "ansible_pipelining": pipelining}
        return {"ansible.builtin.command": "id -un", "become": True, "become_method": method, "vars": variables}

    right = [task(PASSWORD, "sudo")]
    wrong = [task("wrong", "sudo")]
    if is_whole:
        right += [task(PASSWORD, "sudo", pipelining=False), task(PASSWORD, "su")]
        wrong += [task("wrong", "su")]
    results = play(ansible, guest, [*right, *wrong], host)
    outputs = [result.result.get("stdout") for result in results]
    assert outputs == ["root"] * len(right) + [None] * len(wrong)
    assert not [result for result in results[len(right) :] if "tandem-" in result.message]


def test_what_is_wrong_is_said_in_one_line(ansible: Ansible, guest: Guest) -> None:
    wrong = {
        "ansible_tandem_instance": "test-none",
        "ansible_user": "ghost",
        "ansible_tandem_host_python": "/no/python",
        "ansible_tandem_root": "/no/root",
    }
    tasks = [{"ansible.builtin.ping": {}, "vars": {name: value}} for name, value in wrong.items()]
    results = play(ansible, guest, tasks)
    none, ghost, python, root = [result.message for result in results]
    assert none.endswith(f"instance test-none does not exist on this host below {guest.root}: create it first")
    assert ghost.endswith(f"instance {guest.name}: user ghost does not exist in the guest: name one that does")
    assert f"cannot enter instance {guest.name}: " in python and "/no/python: not found" in python
    assert root.endswith(f"instance {guest.name} does not exist on this host below /no/root: create it first")
