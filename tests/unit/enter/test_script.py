# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The shell programs that run in guests, run here by every shell that a guest may have.

They write below /run, /tmp and /dev/shm, and remove there what others of their kind left: in a guest, that is their
job. So here each shell has places of its own in their stead; where that may not be done, one run of these tests after
the other.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import InvalidRequest
from ansible_collections.tandem.machines.plugins.module_utils._instance import script, stream
from ansible_collections.tandem.machines.plugins.module_utils._instance.frames import Input
from ansible_collections.tandem.machines.tests.unit.enter.terminal_port import TerminalPort
from hypothesis import given
from hypothesis import strategies as st

SHELLS = [shell for shell in (["dash"], ["bash", "--posix"], ["busybox", "sh"]) if shutil.which(shell[0])]
each_shell = pytest.mark.parametrize("shell", SHELLS, ids=lambda shell: shell[0], indirect=True)
# bash reads ahead from a terminal, which stands for the port here, but not from the port.
each_shell_but_bash = pytest.mark.parametrize(
    "shell", [shell for shell in SHELLS if shell[0] != "bash"], ids=lambda shell: shell[0], indirect=True
)

AWKWARD = 'it\'s $HOME `id`\n\t"two" \\ ü é'


@dataclass(frozen=True)
class Places:
    """What a shell's command line begins with, and where that shell's /run, /dev/shm and /tmp are for us."""

    prefix: list[str]
    directories: list[Path]


# /tmp is the last: it holds the others.
_ENTER_PLACES = """
mount --bind "$1/run" /run && mount --bind "$1/shm" /dev/shm && mount --bind "$1/tmp" /tmp || exit
shift
exec "$@"
"""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Places]:
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0:
        own = tmp_path_factory.mktemp("places")
        directories = [own / name for name in ("run", "shm", "tmp")]
        for directory in directories:
            directory.mkdir()
        yield Places(["unshare", "--mount", "--", "/bin/sh", "-c", _ENTER_PLACES, "sh", str(own)], directories)
        return
    # Other users' files cannot be removed, so a lock for each user will do.
    with open(Path(tempfile.gettempdir()) / f"test-script-{os.getuid()}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield Places([], [Path(name) for name in ("/run", "/dev/shm", "/tmp")])


@pytest.fixture
def shell(request: pytest.FixtureRequest, places: Places) -> list[str]:
    return [*places.prefix, *request.param]


class ShellGuest:
    """Stands for a virtual machine: nobody restarts."""

    name = "here"


def run_in_shell(
    shell: list[str], command: list[str], stdin: bytes | None = None, kill_after: float | None = None, **how: Any
) -> tuple[int | None, bytes, bytes]:
    """What stream.Run makes of a command when the guest's side is run here, over a terminal instead of a port."""
    streams = {1: b"", 2: b""}

    def sink(descriptor: int, data: bytes) -> None:
        streams[descriptor] += data

    port = TerminalPort()
    run = stream.Run(
        ShellGuest(),  # type: ignore[arg-type]
        command,
        given=None if stdin is None else Input(stdin),
        sink=sink,
        **how,
    )
    work = script.render_work(
        command,
        token=run._token,
        mark="mark",
        environment=how.get("environment", {}),
        user=how.get("user", ""),
        directory=how.get("directory", ""),
        has_input=stdin is not None,
        is_live=how.get("is_live", False),
        port=port.path,
    )
    process = subprocess.Popen(
        [*shell, "-c", 'eval "$TANDEM_SCRIPT"', run._name],
        env={"TANDEM_SCRIPT": script.stream_program(), "TANDEM_WORK": work},
        stdin=subprocess.DEVNULL,
        # A group of its own, as setsid would give it; as the leader of a session it would get the terminal as its own.
        preexec_fn=os.setpgrp,
    )
    try:
        port.setblocking(False)
        run._wait_for_hello(port)  # type: ignore[arg-type]
        run._deadline = None
        if kill_after is None:
            run._exchange(port)  # type: ignore[arg-type]
        else:
            time.sleep(kill_after)
    finally:
        port.close()
        try:
            process.wait(10)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return run._parser.status, streams[1], streams[2]


@pytest.fixture(autouse=True)
def nothing_is_left(places: Places) -> Iterator[None]:
    yield
    left = [path for directory in places.directories for path in directory.glob("tandem-enter.*")]
    assert not [path for path in left if path.stat().st_uid == os.getuid()]


def as_whoever_runs_the_tests() -> Mapping[str, Any]:
    return {"user": str(os.getuid()) if os.getuid() else "root"}


WHO = as_whoever_runs_the_tests()
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root starts commands as somebody else")


@each_shell
def test_status_output_and_errors_are_apart_and_exact(shell: list[str]) -> None:
    command = ["/bin/sh", "-c", r"printf 'a\0\377\r\nb'; printf 'e\0\n\n' >&2; exit 201"]
    assert run_in_shell(shell, command, **WHO) == (201, b"a\0\xff\r\nb", b"e\0\n\n")


@each_shell_but_bash
def test_input_arrives_exactly(shell: list[str]) -> None:
    data = os.urandom(300_001)
    assert run_in_shell(shell, ["cat"], data, **WHO) == (0, data, b"")
    assert run_in_shell(shell, ["cat"], b"", **WHO) == (0, b"", b"")


@each_shell
def test_much_output_and_many_errors(shell: list[str]) -> None:
    status, out, err = run_in_shell(shell, ["/bin/sh", "-c", "seq 1 100000; seq 1 50000 >&2"], **WHO)
    assert (status, out.count(b"\n"), err.count(b"\n")) == (0, 100_000, 50_000)
    assert out.endswith(b"\n100000\n") and err.endswith(b"\n50000\n")


@each_shell
def test_live_errors_are_exact_too(shell: list[str]) -> None:
    command = ["/bin/sh", "-c", "for i in 1 2 3; do seq 1 9000 >&2; seq 1 9000; done; exit 9"]
    expected = b"".join(b"%d\n" % number for number in range(1, 9001)) * 3
    assert run_in_shell(shell, command, is_live=True, **WHO) == (9, expected, expected)


@each_shell_but_bash
def test_unread_input_does_not_hold_up_the_end(shell: list[str]) -> None:
    assert run_in_shell(shell, ["/bin/sh", "-c", "exit 4"], b"x" * 2_000_000, **WHO)[0] == 4


@each_shell
def test_a_command_that_kills_its_group_kills_only_itself(shell: list[str]) -> None:
    status, out, _unused = run_in_shell(shell, ["/bin/sh", "-c", "echo before; kill 0; echo after"], **WHO)
    assert (status, out) == (143, b"before\n")


@each_shell
def test_death_by_signal_is_128_more(shell: list[str]) -> None:
    assert run_in_shell(shell, ["/bin/sh", "-c", "kill -9 $$"], **WHO)[0] == 137


@each_shell
def test_missing_programs_have_the_status_of_a_shell(shell: list[str]) -> None:
    assert run_in_shell(shell, ["/nonexistent/program"], **WHO)[0] == 127


@each_shell
def test_words_and_variables_arrive_as_they_are(shell: list[str]) -> None:
    command = ["/bin/sh", "-c", 'printf "%s|" "$A" "$uid" "$IFS" "$@"', "sh", AWKWARD, "", "-n", "*"]
    environment = {"A": AWKWARD, "uid": "0", "IFS": "x", "port": "p", "token": "t", "mark": "m"}
    status, out, _unused = run_in_shell(shell, command, environment=environment, **WHO)
    assert (status, out.decode()) == (0, "|".join([AWKWARD, "0", " \t\n", AWKWARD, "", "-n", "*", ""]))


@each_shell
def test_the_command_sees_a_login_and_nothing_of_ours(shell: list[str]) -> None:
    command = ["/bin/sh", "-c", "env; ls -l /proc/self/fd; umask; pwd"]
    _unused, out, _unused = run_in_shell(shell, command, directory="/", **WHO)
    text = out.decode()
    assert "TANDEM" not in text and "token" not in text
    names = {line.partition("=")[0] for line in text.splitlines() if "=" in line}
    assert names - {"_", "SHLVL", "OLDPWD"} == {"HOME", "USER", "LOGNAME", "PATH", "LANG", "TERM", "PWD"}
    descriptors = {line.split(" -> ")[0].split()[-1] for line in text.splitlines() if " -> " in line}
    assert descriptors == {"0", "1", "2", "3"}, "3 is the directory that ls reads"
    assert text.endswith("0022\n/\n")


@each_shell
def test_a_lost_host_ends_the_plumbing_and_not_the_command(shell: list[str]) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as outside:
        proof = Path(outside) / "proof"
        os.mkfifo(proof)
        # Kept open by us, so that the command need not wait for a reader.
        with open(os.open(proof, os.O_RDWR), "rb", buffering=0) as pipe:
            run_in_shell(shell, ["/bin/sh", "-c", f"sleep 1; echo alive >{proof}"], kill_after=0.3, **WHO)
            assert pipe.read(100) == b"alive\n"


@needs_root
@each_shell
def test_users_by_name_and_number(shell: list[str]) -> None:
    command = ["/bin/sh", "-c", "id -u; id -g; echo $USER $HOME"]
    for user in ("nobody", "65534"):
        assert run_in_shell(shell, command, user=user)[1] == b"65534\n65534\nnobody /nonexistent\n"
    assert run_in_shell(shell, command, user="54321")[1] == b"54321\n54321\n54321 /\n"


@each_shell
def test_what_the_guest_lacks_is_said_and_marked(shell: list[str]) -> None:
    status, _unused, err = run_in_shell(shell, ["true"], user="no-such-user")
    assert status == script.FAILED_STATUS
    assert err == b"mark error user no-such-user does not exist in the guest: name one that does\n"
    status, _unused, err = run_in_shell(shell, ["true"], directory="/no/such", **WHO)
    assert status == script.FAILED_STATUS
    assert err == b"mark error working directory /no/such does not exist in the guest\n"


def run_container_program(shell: list[str], *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [*shell, "-c", script.container_program(), "tandem-enter", "mark", *words]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)


@each_shell
def test_containers_take_variables_before_the_input(shell: list[str]) -> None:
    preamble = script.render_environment({"A": AWKWARD}).encode()
    words = [str(len(preamble)), WHO["user"], "/", "/bin/sh", "-c", 'printf %s "$A"; pwd; cat']
    done = run_container_program(shell, *words, stdin=preamble + b"\0rest")
    assert done.stdout.decode() == AWKWARD + "/\n\0rest"


@each_shell
def test_containers_without_variables_leave_the_input_alone(shell: list[str]) -> None:
    done = run_container_program(shell, "0", WHO["user"], "", "cat", stdin=b"\0whole")
    assert (done.returncode, done.stdout) == (0, b"\0whole")


@each_shell
def test_containers_without_the_user(shell: list[str]) -> None:
    done = run_container_program(shell, "0", "no-such-user", "", "true")
    assert done.returncode == script.FAILED_STATUS
    assert done.stderr.startswith(b"mark error user no-such-user")


# BusyBox' su, which Debian's BusyBox lacks: su -m -s SHELL -c COMMAND -- USER ARGUMENTS...
_SU = """#!/bin/sh
[ "$1 $2 $3 $4" = "-m -s /bin/sh -c" ] && [ "$6" = -- ] || exit 99
shell=$3 command=$5 user=$7
shift 7
SU=$user exec "$shell" -c "$command" "$@"
"""


@pytest.fixture
def small_root(tmp_path: Path) -> Path:
    """A root file system without util-linux, coreutils and getent."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("needs busybox to put into an empty root")
    for directory in ("bin", "etc", "dev"):
        (tmp_path / directory).mkdir()
    shutil.copy(busybox, tmp_path / "bin/busybox")
    needed = subprocess.run(["ldd", busybox], capture_output=True, text=True, check=False).stdout
    for library in re.findall(r"/\S+", needed):
        (tmp_path / library[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, tmp_path / library[1:])
    for applet in ("sh", "dd", "grep", "setpriv", "chroot"):
        (tmp_path / "bin" / applet).symlink_to("busybox")
    (tmp_path / "bin/su").write_text(_SU)
    (tmp_path / "bin/su").chmod(0o755)
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nann:x:1500:1600::/:/bin/sh\n")
    os.mknod(tmp_path / "dev/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    return tmp_path


@needs_root
def test_a_guest_with_busybox_alone(small_root: Path) -> None:
    shell = ["chroot", str(small_root), "/bin/sh"]
    for user in ("ann", "1500"):
        done = run_container_program(shell, "0", user, "", "sh", "-c", "echo $SU $1 $USER $HOME", "sh", "-x  b")
        assert (done.returncode, done.stdout) == (0, b"ann -x b ann /\n"), done.stderr
    done = run_container_program(shell, "0", "1234", "", "id")
    assert done.stderr.startswith(b"mark error the guest has no tool to start a command as user 1234")


@given(st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), max_size=50))
def test_quoting_survives_a_shell(text: str) -> None:
    done = subprocess.run(["sh", "-c", f"printf %s {script._quote(text)}"], capture_output=True, check=True)
    assert done.stdout.decode() == text


@pytest.mark.parametrize("name", ["", "1a", "a-b", "a b", "a=b", "a;id", "ä", "a\n"])
def test_names_that_are_no_variables_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="environment variable"):
        script.render_environment({name: "x"})


@pytest.mark.parametrize(
    ("command", "message"),
    [([], "empty"), ([""], "empty"), (["-x"], "begins with"), (["a", "b\0"], "NUL"), (["a", "\udcff"], "not UTF-8")],
)
def test_commands_that_nobody_can_run_are_refused(command: list[str], message: str) -> None:
    how = {"token": "t", "mark": "m", "user": "", "directory": "", "has_input": False, "is_live": False}
    with pytest.raises(InvalidRequest, match=message):
        script.require_command(command)
        script.render_work(command, environment={}, **how)


def test_a_command_too_long_for_the_kernel_is_refused() -> None:
    how = {"token": "t", "mark": "m", "user": "", "directory": "", "has_input": False, "is_live": False}
    with pytest.raises(InvalidRequest, match="put them in a file"):
        script.render_work(["echo", "x" * 130_000], environment={}, **how)
