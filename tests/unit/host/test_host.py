# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The host layer where it needs neither root nor other programs: files, locks, processes, units."""

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import (
    CommandFailed,
    Conflict,
    InvalidRequest,
    Locked,
    MissingDependency,
    TimedOut,
)
from ansible_collections.tandem.machines.plugins.module_utils._host import beneath, files, locks, process, run, unit
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths


def test_atomic_write_replaces_whole_and_leaves_no_temporary(tmp_path: pathlib.Path) -> None:
    target = tmp_path / "a.json"
    files.write_json(target, {"b": 1, "a": [2]})
    files.write_json(target, {"a": 1})
    assert files.read_json(target) == {"a": 1}
    assert target.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_write_does_not_follow_a_planted_link(tmp_path: pathlib.Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("keep")
    (tmp_path / ".new-a").symlink_to(victim)
    files.write_atomic(tmp_path / "a", b"new")
    assert victim.read_text() == "keep"
    assert (tmp_path / "a").read_bytes() == b"new"


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"a": 1}' + b" " * files.RECORD_LIMIT_BYTES])
def test_damaged_record_is_a_conflict_that_names_the_path(tmp_path: pathlib.Path, damage: bytes) -> None:
    (tmp_path / "r.json").write_bytes(damage)
    with pytest.raises(Conflict, match=r"r\.json"):
        files.read_json(tmp_path / "r.json")


def test_fifo_and_link_in_place_of_a_record_do_not_hang(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("/etc/hostname")
    for name in ("fifo", "link"):
        with pytest.raises(Conflict):
            files.read_capped(tmp_path / name, 100)
    assert files.read_capped(tmp_path / "missing", 100) is None


def test_write_beneath_stays_beneath(tmp_path: pathlib.Path) -> None:
    root = tmp_path / "root"
    outside = tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (root / "dots").symlink_to("../outside")
    owner = os.getuid()
    beneath.write_beneath(root, "var/lib/x", b"data", owner=owner)
    assert (root / "var/lib/x").read_bytes() == b"data"
    for path in ("link/x", "dots/x", "../outside/x"):
        with pytest.raises(Conflict):
            beneath.write_beneath(root, path, b"data", owner=owner)
    assert list(outside.iterdir()) == []
    (root / "final").symlink_to(outside / "y")
    beneath.write_beneath(root, "final", b"data", owner=owner)
    assert not (outside / "y").exists()
    assert beneath.read_beneath(root, "link/x", 10) is None


HOLDER = """
import sys
sys.path[:0] = {path!r}
from ansible_collections.tandem.machines.plugins.module_utils._host import locks
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
import pathlib
with locks.hold(Paths(pathlib.Path({root!r})), [locks.Lock("instance", "web1")], 5):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def paths(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setattr(Paths, "run", property(lambda self: tmp_path / "run"))
    return Paths(tmp_path)


def test_lock_names_its_holder_waits_with_a_deadline_and_is_freed_by_death(
    paths: Paths, tmp_path: pathlib.Path
) -> None:
    code = textwrap.dedent(HOLDER).format(path=sys.path, root=str(tmp_path))
    code = code.replace(
        "with locks", f"Paths.run = property(lambda self: pathlib.Path({str(tmp_path / 'run')!r}))\nwith locks"
    )
    holder = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    wanted = [locks.Lock("instance", "web1")]
    with (
        pytest.raises(Locked, match=f"instance web1 is locked by pid {holder.pid} since"),
        locks.hold(paths, wanted, 0.2),
    ):
        pass
    holder.kill()
    holder.wait()
    with locks.hold(paths, wanted, 5):
        pass


def test_locks_are_taken_in_one_order() -> None:
    given = [locks.Lock("instance", "b"), locks.Lock("host"), locks.Lock("instance", "a"), locks.Lock("pool", "z")]
    ordered = sorted(given, key=lambda lock: lock.rank)
    assert [(lock.kind, lock.name) for lock in ordered] == [
        ("host", "all"),
        ("pool", "z"),
        ("instance", "a"),
        ("instance", "b"),
    ]


def test_process_is_more_than_a_pid() -> None:
    child = subprocess.Popen(["sleep", "60"])
    found = process.Process.of(child.pid)
    assert found is not None and found.is_alive()
    impostor = process.Process(found.pid, found.start_time + 1, found.boot_id)
    assert not impostor.is_alive()
    assert not impostor.signal(signal.SIGKILL)
    assert not process.Process(found.pid, found.start_time, "another-boot").is_alive()
    with pytest.raises(TimedOut, match="still running"):
        found.wait(0.05)
    found.end()
    assert child.wait() == -signal.SIGTERM
    assert not found.is_alive()
    assert process.Process.parse(found.record()) == found


def test_run_reports_status_output_and_missing_programs() -> None:
    assert run.run(["cat"], stdin=b"\x00\xff").stdout == b"\x00\xff"
    with pytest.raises(CommandFailed) as caught:
        run.run(["ls", "/does/not/exist"])
    assert caught.value.status == 2
    assert "\n" not in str(caught.value)
    with pytest.raises(MissingDependency, match="install package no-such-program"):
        run.run(["no-such-program"])


def test_run_kills_at_the_deadline() -> None:
    started = time.monotonic()
    with pytest.raises(TimedOut):
        run.run(["sleep", "60"], timeout_seconds=0.2)
    assert time.monotonic() - started < 30


def test_events_wakes_on_output_and_ends_the_program() -> None:
    with run.events(["cat", "/proc/self/stat", "-"]) as wait:
        assert wait(10)
        assert not wait(0.01)


def test_unit_file_quotes_and_refuses() -> None:
    rendered = unit.render_unit(
        unit.Unit(
            kind="network",
            name="tdbr0",
            description="network tdbr0",
            command=("/usr/sbin/dnsmasq", "--conf-file=/a b", 'x"y', "50%", "$HOME", "back\\slash"),
            setup=(("/sbin/ip", "link", "add", "tdbr0", "type", "bridge"),),
            teardown=(("/sbin/ip", "link", "del", "tdbr0"),),
            after=(("pool", "default"),),
        )
    )
    assert r'ExecStart="/usr/sbin/dnsmasq" "--conf-file=/a b" "x\"y" "50%%" "$$HOME" "back\\slash"' in rendered
    assert 'ExecStartPre=-"/sbin/ip" "link" "add" "tdbr0" "type" "bridge"' in rendered
    assert "After=tandem-pool@default.service" in rendered
    with pytest.raises(InvalidRequest):
        unit.render_unit(unit.Unit("network", "x", "a\nExecStart=/bin/evil"))


def test_units_of_two_roots_have_names_of_their_own() -> None:
    scope = Paths(pathlib.Path("/srv/my other")).scope
    made = unit.Unit("instance", "web1", "container web1", after=(("network", "tdbr0"),))
    needed = r"tandem-network@root-srv-my\x20other:tdbr0.service"
    assert f"Wants={needed}\nAfter={needed}\n" in unit.render_unit(made, scope)
    assert unit.service_name("instance", "web1", Paths().scope) == "tandem-instance@web1.service"
    assert unit.service_name("instance", "web1", scope) == r"tandem-instance@root-srv-my\x20other:web1.service"


def test_two_roots_share_nothing_at_run_time() -> None:
    assert Paths().run == pathlib.Path("/run/tandem")
    assert Paths(pathlib.Path("/srv/other")).run != Paths(pathlib.Path("/srv/more")).run
    assert str(Paths(pathlib.Path("/srv/other")).run).startswith("/run/tandem/")
