# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Modules storage_pool and storage_pool_info on real loop files, block devices and directories."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import Conflict
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._storage.pool import open_pool
from ansible_collections.tandem.machines.tests.integration import test_storage_drivers
from ansible_collections.tandem.machines.tests.integration.moments import thinned
from ansible_collections.tandem.machines.tests.integration.runner import Ansible, FourRuns
from ansible_collections.tandem.machines.tests.integration.test_storage_drivers import (
    FINGERPRINT,
    MIB,
    add_image,
    apply,
    foreign_filesystem,
    import_path,
    leftovers,
    private_root,
)

# This file has its own state root, as the tests of the drivers have.
nothing_leaks = test_storage_drivers.nothing_leaks
prepared_host = test_storage_drivers.prepared_host

KILLED_SYSCALLS = (
    "ioctl,mkdir,chmod,fchmod,rename,fsync,ftruncate,truncate,unlink,rmdir,mount,umount2,execve,clone,vfork,wait4,pipe2"
)


@pytest.fixture
def root() -> Iterator[Path]:
    with ExitStack() as stack:
        yield stack.enter_context(private_root())


@pytest.fixture
def state(root: Path) -> Path:
    return root / "state"


@pytest.fixture
def ansible(root: Path, tmp_path: Path) -> Ansible:
    return Ansible(tmp_path, root / "state")


@contextmanager
def block_device(root: Path, size_bytes: int = 300 * MIB) -> Iterator[str]:
    """A loop device in the part of a disk."""
    image = root / "disk.img"
    with image.open("wb") as stream:
        stream.truncate(size_bytes)
    argv = ["losetup", "--find", "--show", "--", image]
    device = subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()
    try:
        yield device
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def four_runs(ansible: Ansible, **options: Any) -> FourRuns:
    return ansible.check_apply_check_apply({"tandem.machines.storage_pool": {"name": "pool", **options}})


def remove_with_four_runs(ansible: Ansible) -> None:
    """Remove the pool, and see that nothing of it is left."""
    runs = four_runs(ansible, state="absent")
    assert runs.apply["previous_state"] == "present"
    assert runs.apply["storage_pool"] == {}
    check_clean(ansible.root)


def remove(state: Path, name: str = "pool") -> None:
    """The same without Ansible, which takes seconds."""
    apply(Paths(state), name=name, state="absent")
    assert not (state / "storage" / name).exists()
    assert leftovers(state / "storage" / name) == []


def require_refused(ansible: Ansible, *cases: tuple[Mapping[str, Any], str]) -> None:
    """All tasks are refused in one line each: by us, with that in the message."""
    tasks = [
        {"tandem.machines.storage_pool": {"name": "pool", **options}, "ignore_errors": True}
        for options, _unused in cases
    ]
    results = ansible.tasks(*tasks)
    for result, (options, message) in zip(results, cases):
        assert result.status == "ignored", options
        assert message in result.message, result.message
        assert "\n" not in result.message and "Module failed" not in result.message


def signatures(device: str) -> str:
    return subprocess.run(["wipefs", "--no-act", device], check=True, capture_output=True, text=True).stdout


def mount_options(state: Path) -> list[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if f" {state}/storage/pool/volumes " in line:
            return line.split()[-1].split(",")
    return []


# Life and growth of each kind of pool.


def test_pool_on_a_loop_file(ansible: Ansible, state: Path) -> None:
    runs = four_runs(ansible, driver="btrfs", description="test", config={"size": "300MiB", "user.owner": "me"})
    pool = runs.apply["storage_pool"]
    assert pool["config"] == {"size": "300MiB", "user.owner": "me"}
    assert (pool["status"], pool["description"], pool["used_by"]) == ("Created", "test", [])
    assert pool["space"]["total_bytes"] == 300 * MIB
    assert runs.check["storage_pool"]["config"] == pool["config"]
    assert runs.apply["previous_state"] == "absent" and runs.apply_again["previous_state"] == "present"
    image = state / "storage/pool/pool.img"
    assert image.stat().st_mode & 0o7777 == 0o600
    assert {
        path.name: path.stat().st_mode & 0o7777 for path in (state / "storage/pool/volumes").iterdir() if path.is_dir()
    } == {"images": 0o700, "containers": 0o711, "virtual-machines": 0o700, "custom": 0o711}
    grown = four_runs(ansible, config={"size": "400MiB"})
    assert grown.apply["diff"]["before"] == {"config": {"size": "300MiB"}}
    assert grown.apply["diff"]["after"] == {"config": {"size": "400MiB"}}
    assert grown.apply["storage_pool"]["space"]["total_bytes"] == 400 * MIB
    assert image.stat().st_mode & 0o7777 == 0o600
    remove_with_four_runs(ansible)


def test_check_mode_writes_nothing(ansible: Ansible, state: Path) -> None:
    task = {"tandem.machines.storage_pool": {"name": "pool", "driver": "btrfs"}, "check_mode": True}
    (result,) = ansible.tasks(task)
    assert result.changed
    assert result["storage_pool"]["status"] == "Created"
    assert not state.exists()


def test_pool_of_automatic_size_keeps_it(ansible: Ansible, state: Path) -> None:
    apply(Paths(state), driver="btrfs")
    size = (state / "storage/pool/pool.img").stat().st_size
    assert 5 * 1024 * MIB <= size <= 30 * 1024 * MIB
    assert ansible.task("storage_pool", name="pool", config={}, config_mode="replace").changed is False
    remove(state)


def test_pool_on_a_block_device(ansible: Ansible, root: Path, state: Path) -> None:
    with block_device(root) as device:
        runs = four_runs(ansible, driver="btrfs", config={"source": device})
        assert runs.apply["storage_pool"]["config"] == {"source": device}
        assert not (state / "storage/pool/pool.img").exists()
        assert "btrfs" in signatures(device)
        subprocess.run(["umount", state / "storage/pool/volumes"], check=True)
        assert four_runs(ansible).apply["actions"] == ["mount storage pool pool"]
        remove_with_four_runs(ansible)
        assert signatures(device) == ""


def test_pool_on_a_device_that_is_wiped(ansible: Ansible, root: Path, state: Path) -> None:
    with block_device(root) as device:
        subprocess.run(["mkfs.ext4", "-q", device], check=True)
        message = f"{device} already holds signatures of ext4"
        require_refused(ansible, ({"driver": "btrfs", "config": {"source": device}}, message))
        assert "ext4" in signatures(device)
        runs = four_runs(ansible, driver="btrfs", config={"source": device, "source.wipe": True})
        assert f"wipe and format {device} with btrfs" in runs.apply["actions"]
        remove(state)


@pytest.mark.parametrize("exists", [True, False])
def test_pool_in_a_directory_of_btrfs(ansible: Ansible, root: Path, exists: bool) -> None:
    with foreign_filesystem(root) as mounted:
        (mounted / "others").write_text("x")
        source = mounted / "pool"
        if exists:
            source.mkdir()
        four_runs(ansible, driver="btrfs", config={"source": str(source)})
        add_image(open_pool(Paths(ansible.root), "pool"))
        remove_with_four_runs(ansible)
        assert sorted(path.name for path in mounted.iterdir()) == (["others", "pool"] if exists else ["others"])
        assert not exists or list(source.iterdir()) == []


def test_pool_in_a_directory_of_our_own(ansible: Ansible, state: Path) -> None:
    four_runs(ansible, driver="dir")
    add_image(open_pool(Paths(state), "pool"))
    remove_with_four_runs(ansible)


def test_pool_in_a_directory_of_the_user(ansible: Ansible, root: Path, state: Path) -> None:
    source = root / "a directory"
    source.mkdir()
    four_runs(ansible, driver="dir", config={"source": str(source)})
    open_pool(Paths(state), "pool").create_volume("data1")
    assert (source / "custom/data1").is_dir()
    require_refused(ansible, ({"state": "absent"}, "storage pool pool is used by volume data1: remove them first"))
    open_pool(Paths(state), "pool").remove_volume("data1")
    remove(state)
    assert list(source.iterdir()) == []


def test_mount_options_are_applied(ansible: Ansible, state: Path) -> None:
    apply(Paths(state), driver="btrfs", config={"size": "300MiB"})
    assert "user_subvol_rm_allowed" in mount_options(state)
    four_runs(ansible, config={"btrfs.mount_options": "user_subvol_rm_allowed,compress=zstd"})
    assert any(option.startswith("compress=zstd") for option in mount_options(state))
    apply(Paths(state), config={"btrfs.mount_options": None})
    subprocess.run(["umount", state / "storage/pool/volumes"], check=True)
    apply(Paths(state))
    assert not any(option.startswith("compress") for option in mount_options(state))
    remove(state)


def test_removal_while_not_mounted_looks_inside_first(state: Path) -> None:
    apply(Paths(state), driver="btrfs", config={"size": "300MiB"})
    pool = open_pool(Paths(state), "pool")
    add_image(pool)
    pool.create_container("web1", FINGERPRINT, 1000)
    subprocess.run(["umount", pool.volumes], check=True)
    with pytest.raises(Conflict, match="storage pool pool is used by instance web1: remove them first"):
        apply(Paths(state), state="absent")
    assert json.loads((state / "storage/pool/pool.json").read_text())["work"] is None
    pool.remove_container("web1")
    subprocess.run(["umount", pool.volumes], check=True)
    remove(state)


def test_record_of_an_instance_holds_the_pool(state: Path) -> None:
    apply(Paths(state), driver="dir")
    record = state / "instances/web1/instance.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"devices": {"root": {"type": "disk", "pool": "pool", "path": "/"}}}))
    with pytest.raises(Conflict, match="storage pool pool is used by instance web1"):
        apply(Paths(state), state="absent")
    record.write_text("damaged")
    with pytest.raises(Conflict, match="storage pool pool is used by instance web1"):
        apply(Paths(state), state="absent")
    record.unlink()
    remove(state)


def test_info_lists_pools_and_mounts_none(ansible: Ansible, state: Path) -> None:
    apply(Paths(state), driver="btrfs", config={"size": "300MiB"})
    apply(Paths(state), name="other", driver="dir", description="second")
    apply(Paths(state), name="third", driver="btrfs", config={"size": "300MiB"})
    add_image(open_pool(Paths(state), "other"))
    for name in ("pool", "third"):
        subprocess.run(["umount", state / f"storage/{name}/volumes"], check=True)
    os.rename(state / "storage/third/pool.img", state / "storage/third/away")
    read = "tandem.machines.storage_pool_info"
    everything, nothing = ansible.tasks({read: {}}, {read: {"name": "no-such-pool"}})
    other, pool, third = everything["storage_pools"]
    assert (other["name"], other["status"], other["description"]) == ("other", "Created", "second")
    assert other["used_by"] == [f"image {FINGERPRINT}"]
    assert (pool["name"], pool["status"], pool["space"]) == ("pool", "Unavailable", None)
    assert (third["name"], third["status"]) == ("third", "Errored")
    assert nothing["storage_pools"] == []
    assert mount_options(state) == []
    os.rename(state / "storage/third/away", state / "storage/third/pool.img")
    for name in ("other", "pool", "third"):
        remove(state, name)


# What is refused.


def test_bad_tasks_are_refused_before_anything_is_done(ansible: Ansible, root: Path, state: Path) -> None:
    (root / "full").mkdir()
    (root / "full/file").write_text("x")
    (root / "file").write_text("x")
    (root / "plain").mkdir()
    plain, file, full = (str(root / name) for name in ("plain", "file", "full"))
    unknown = "unknown storage pool config option 'sise'; did you mean size?"
    with block_device(root) as device:
        require_refused(
            ansible,
            ({"name": "../pool", "driver": "dir"}, "storage pool name"),
            ({}, "storage pool pool does not exist: give a driver to create it"),
            ({"driver": "btrfs", "config": {"sise": "1GiB"}}, unknown),
            ({"driver": "btrfs", "config": {"size": "a lot"}}, "config option size: 'a lot' is not a size"),
            ({"driver": "btrfs", "config": {"size": "1MiB"}}, "too small for btrfs"),
            ({"driver": "btrfs", "config": {"source": plain}}, "is not on btrfs"),
            ({"driver": "btrfs", "config": {"source": file}}, "neither a directory nor a block device"),
            ({"driver": "dir", "config": {"source": full}}, "is not empty"),
            ({"driver": "dir", "config": {"source": device}}, "is a block device and dir takes a directory"),
            ({"driver": "dir", "config": {"size": "1GiB"}}, "config option size is for pools of driver btrfs, not dir"),
            ({"driver": "dir", "config": {"rsync.bwlimit": "1"}}, "has no meaning here"),
        )
    assert not state.exists()


@pytest.mark.parametrize("driver", ["btrfs", "dir"])
def test_missing_source_warns_in_check_mode_and_fails(ansible: Ansible, root: Path, driver: str) -> None:
    source = "/dev/no-such-device" if driver == "btrfs" else str(root / "missing")
    task = {"tandem.machines.storage_pool": {"name": "pool", "driver": driver, "config": {"source": source}}}
    checked, applied = ansible.tasks({**task, "check_mode": True}, {**task, "ignore_errors": True})
    assert checked.changed
    assert any(f"{source} does not exist yet" in warning for warning in checked["warnings"])
    assert applied.status == "ignored" and source in applied.message
    check_clean(ansible.root)


def test_source_in_use_is_refused(root: Path, state: Path) -> None:
    with foreign_filesystem(root) as mounted:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        device = next(line.split(" - ")[1].split()[1] for line in lines if f" {mounted} " in line)
        for config in ({"source": device}, {"source": device, "source.wipe": True}):
            with pytest.raises(Conflict, match=f"{device} is in use"):
                apply(Paths(state), driver="btrfs", config=config)
        assert not (state / "storage").exists()


def test_what_is_fixed_cannot_change(ansible: Ansible, root: Path, state: Path) -> None:
    apply(Paths(state), driver="btrfs", config={"size": "300MiB"})
    record = (state / "storage/pool/pool.json").read_bytes()
    require_refused(
        ansible,
        ({"driver": "dir"}, "cannot become dir"),
        ({"config": {"size": "200MiB"}}, "cannot shrink to 200MiB"),
        ({"config": {"source": str(root)}}, "config option source is fixed at creation"),
    )
    assert (state / "storage/pool/pool.json").read_bytes() == record
    remove(state)


def test_foreign_file_is_not_overwritten(state: Path) -> None:
    image = state / "storage/pool/pool.img"
    image.parent.mkdir(parents=True)
    image.write_text("somebody's")
    with pytest.raises(Conflict, match="there is no record of the pool"):
        apply(Paths(state), driver="btrfs", config={"size": "300MiB"})
    assert apply(Paths(state), state="absent") == {}
    assert image.read_text() == "somebody's"


# Interruptions and several runs.


PROGRAM = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, {path!r})
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._module.converge import converge
from ansible_collections.tandem.machines.plugins.module_utils._storage.resource import build_storage_pool
given = {{"name": "pool", "state": "present", "config": {{}}, **json.loads({params!r})}}
paths = Paths(Path({root!r}))
resource = build_storage_pool(given, paths)
os.kill(os.getpid(), 0)  # The work begins here.
outcome = converge(resource, paths, 30, False)
print(json.dumps(bool(outcome.plan.changes)))
"""


def program_of(state: Path, params: Mapping[str, Any]) -> str:
    return PROGRAM.format(path=import_path(), params=json.dumps(params), root=str(state))


def moments_of(program: str, root: Path) -> list[tuple[str, int]]:
    """System calls of the work, as (name, how many of that name until then), evenly thinned out."""
    script, trace = root / "program.py", root / "trace"
    script.write_text(program)
    argv = ["strace", "-qq", "-o", trace, "-e", f"trace=kill,{KILLED_SYSCALLS}", *python(script)]
    finished = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 0, finished.stderr
    names = [line.split("(")[0] for line in trace.read_text().splitlines() if "(" in line]
    begin = names.index("kill") + 1
    calls = [(name, names[: place + 1].count(name)) for place, name in enumerate(names) if place >= begin]
    return list(thinned(calls, 5))


def python(script: Path) -> list[str]:
    return [sys.executable, "-I", "-S", "-B", str(script)]


def killed_at(program: str, call: str, number: int, root: Path) -> bool:
    """Whether it was: the module, or a program that it runs, ends at that system call."""
    script = root / "program.py"
    script.write_text(program)
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject, *python(script)]
    return subprocess.run(argv, check=False, capture_output=True, timeout=120).returncode != 0


def check_clean(state: Path) -> None:
    assert not (state / "storage").exists() or list((state / "storage").iterdir()) == []
    assert leftovers(state) == []


def torture(root: Path, state: Path, params: Mapping[str, Any], prepare: Callable[[], None]) -> int:
    """Kill at many moments; each time the same task converges, again changes nothing, and absent leaves nothing."""
    program, paths = program_of(state, params), Paths(state)
    prepare()
    moments = moments_of(program, root)
    killed = 0
    for call, number in moments:
        apply(paths, state="absent")
        prepare()
        killed += killed_at(program, call, number, root)
        apply(paths, **params)
        again = run_program(program, root)
        assert again == "false", (call, number, again)
        apply(paths, state="absent")
        check_clean(state)
    assert killed >= len(moments) // 2
    return killed


def run_program(program: str, root: Path) -> str:
    script = root / "program.py"
    script.write_text(program)
    finished = subprocess.run(python(script), check=True, capture_output=True, text=True, timeout=120)
    return finished.stdout.strip()


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to kill at chosen system calls")


@pytest.mark.moments
@needs_strace
@pytest.mark.parametrize("backing", ["loop", "plain", "directory", "subvolume", "block"])
def test_killed_creation_can_be_repeated(root: Path, state: Path, backing: str) -> None:
    if backing == "loop":
        torture(root, state, {"driver": "btrfs", "config": {"size": "256MiB"}}, lambda: None)
    elif backing == "plain":
        torture(root, state, {"driver": "dir"}, lambda: None)
    elif backing == "directory":
        (root / "given").mkdir()
        torture(root, state, {"driver": "dir", "config": {"source": str(root / "given")}}, lambda: None)
        assert list((root / "given").iterdir()) == []
    elif backing == "subvolume":
        with foreign_filesystem(root) as mounted:
            torture(root, state, {"driver": "btrfs", "config": {"source": str(mounted / "new")}}, lambda: None)
            assert list(mounted.iterdir()) == []
    else:
        with block_device(root) as device:
            torture(root, state, {"driver": "btrfs", "config": {"source": device}}, lambda: None)
            assert signatures(device) == ""


@pytest.mark.moments
@needs_strace
def test_killed_growth_can_be_repeated(root: Path, state: Path) -> None:
    def prepare() -> None:
        apply(Paths(state), driver="btrfs", config={"size": "256MiB"})

    torture(root, state, {"driver": "btrfs", "config": {"size": "300MiB"}}, prepare)


@pytest.mark.moments
@needs_strace
@pytest.mark.parametrize("driver", ["btrfs", "dir"])
def test_killed_removal_can_be_repeated(root: Path, state: Path, driver: str) -> None:
    def prepare() -> None:
        apply(Paths(state), driver=driver, config={"size": "256MiB"} if driver == "btrfs" else {})
        add_image(open_pool(Paths(state), "pool"))

    torture(root, state, {"state": "absent"}, prepare)


def test_of_two_runs_at_once_one_changes(root: Path, state: Path) -> None:
    script = root / "program.py"
    script.write_text(program_of(state, {"driver": "btrfs", "config": {"size": "300MiB"}}))

    def start(_number: int) -> str:
        return subprocess.run(python(script), check=True, capture_output=True, text=True, timeout=120).stdout.strip()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(start, range(4))) == ["false", "false", "false", "true"]
    apply(Paths(state), state="absent")
    check_clean(state)
