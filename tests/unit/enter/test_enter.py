# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Which way into an instance, and the program that takes it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from ansible_collections.tandem.machines.plugins.connection.instance import render_program
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import Conflict, InvalidRequest, Locked
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._instance import enter
from ansible_collections.tandem.machines.plugins.module_utils._instance.stream import PortLock
from hypothesis import given
from hypothesis import strategies as st

PYTHONS = [name for name in (f"python3.{minor}" for minor in range(9, 16)) if shutil.which(name)]
REQUEST = {
    "mark": "mark",
    "root": "/nonexistent",
    "instance": "web1",
    "user": "root",
    "command": ["true"],
    "input": False,
    "live": False,
    "agent_timeout": 1,
    "lock_timeout": 1,
}


@given(st.lists(st.text("abc-_", min_size=1), min_size=1).map(lambda names: "/" + "/".join(names)))
def test_sockets_are_looked_for_where_they_are_made(root: str) -> None:
    for state_root in (root, enter.DEFAULT_ROOT):
        paths = Paths(Path(state_root))
        assert enter.run_directory(state_root) == os.fspath(paths.run)
        guest = enter.virtual_machine(state_root, "v1", 1, 1)
        assert guest._sockets == os.fspath(paths.instance_run("v1"))


def write_record(root: Path, text: str) -> None:
    directory = Paths(root).instance("web1")
    directory.mkdir(parents=True)
    (directory / "instance.json").write_text(text)


def test_the_record_says_the_type_and_the_environment(tmp_path: Path) -> None:
    record = {"type": "virtual-machine", "config": {}, "expanded_config": {"environment.A": "1", "user.b": "2"}}
    write_record(tmp_path, json.dumps(record))
    found = enter.read_record(str(tmp_path), "web1")
    assert not enter.is_container(found)
    assert enter.instance_environment(found) == {"A": "1"}


def test_no_record(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match=r"web1 does not exist .* create it"):
        enter.read_record(str(tmp_path), "web1")


@pytest.mark.parametrize("name", ["../web1", "web1/..", "", "Web1", "web1\n", "-"])
def test_names_are_checked_before_they_become_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="is not valid"):
        enter.read_record(str(tmp_path), name)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"name": "web1"}', " " * 2_000_000])
def test_a_damaged_record(tmp_path: Path, text: str) -> None:
    write_record(tmp_path, text)
    with pytest.raises(Conflict, match="damaged"):
        enter.read_record(str(tmp_path), "web1")


def test_a_record_that_is_a_pipe_does_not_hang(tmp_path: Path) -> None:
    directory = Paths(tmp_path).instance("web1")
    directory.mkdir(parents=True)
    os.mkfifo(directory / "instance.json")
    with pytest.raises(Conflict, match="damaged"):
        enter.read_record(str(tmp_path), "web1")


def test_root_enters_a_container_without_a_shell_of_ours() -> None:
    command = enter.attach_command("/r", "c1", ["ls", "-l"])
    assert command[:6] == ["lxc-attach", "-P", "/r/instances", "-n", "c1", "--clear-env"]
    assert command[-3:] == ["--", "ls", "-l"]
    given = command[6:-3]
    assert set(given[::2]) == {"-v"}
    assert dict(word.split("=", 1) for word in given[1::2]) == {
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "TERM": "dumb",
    }


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"user": "joe"}, ["m", "0", "joe", ""]),
        ({"directory": "/srv"}, ["m", "0", "root", "/srv"]),
        ({"preamble_bytes": 7, "user": "0"}, ["m", "7", "0", ""]),
    ],
)
def test_everybody_else_is_looked_up_inside(how: dict[str, object], words: list[str]) -> None:
    command = enter.attach_command("/r", "c1", ["ls"], mark="m", **how)  # type: ignore[arg-type]
    inside = command[command.index("--") + 1 :]
    assert inside[:2] == ["/bin/sh", "-c"]
    assert inside[3:] == ["tandem-enter", *words, "ls"]
    assert "-u" not in command


@pytest.mark.parametrize("state", ["STOPPED", "FROZEN", "STARTING", ""])
def test_only_running_containers_can_be_entered(state: str) -> None:
    with pytest.raises(Conflict, match="instance c1 is"):
        enter.require_running("c1", state)
    enter.require_running("c1", "RUNNING")


@pytest.mark.parametrize("python", PYTHONS)
def test_the_program_runs_on_a_bare_python(python: str) -> None:
    """It explains itself on stderr, so all that it needs has been imported."""
    version = subprocess.run(
        [python, "-c", "import sys; print(sys.version_info[1])"], capture_output=True, text=True, check=False
    )
    if version.returncode != 0:
        pytest.skip(f"{python} does not start")
    words = [python, "-I", "-S", "-c", render_program(), json.dumps(REQUEST)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    message = "mark error instance web1 does not exist on this host below /nonexistent: create it first\n"
    assert (done.returncode, done.stdout, done.stderr) == (125, "", message)


def test_the_program_speaks_to_virtual_machines_too(tmp_path: Path) -> None:
    write_record(tmp_path, '{"type": "virtual-machine"}')
    request = json.dumps({**REQUEST, "root": str(tmp_path)})
    words = [sys.executable, "-I", "-S", "-c", render_program(), request]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (125, "mark error instance web1 is not running: start it first\n")


def test_the_program_fits_into_one_argument() -> None:
    assert len(render_program()) < 64 * 1024


def test_the_port_has_one_user_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "stream.lock")
    waits: list[float] = []
    wait = threading.Event.wait

    def noted(event: threading.Event, timeout: float | None = None) -> bool:
        if timeout is not None:
            waits.append(timeout)
        return wait(event, timeout)

    monkeypatch.setattr(threading.Event, "wait", noted)
    with PortLock(path, "v1", 1):
        started = time.monotonic()
        with pytest.raises(
            Locked, match=rf"v1 runs another command for pid {os.getpid()} since .* gave up after 0\.2 s"
        ):
            PortLock(path, "v1", 0.2).__enter__()
        assert time.monotonic() - started >= 0.2
    # No longer, by what it asks for: how long it takes then is up to the machine.
    assert waits == [0.2]
    with PortLock(path, "v1", 1):
        pass


def test_waiting_for_the_port_ends_with_the_other_command(tmp_path: Path) -> None:
    path = str(tmp_path / "stream.lock")
    with open(path, "w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        is_free = threading.Event()

        def let_go() -> None:
            is_free.set()
            fcntl.flock(other, fcntl.LOCK_UN)

        timer = threading.Timer(0.3, let_go)
        timer.start()
        with PortLock(path, "v1", 60):
            assert is_free.is_set()
        timer.join()


def test_the_agents_latest_command_is_remembered(tmp_path: Path) -> None:
    path = str(tmp_path / "stream.lock")
    with PortLock(path, "v1", 1) as lock:
        assert lock.latest_pid is None
        lock.note(4711)
    with PortLock(path, "v1", 1) as lock:
        assert lock.latest_pid == 4711


def test_no_directory_means_not_running(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="v1 is not running"):
        PortLock(str(tmp_path / "no/stream.lock"), "v1", 1).__enter__()
