# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Commands in real guests: module instance_exec, and what it stands on, against every way a command can go wrong."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import (
    EngineError,
    Locked,
    TimedOut,
)
from ansible_collections.tandem.machines.plugins.module_utils._instance import agent, stream
from ansible_collections.tandem.machines.plugins.module_utils._instance.execute import OUTPUT_LIMIT_BYTES
from ansible_collections.tandem.machines.tests.integration import guests as made
from ansible_collections.tandem.machines.tests.integration.guests import Guest
from ansible_collections.tandem.machines.tests.integration.runner import Ansible, four_times

MIB = 1024 * 1024
AWKWARD = 'it\'s $HOME `id`\n "two" \\ ü'


@pytest.fixture(params=made.TYPES)
def guest(request: pytest.FixtureRequest, guests: dict[str, Guest]) -> Guest:
    return guests[request.param]


@pytest.fixture
def vm(guests: dict[str, Guest]) -> Guest:
    return guests["virtual-machine"]


@pytest.fixture
def container(guests: dict[str, Guest]) -> Guest:
    return guests["container"]


def test_module_returns_status_output_and_errors_apart(ansible: Ansible, guest: Guest) -> None:
    done = ansible.task("instance_exec", name=guest.name, argv=["sh", "-c", "echo out; echo err >&2"])
    assert (done.changed, done["rc"], done["stdout"], done["stderr"]) == (True, 0, "out", "err")
    failed = ansible.failure("instance_exec", name=guest.name, shell="echo out; echo why >&2; exit 255")
    assert (failed["rc"], failed["stdout"], failed["stderr"]) == (255, "out", "why")
    assert failed.message == f"the command in instance {guest.name} ended with status 255: why"


def test_module_gives_input_variables_user_and_directory(ansible: Ansible, guest: Guest) -> None:
    done = ansible.task(
        "instance_exec",
        name=guest.name,
        shell='cat; printf "%s\\n" "$A" "$N"; id -un; pwd; echo $HOME',
        stdin="given",
        environment={"A": AWKWARD, "N": 5},
        user="joe",
        cwd="/tmp",
    )
    assert done["stdout"] == f"given\n{AWKWARD}\n5\njoe\n/tmp\n/home/joe"


def test_module_in_check_mode_runs_nothing(ansible: Ansible, guest: Guest) -> None:
    touch = {"tandem.machines.instance_exec": {"name": guest.name, "argv": ["touch", "/root/proof"]}}
    look = {"tandem.machines.instance_exec": {"name": guest.name, "shell": "test ! -e /root/proof"}}
    check, _unused, apply = ansible.tasks({**touch, "check_mode": True}, look, touch)
    assert check.changed and apply.changed
    assert guest.shell("rm /root/proof && echo was there") == "was there\n"


def test_module_with_creates_and_removes_runs_once(ansible: Ansible, guest: Guest) -> None:
    made = {"name": guest.name, "shell": "touch /root/made", "creates": "/root/made"}
    removed = {"name": guest.name, "shell": "rm /root/made", "removes": "/root/made"}
    tasks = [{"tandem.machines.instance_exec": options} for options in (made, removed)]
    results = ansible.tasks(*(run for task in tasks for run in four_times(task)))
    assert [result.changed for result in results] == [True, True, False, False] * 2


def test_module_says_in_one_line_what_is_wrong(ansible: Ansible, guest: Guest) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"user": "ghost"}, f"instance {guest.name}: user ghost does not exist in the guest: name one that does"),
        ({"cwd": "/no/such"}, "working directory /no/such does not exist"),
        ({"name": "test-none"}, "instance test-none does not exist on this host"),
        ({"name": "../x"}, "instance name '../x' is not valid"),
        ({"environment": {"A B": "x"}}, "environment variable 'A B' is not a name"),
        ({"timeout": -1}, "timeout -1.0 is not a time"),
        ({"argv": ["sleep", "60"], "timeout": 1}, "timed out after 1 s waiting for the command in instance"),
    ]
    tasks = [{"name": guest.name, "argv": ["true"], **options} for options, _unused in wrong]
    for failed, (options, message) in zip(ansible.failures("instance_exec", *tasks), wrong):
        assert message in failed.message, options


def test_module_predicts_for_an_instance_that_is_yet_to_be_made(ansible: Ansible) -> None:
    task = {"tandem.machines.instance_exec": {"name": "test-none", "argv": ["true"]}, "check_mode": True}
    assert "does not exist" in ansible.tasks(task)[0].message


def test_a_frozen_instance_is_refused_and_not_waited_for(ansible: Ansible, container: Guest) -> None:
    power = [{"tandem.machines.instance": {"name": container.name, "state": state}} for state in ("frozen", "started")]
    command = {"tandem.machines.instance_exec": {"name": container.name, "argv": ["true"]}, "ignore_errors": True}
    refused = ansible.tasks(power[0], command, power[1])[1]
    assert refused.status == "ignored" and "is frozen: set state: started" in refused.message


@pytest.mark.parametrize("size", [0, 1, MIB, OUTPUT_LIMIT_BYTES - 1])
def test_every_byte_arrives(guest: Guest, size: int) -> None:
    data = os.urandom(size)
    outcome = guest.execute("cat", stdin=data)
    assert (outcome.status, outcome.stderr) == (0, b"")
    assert hashlib.sha256(outcome.stdout).digest() == hashlib.sha256(data).digest()


def test_many_errors_arrive_too(guest: Guest) -> None:
    data = os.urandom(8 * MIB)
    outcome = guest.execute("/bin/sh", "-c", "cat >&2", stdin=data)
    assert (outcome.status, outcome.stdout, outcome.stderr == data) == (0, b"", True)


def test_output_without_end_is_refused(guest: Guest) -> None:
    with pytest.raises(EngineError, match=rf"printed {OUTPUT_LIMIT_BYTES} bytes or more"):
        guest.execute("head", "--bytes", str(OUTPUT_LIMIT_BYTES + MIB), "/dev/zero")
    assert guest.shell("echo fine") == "fine\n"


def test_a_command_has_a_login_and_nothing_of_ours(guest: Guest) -> None:
    names = {line.partition("=")[0] for line in guest.shell("env").splitlines()}
    assert names - {"container"} == {"HOME", "USER", "LOGNAME", "PATH", "LANG", "TERM", "PWD"}
    assert guest.shell("umask; pwd; ls /proc/self/fd").split() == ["0022", "/root", "0", "1", "2", "3"]
    assert "not a tty" in guest.shell("tty || :")


def test_time_is_up_for_the_command_and_what_it_started(guest: Guest) -> None:
    with pytest.raises(TimedOut, match="the command in instance"):
        guest.execute("/bin/sh", "-c", "trap '' TERM; sleep 4321 & sleep 4321", timeout_seconds=1)
    assert guest.execute("pgrep", "--full", "--exact", "sleep 4321").stdout == b""


def test_time_is_up_for_a_command_that_never_pauses(guest: Guest) -> None:
    started = time.monotonic()
    with pytest.raises(TimedOut, match="the command in instance"):
        guest.execute("/bin/sh", "-c", "while :; do echo line; done", timeout_seconds=1)
    assert time.monotonic() - started < 30


def test_signals_have_the_status_of_a_shell(guest: Guest) -> None:
    assert guest.execute("/bin/sh", "-c", "kill -9 $$").status == 137
    assert guest.execute("/bin/sh", "-c", "kill 0; sleep 9").status == 143
    assert guest.execute("/no/such").status == 127


def test_background_processes_live_on(guest: Guest) -> None:
    guest.shell("setsid sleep 1234 >/dev/null 2>&1 </dev/null &")
    assert guest.shell("pkill --full --exact 'sleep 1234' && echo lived") == "lived\n"


def test_nothing_of_ours_is_left_in_the_guest(vm: Guest) -> None:
    vm.execute("cat", stdin=b"x" * MIB)
    time.sleep(1)
    shown = vm.shell("ls /run /tmp; ps -eo args | grep -c '[t]andem-enter'").splitlines()
    # Those of this very command: a file for its errors; the script, its two ends and the one that reports.
    assert len([name for name in shown if name.startswith("tandem-enter")]) == 1
    assert int(shown[-1]) <= 4


def test_a_container_cannot_change_the_program_that_enters_it(container: Guest) -> None:
    """The trick of CVE-2019-5736: a program that is /proc/self/exe."""
    host = Path("/usr/bin/lxc-attach")
    before = hashlib.sha256(host.read_bytes()).digest()
    container.shell("printf '#!/proc/self/exe\\n' >/root/trap && chmod 755 /root/trap")
    container.execute("/root/trap", timeout_seconds=10)
    container.execute("/bin/sh", "-c", "for exe in /proc/[0-9]*/exe; do : 2>/dev/null >>$exe; done")
    assert hashlib.sha256(host.read_bytes()).digest() == before


def run_and_die(vm: Guest, line: str, stdin: bytes | None, after_seconds: float) -> None:
    """A client that is killed while its command runs."""

    def client() -> None:
        vm.execute("/bin/sh", "-c", line, stdin=stdin or b"")

    process = multiprocessing.get_context("fork").Process(target=client)
    process.start()
    time.sleep(after_seconds)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.parametrize(
    "after_seconds",
    [pytest.param(0.05, marks=pytest.mark.torture), 0.2, pytest.param(0.6, marks=pytest.mark.torture), 1.5],
)
@pytest.mark.parametrize(
    ("line", "stdin"),
    [
        ("yes", None),
        ("yes >&2", None),
        ("sleep 60", None),
        ("sleep 60", b"x" * 5_000_000),
        ("cat >/dev/null; sleep 60", b"x" * 2_000_000),
    ],
    ids=["output", "errors", "silence", "unread-input", "read-input"],
)
def test_a_killed_client_does_not_spoil_the_next_command(
    vm: Guest, line: str, stdin: bytes | None, after_seconds: float
) -> None:
    run_and_die(vm, line, stdin, after_seconds)
    data = os.urandom(100_000)
    outcome = vm.execute("/bin/sh", "-c", "cat; echo err >&2; exit 3", stdin=data)
    assert (outcome.status, outcome.stdout == data, outcome.stderr) == (3, True, b"err\n")
    vm.execute("pkill", "--full", "--exact", "sleep 60")


def test_a_lost_client_does_not_kill_its_command(vm: Guest) -> None:
    """As with a broken ssh connection: a package manager goes on."""
    vm.shell("rm -f /root/went-on")
    run_and_die(vm, "sleep 4; touch /root/went-on", None, 1.5)
    assert vm.shell("while ! [ -e /root/went-on ]; do sleep 0.2; done; echo done", timeout_seconds=30) == "done\n"


def test_a_virtual_machine_runs_one_command_at_a_time(vm: Guest) -> None:
    printed: list[str] = []
    first = threading.Thread(target=lambda: printed.append(vm.shell("sleep 3; echo first")))
    first.start()
    time.sleep(1)
    impatient = stream.Guest(vm.name, str(vm.sockets), 60, 0.5)
    with pytest.raises(Locked, match="runs another command for pid"):
        stream.Run(impatient, ["true"], given=None, sink=lambda descriptor, data: None).finish()
    assert vm.shell("echo second") == "second\n"
    first.join()
    assert printed == ["first\n"]


def test_a_command_survives_the_restart_of_the_agent(vm: Guest) -> None:
    assert vm.shell("echo before; systemctl restart qemu-guest-agent; sleep 1; echo after") == "before\nafter\n"


def test_a_session_that_somebody_kills_is_noticed(vm: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_QUIET_SECONDS", 1)
    with pytest.raises(EngineError, match="restarted or ended the session"):
        vm.execute("/bin/sh", "-c", "pkill --signal KILL --full tandem-enter; sleep 60")
    vm.execute("pkill", "--full", "--exact", "sleep 60")


def test_the_guests_own_addresses(vm: Guest) -> None:
    seen = agent.observe_addresses(str(vm.sockets / "qga.sock"), vm.name)
    loopback = next(interface for interface in seen if interface["name"] == "lo")
    assert {"family": "inet", "address": "127.0.0.1", "prefix": 8} in loopback["addresses"]
