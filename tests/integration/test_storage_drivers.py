# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""One contract for all storage drivers, on real pools: btrfs on a loop file, btrfs in a directory, dir."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import struct
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import Conflict, InvalidRequest, NotSupported
from ansible_collections.tandem.machines.plugins.module_utils._host.locks import Lock, hold
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._module.converge import converge
from ansible_collections.tandem.machines.plugins.module_utils._storage import btrfs_ioctl
from ansible_collections.tandem.machines.plugins.module_utils._storage.layout import MARKER
from ansible_collections.tandem.machines.plugins.module_utils._storage.pool import Pool, find_pool, open_pool
from ansible_collections.tandem.machines.plugins.module_utils._storage.record import Contents, Usage
from ansible_collections.tandem.machines.plugins.module_utils._storage.resource import build_storage_pool
from ansible_collections.tandem.machines.tests.integration.fixtures import require_root
from ansible_collections.tandem.machines.tests.integration.leaks import loop_devices, mounts
from ansible_collections.tandem.machines.tests.integration.moments import thinned

FINGERPRINT = "ab" * 32
OTHER_FINGERPRINT = "cd" * 32
OWNER = 1_234_000
MIB = 1024**2
DRIVERS = ("btrfs on a loop file", "btrfs in a directory", "dir")
KILLED_SYSCALLS = "ioctl,mkdir,chmod,fchmod,fchown,rename,fsync,unlink,unlinkat,rmdir,execve,clone,vfork,wait4,close"


@contextmanager
def private_root() -> Iterator[Path]:
    """A directory of the test's own, gone afterwards with its mounts and loop devices, or the test fails."""
    require_root()
    base = Path("/var/tmp/tandem-storage")
    base.mkdir(mode=0o711, exist_ok=True)
    root = base / f"test-{uuid.uuid4().hex[:8]}"
    root.mkdir(mode=0o711)
    yield root
    left = leftovers(root)
    unmount_below(root)
    shutil.rmtree(root)
    for runtime in Path("/run/tandem").glob(f"root{str(root).replace('/', '-')}*"):
        shutil.rmtree(runtime)
    if not any(base.iterdir()):
        base.rmdir()
    assert not left, f"left behind: {left}"


def leftovers(root: Path) -> list[str]:
    """Mounts and loop devices that have to do with root."""
    found = [line for line in mounts() if str(root) in line]
    here = [line for line in found if line.endswith(" in here")]
    # Whoever makes a mount namespace gets a copy of our mounts, which keeps loop devices for as long as it lives.
    return here if len(found) > len(here) else here + [line for line in loop_devices() if str(root) in line]


def unmount_below(root: Path) -> None:
    targets = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for target in reversed(targets):
        if target.startswith(f"{root}/"):
            subprocess.run(["umount", "--", target], check=False)


def apply(paths: Paths, **params: Any) -> Mapping[str, Any]:
    """What the module does with these parameters, without Ansible around it."""
    given = {"name": "pool", "state": "present", "config": {}, **params}
    return converge(build_storage_pool(given, paths), paths, 30, False).shown


@contextmanager
def foreign_filesystem(root: Path, program: str = "mkfs.btrfs", size_bytes: int = 300 * MIB) -> Iterator[Path]:
    """A mounted file system of somebody else's."""
    image, target = root / "foreign.img", root / "foreign"
    with image.open("wb") as stream:
        stream.truncate(size_bytes)
    target.mkdir()
    subprocess.run([program, "-q", "--", image], check=True, capture_output=True)
    subprocess.run(["mount", "-o", "loop", "--", image, target], check=True)
    try:
        yield target
    finally:
        subprocess.run(["umount", "--", target], check=True)


def new_pool(kind: str, root: Path, size: str = "300MiB") -> Iterator[Pool]:
    """A new pool of one of DRIVERS; removed afterwards, with nothing of it left."""
    paths = Paths(root / "state")
    if kind == "btrfs on a loop file":
        yield from _new_pool(paths, driver="btrfs", config={"size": size})
    elif kind == "btrfs in a directory":
        with foreign_filesystem(root) as mounted:
            yield from _new_pool(paths, driver="btrfs", config={"source": str(mounted / "pool")})
            assert not (mounted / "pool").exists()
    else:
        yield from _new_pool(paths, driver="dir")


def _new_pool(paths: Paths, **params: Any) -> Iterator[Pool]:
    apply(paths, **params)
    pool = open_pool(paths, "pool")
    yield pool
    contents = pool.list_contents()
    for name in contents.containers:
        pool.remove_container(name)
    for name in contents.virtual_machines:
        pool.remove_vm(name)
    for name in contents.volumes:
        pool.remove_volume(name)
    apply(paths, state="absent")
    assert not any(paths.pools.iterdir())


@pytest.fixture(scope="session")
def prepared_host() -> None:
    """These tests need no prepared host."""


@pytest.fixture(autouse=True)
def nothing_leaks() -> None:
    """private_root looks closer, and only at what is ours: other tests may run at the same time."""


@pytest.fixture
def root() -> Iterator[Path]:
    with ExitStack() as stack:
        yield stack.enter_context(private_root())


@pytest.fixture(params=DRIVERS)
def pool(request: pytest.FixtureRequest, root: Path) -> Iterator[Pool]:
    yield from new_pool(request.param, root)


@pytest.fixture
def loop_pool(root: Path) -> Iterator[Pool]:
    yield from new_pool(DRIVERS[0], root)


def add_image(pool: Pool, fingerprint: str = FINGERPRINT) -> None:
    tree = pool.begin_image(fingerprint) / "rootfs"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/hostname").write_text("image\n")
    (tree / "bin").symlink_to("usr/bin")
    os.mkfifo(tree / "pipe")
    os.setxattr(tree / "etc/hostname", "user.note", b"kept")
    os.chown(tree / "etc", 7, 8)
    pool.finish_image(fingerprint)


def subvolume(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        btrfs_ioctl.create_subvolume(descriptor, path.name)
    finally:
        os.close(descriptor)


def set_read_only(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        btrfs_ioctl.set_read_only(descriptor, True)
    finally:
        os.close(descriptor)


def add_attribute(path: Path, letter: str) -> None:
    subprocess.run(["chattr", f"+{letter}", "--", path], check=True)


def fill(path: Path, mebibytes: int) -> None:
    with path.open("wb", buffering=0) as stream:
        for _unused in range(mebibytes):
            stream.write(os.urandom(MIB))
        os.fsync(stream.fileno())


def filled_to(path: Path, limit: int = 1000) -> OSError:
    """Write until it is refused; the error."""
    try:
        fill(path, limit)
    except OSError as error:
        return error
    raise AssertionError(f"{limit} MiB fit into {path}")


# Images.


def test_image_appears_when_it_is_whole(pool: Pool) -> None:
    unfinished = pool.begin_image(FINGERPRINT)
    assert list(unfinished.iterdir()) == []
    (unfinished / "rootfs").mkdir()
    (unfinished / "rootfs/file").write_text("x")
    assert not pool.has_image(FINGERPRINT)
    assert pool.list_contents() == Contents()
    pool.finish_image(FINGERPRINT)
    assert pool.has_image(FINGERPRINT)
    assert (pool.image_root(FINGERPRINT) / "file").read_text() == "x"
    assert pool.list_contents() == Contents(images=(FINGERPRINT,))
    assert pool.image_root(FINGERPRINT).parent.stat().st_mode & 0o7777 == 0o700
    pool.finish_image(FINGERPRINT)
    pool.remove_image(FINGERPRINT)
    pool.remove_image(FINGERPRINT)
    assert not pool.has_image(FINGERPRINT)


def test_image_of_an_instant_driver_cannot_be_written_to(pool: Pool) -> None:
    if not pool.features.instant_clone:
        pytest.skip("dir cannot make a directory read-only for root")
    add_image(pool)
    with pytest.raises(OSError) as refused:
        (pool.image_root(FINGERPRINT) / "file").write_text("x")
    assert refused.value.errno == errno.EROFS


def test_begun_image_is_begun_anew(pool: Pool) -> None:
    (pool.begin_image(FINGERPRINT) / "rubbish").mkdir()
    assert list(pool.begin_image(FINGERPRINT).iterdir()) == []
    pool.remove_image(FINGERPRINT)
    assert list((pool.volumes / "images").iterdir()) == []


@pytest.mark.parametrize("kind", ["nothing", "empty root", "link", "file beside it"])
def test_only_a_filled_root_becomes_an_image(pool: Pool, kind: str) -> None:
    unfinished = pool.begin_image(FINGERPRINT)
    if kind == "link":
        (unfinished / "rootfs").symlink_to("/etc")
    elif kind != "nothing":
        (unfinished / "rootfs").mkdir()
    if kind == "file beside it":
        (unfinished / "rootfs/file").write_text("x")
        (unfinished / "backup.yaml").write_text("x")
    with pytest.raises(Conflict, match="rootfs"):
        pool.finish_image(FINGERPRINT)
    assert not pool.has_image(FINGERPRINT)


# Containers.


def test_container_is_a_copy_of_its_image(pool: Pool) -> None:
    add_image(pool)
    pool.create_container("web1", FINGERPRINT, OWNER)
    root = pool.container_root("web1")
    assert (root / "etc/hostname").read_text() == "image\n"
    assert os.readlink(root / "bin") == "usr/bin"
    assert os.getxattr(root / "etc/hostname", "user.note") == b"kept"
    assert (root / "pipe").is_fifo()
    assert ((root / "etc").stat().st_uid, (root / "etc").stat().st_gid) == (7, 8)
    status = root.parent.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o100, OWNER, OWNER)
    (root / "etc/hostname").write_text("mine\n")
    assert (pool.image_root(FINGERPRINT) / "etc/hostname").read_text() == "image\n"


def test_creating_again_keeps_the_container_and_mends_its_owner(pool: Pool) -> None:
    add_image(pool)
    pool.create_container("web1", FINGERPRINT, OWNER)
    (pool.container_root("web1") / "mine").write_text("x")
    os.chown(pool.container_root("web1").parent, 0, 0)
    pool.create_container("web1", FINGERPRINT, OWNER)
    assert (pool.container_root("web1") / "mine").read_text() == "x"
    assert pool.container_root("web1").parent.stat().st_uid == OWNER


def test_container_outlives_its_image(pool: Pool) -> None:
    add_image(pool)
    pool.create_container("web1", FINGERPRINT, OWNER)
    pool.remove_image(FINGERPRINT)
    assert (pool.container_root("web1") / "etc/hostname").read_text() == "image\n"
    with pytest.raises(Conflict, match="does not have image"):
        pool.create_container("web2", FINGERPRINT, OWNER)
    assert not pool.has_container("web2")


def test_removal_is_complete_and_repeatable(pool: Pool) -> None:
    add_image(pool)
    pool.create_container("web1", FINGERPRINT, OWNER)
    pool.remove_container("web1")
    pool.remove_container("web1")
    assert not pool.has_container("web1")
    assert list((pool.volumes / "containers").iterdir()) == []
    with pytest.raises(Conflict, match="does not have container web1"):
        pool.container_root("web1")


def test_removal_takes_whatever_a_guest_left(pool: Pool, root: Path) -> None:
    canary = root / "canary"
    canary.mkdir()
    (canary / "file").write_text("x")
    add_image(pool)
    pool.create_container("web1", FINGERPRINT, OWNER)
    tree = pool.container_root("web1")
    (tree / "link").symlink_to(canary)
    (tree / "locked").mkdir()
    (tree / "locked/file").write_text("x")
    add_attribute(tree / "locked/file", "i")
    add_attribute(tree / "locked", "a")
    _make_deep(tree, 1500)
    pool.remove_container("web1")
    assert list((pool.volumes / "containers").iterdir()) == []
    assert (canary / "file").read_text() == "x"


def _make_deep(tree: Path, levels: int) -> None:
    """Deeper than Python recurses and longer than a path can be."""
    descriptor = os.open(tree, os.O_RDONLY)
    for _unused in range(levels):
        os.mkdir("deep", dir_fd=descriptor)
        inner = os.open("deep", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)


def test_removal_takes_subvolumes_of_a_guest(pool: Pool) -> None:
    if pool.driver != "btrfs":
        pytest.skip("only btrfs has subvolumes")
    add_image(pool)
    pool.create_container("web1", FINGERPRINT, OWNER)
    tree = pool.container_root("web1")
    for path in ("one", "one/dir/two", "one/dir/two/three", "etc/four"):
        (tree / path).parent.mkdir(exist_ok=True)
        subvolume(tree / path)
        (tree / path / "file").write_text("x")
    add_attribute(tree / "one/dir/two/three", "i")
    add_attribute(tree / "one/dir", "a")
    for path in ("one/dir/two", "one"):
        set_read_only(tree / path)
    set_read_only(tree.parent)
    pool.remove_container("web1")
    assert list((pool.volumes / "containers").iterdir()) == []
    assert subvolumes_below(pool.volumes / "containers") == []


def subvolumes_below(directory: Path) -> list[str]:
    lines = subprocess.run(["btrfs", "subvolume", "list", directory], capture_output=True, text=True, check=True).stdout
    return [line for line in lines.splitlines() if "containers/" in line]


def test_link_in_place_of_a_root_is_refused(pool: Pool) -> None:
    add_image(pool)
    pool.create_container("web1", FINGERPRINT, OWNER)
    directory = pool.container_root("web1").parent
    os.rename(directory / "rootfs", directory / "elsewhere")
    (directory / "rootfs").symlink_to("/")
    with pytest.raises(Conflict, match="root file system"):
        pool.container_root("web1")


# Virtual machines and custom volumes.


def test_virtual_machine_has_a_directory(pool: Pool) -> None:
    directory = pool.create_vm("vm1")
    assert directory == pool.vm_directory("vm1") == pool.create_vm("vm1")
    assert directory.stat().st_mode & 0o7777 == 0o700
    (directory / "root.qcow2").write_bytes(b"x" * 100_000)
    assert pool.list_contents() == Contents(virtual_machines=("vm1",))
    if pool.driver == "btrfs":
        shown = subprocess.run(["lsattr", directory / "root.qcow2"], capture_output=True, text=True, check=True).stdout
        assert "C" in shown.split()[0]
    pool.remove_vm("vm1")
    pool.remove_vm("vm1")
    assert not pool.has_vm("vm1")


def test_custom_volume_is_an_empty_directory_of_root(pool: Pool) -> None:
    volume = pool.create_volume("data1")
    status = volume.stat()
    assert (status.st_mode & 0o7777, status.st_uid, list(volume.iterdir())) == (0o711, 0, [])
    (volume / "file").write_text("x")
    assert pool.create_volume("data1") == pool.volume_path("data1") == volume
    assert (volume / "file").read_text() == "x"
    pool.remove_volume("data1")
    assert not pool.has_volume("data1")
    with pytest.raises(Conflict, match="does not have volume data1"):
        pool.volume_path("data1")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/etc", "-rf", "a\n", "A", "a" * 65, "\u0661"])
def test_bad_names_never_become_paths(loop_pool: Pool, name: str) -> None:
    verbs = (
        lambda: loop_pool.has_container(name),
        lambda: loop_pool.create_container(name, FINGERPRINT, OWNER),
        lambda: loop_pool.remove_container(name),
        lambda: loop_pool.create_vm(name),
        lambda: loop_pool.remove_vm(name),
        lambda: loop_pool.create_volume(name),
        lambda: loop_pool.remove_volume(name),
        lambda: loop_pool.begin_image(name),
        lambda: loop_pool.remove_image(name),
    )
    for verb in verbs:
        with pytest.raises(InvalidRequest):
            verb()


# Limits and space.


def test_limit_needs_a_driver_with_quotas(pool: Pool) -> None:
    add_image(pool)
    if pool.volumes.parent.parent.parent.joinpath("storage/pool/pool.img").exists():
        pool.create_container("web1", FINGERPRINT, OWNER, 50 * MIB)
        return
    with pytest.raises(NotSupported, match="web1"):
        pool.create_container("web1", FINGERPRINT, OWNER, 50 * MIB)
    assert not pool.has_container("web1")


def test_container_cannot_exceed_its_size(loop_pool: Pool) -> None:
    add_image(loop_pool)
    loop_pool.create_container("web1", FINGERPRINT, OWNER, 40 * MIB)
    tree = loop_pool.container_root("web1")
    assert filled_to(tree / "a").errno == errno.EDQUOT
    usage = loop_pool.container_usage("web1")
    assert usage.total_bytes == 40 * MIB
    with pytest.raises(Conflict, match=r"holds .* and cannot be limited"):
        loop_pool.resize_container("web1", 10 * MIB)
    loop_pool.resize_container("web1", 60 * MIB)
    fill(tree / "b", 10)
    os.sync()
    assert 40 * MIB < (loop_pool.container_usage("web1").used_bytes or 0) < 60 * MIB
    loop_pool.resize_container("web1", None)
    assert loop_pool.container_usage("web1").total_bytes is None
    fill(tree / "c", 30)


def test_subvolumes_of_a_guest_count_and_a_full_container_can_be_removed(loop_pool: Pool) -> None:
    if not has_simple_quotas(loop_pool):
        pytest.skip("this kernel has full quotas only, which a guest's subvolumes escape")
    add_image(loop_pool)
    loop_pool.create_container("web1", FINGERPRINT, OWNER, 40 * MIB)
    tree = loop_pool.container_root("web1")
    subvolume(tree / "inner")
    subvolume(tree / "inner/innermost")
    assert filled_to(tree / "inner/innermost/a").errno == errno.EDQUOT
    loop_pool.remove_container("web1")
    assert subvolumes_below(loop_pool.volumes / "containers") == []


def has_simple_quotas(pool: Pool) -> bool:
    return pool._acts._quota_mode() == "squota"  # type: ignore[union-attr]


def test_no_quota_group_outlives_its_container(loop_pool: Pool, root: Path) -> None:
    # The kernel's cleaner drops removed subvolumes and their groups after a commit, which is else every 30 s.
    apply(Paths(root / "state"), config={"btrfs.mount_options": "user_subvol_rm_allowed,commit=1"})
    add_image(loop_pool)
    for name in ("web1", "web2"):
        loop_pool.create_container(name, FINGERPRINT, OWNER, 40 * MIB)
        loop_pool.remove_container(name)
    subprocess.run(["btrfs", "subvolume", "sync", loop_pool.volumes], check=True, capture_output=True, timeout=60)
    loop_pool.remove_leftovers()
    descriptor = os.open(loop_pool.volumes, os.O_RDONLY)
    try:
        subvolumes = {5, *(child.identity for child in btrfs_ioctl.descendants(descriptor, 5))}
        assert btrfs_ioctl.groups(descriptor, 1) == []
        assert set(btrfs_ioctl.groups(descriptor, 0)) <= subvolumes
    finally:
        os.close(descriptor)


def test_full_quotas_serve_kernels_without_simple_ones(loop_pool: Pool) -> None:
    subprocess.run(["btrfs", "quota", "disable", loop_pool.volumes], check=True)
    add_image(loop_pool)
    loop_pool.create_container("web0", FINGERPRINT, OWNER)
    assert loop_pool.container_usage("web0") == Usage(None)
    loop_pool.resize_container("web0", None)
    loop_pool.create_container("web1", FINGERPRINT, OWNER, 40 * MIB)
    assert not has_simple_quotas(loop_pool)
    subvolume(loop_pool.container_root("web1") / "inner")
    assert filled_to(loop_pool.container_root("web1") / "a").errno == errno.EDQUOT
    os.sync()
    usage = loop_pool.container_usage("web1")
    assert usage.total_bytes == 40 * MIB and 30 * MIB < (usage.used_bytes or 0) <= 40 * MIB
    loop_pool.resize_container("web1", 50 * MIB)
    loop_pool.remove_container("web1")
    assert subvolumes_below(loop_pool.volumes / "containers")[0].endswith("web0")


def test_custom_volume_can_be_limited(loop_pool: Pool) -> None:
    volume = loop_pool.create_volume("data1", 20 * MIB)
    assert filled_to(volume / "a").errno == errno.EDQUOT
    loop_pool.create_volume("data1", 60 * MIB)
    fill(volume / "b", 20)
    loop_pool.remove_volume("data1")


def test_usage_follows_what_is_written(pool: Pool) -> None:
    volume = pool.create_volume("data1")
    fill(volume / "a", 8)
    os.sync()
    used = pool.volume_usage("data1").used_bytes
    assert used is None if pool.driver == "btrfs" and not has_simple_quotas(pool) else 8 * MIB <= (used or 0) < 10 * MIB
    assert pool.space().used_bytes >= 8 * MIB
    assert pool.space().total_bytes > pool.space().used_bytes


def test_full_pool_says_so_and_can_be_emptied(root: Path) -> None:
    with contextmanager(new_pool)(DRIVERS[0], root, "256MiB") as pool:
        add_image(pool)
        pool.create_container("web1", FINGERPRINT, OWNER)
        with (
            pytest.raises(Conflict, match=r"storage pool pool is full: .*grow it with config\.size"),
            pool.reporting_full(),
        ):
            fill(pool.container_root("web1") / "a", 1000)
        _exhaust(pool.container_root("web1"))
        pool.remove_container("web1")
        pool.create_container("web2", FINGERPRINT, OWNER)
        assert pool.list_contents() == Contents(images=(FINGERPRINT,), containers=("web2",))


def _exhaust(directory: Path) -> None:
    """Small files until not even metadata fits."""
    for number in range(100_000):
        try:
            (directory / f"small{number}").write_bytes(b"x" * 1500)
        except OSError as error:
            assert error.errno == errno.ENOSPC
            return


def test_full_pool_refuses_a_copy(root: Path) -> None:
    """The program that copies reports in words what a system call reports as a number."""
    with foreign_filesystem(root, "mkfs.ext4", 20 * MIB) as mounted:
        source = mounted / "plain"
        source.mkdir()
        apply(Paths(root / "state"), driver="dir", config={"source": str(source)})
        pool = open_pool(Paths(root / "state"), "pool")
        tree = pool.begin_image(FINGERPRINT) / "rootfs"
        tree.mkdir()
        fill(tree / "big", 9)
        pool.finish_image(FINGERPRINT)
        with pytest.raises(Conflict, match=r"storage pool pool is full: .*make room on its file system"):
            pool.create_container("web1", FINGERPRINT, OWNER)
        assert not pool.has_container("web1")
        apply(Paths(root / "state"), state="absent")
        assert list(source.iterdir()) == []


# Interruptions.


def test_leftovers_go_unless_somebody_works_on_them(pool: Pool, root: Path) -> None:
    add_image(pool)
    pool.begin_image(OTHER_FINGERPRINT)
    pool.create_vm("vm1")
    os.rename(pool.vm_directory("vm1"), pool.volumes / "virtual-machines/.new-vm1")
    pool.create_container("web1", FINGERPRINT, OWNER)
    os.rename(pool.volumes / "containers/web1", pool.volumes / "containers/.new-web1")
    with hold(Paths(root / "state"), [Lock("unpacking", OTHER_FINGERPRINT)], 1):
        pool.remove_leftovers()
    assert os.listdir(pool.volumes / "virtual-machines") == os.listdir(pool.volumes / "containers") == []
    assert sorted(os.listdir(pool.volumes / "images")) == [f".new-{OTHER_FINGERPRINT}", FINGERPRINT]
    pool.remove_leftovers()
    assert os.listdir(pool.volumes / "images") == [FINGERPRINT]


VERBS = {
    "create_container": "pool.create_container('web1', FINGERPRINT, 1234, SIZE)",
    "remove_container": "pool.remove_container('web1')",
    "finish_image": "fill(pool); pool.finish_image(OTHER)",
    "create_volume": "pool.create_volume('data1', SIZE)",
}
PROGRAM = """
import json, os, sys
from pathlib import Path
sys.path.insert(0, {path!r})
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._storage.pool import open_pool
FINGERPRINT, OTHER = {fingerprint!r}, {other!r}
pool = open_pool(Paths(Path({root!r})), "pool")
SIZE = 40 * 1024**2 if {has_limit!r} else None
def fill(pool):
    root = pool.begin_image(OTHER) / "rootfs"
    root.mkdir()
    (root / "file").write_text("x")
os.kill(os.getpid(), 0)  # The verb begins here.
{verb}
"""


def run_killed(program: str, call: str, number: int, directory: Path) -> bool:
    """Run a program that is killed, or a program it runs, at the number-th system call of that name; whether it was."""
    script = directory / "program.py"
    script.write_text(program)
    inject = f"inject={call}:signal=SIGKILL:when={number}"
    argv = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", inject, sys.executable, "-I", "-S", "-B", str(script)]
    return subprocess.run(argv, check=False, capture_output=True, timeout=60).returncode != 0


def calls_of(program: str, directory: Path) -> list[tuple[str, int]]:
    """Those system calls of the verb, each with how many of its name there were until then."""
    script, trace = directory / "program.py", directory / "trace"
    script.write_text(program)
    expression = f"trace=kill,{KILLED_SYSCALLS}"
    argv = ["strace", "-qq", "-o", str(trace), "-e", expression, sys.executable, "-I", "-S", "-B", str(script)]
    finished = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
    assert finished.returncode == 0, finished.stderr
    names = [line.split("(")[0] for line in trace.read_text().splitlines() if "(" in line]
    begin = names.index("kill") + 1
    return [(name, names[: place + 1].count(name)) for place, name in enumerate(names) if place >= begin]


@pytest.mark.moments
@pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace to kill at chosen system calls")
@pytest.mark.parametrize("verb", VERBS)
def test_killed_anywhere_the_verb_can_be_repeated(pool: Pool, root: Path, verb: str) -> None:
    add_image(pool)
    has_limit = (root / "state/storage/pool/pool.img").exists()
    program = PROGRAM.format(
        path=import_path(),
        fingerprint=FINGERPRINT,
        other=OTHER_FINGERPRINT,
        root=str(root / "state"),
        has_limit=has_limit,
        verb=VERBS[verb],
    )
    _reset(pool, verb)
    size = 40 * MIB if has_limit else None
    calls = thinned(calls_of(program, root), 6)
    killed = 0
    for call, number in calls:
        _reset(pool, verb)
        killed += run_killed(program, call, number, root)
        _repeat(pool, verb, size)
        _check_whole(pool, verb)
    assert killed >= len(calls) // 2, (killed, calls)


def import_path() -> str:
    return str(Path(__file__).resolve().parents[2] / ".build")


def _reset(pool: Pool, verb: str) -> None:
    pool.remove_image(OTHER_FINGERPRINT)
    pool.remove_volume("data1")
    pool.remove_container("web1")
    if verb == "remove_container":
        pool.create_container("web1", FINGERPRINT, OWNER)


def _repeat(pool: Pool, verb: str, size: int | None) -> None:
    if verb == "create_container":
        pool.create_container("web1", FINGERPRINT, OWNER, size)
    elif verb == "remove_container":
        pool.remove_container("web1")
    elif verb == "create_volume":
        pool.create_volume("data1", size)
    elif not pool.has_image(OTHER_FINGERPRINT):
        tree = pool.begin_image(OTHER_FINGERPRINT) / "rootfs"
        tree.mkdir()
        (tree / "file").write_text("x")
        pool.finish_image(OTHER_FINGERPRINT)


def _check_whole(pool: Pool, verb: str) -> None:
    contents = pool.list_contents()
    expected = {
        "create_container": Contents(images=(FINGERPRINT,), containers=("web1",)),
        "remove_container": Contents(images=(FINGERPRINT,)),
        "create_volume": Contents(images=(FINGERPRINT,), volumes=("data1",)),
        "finish_image": Contents(images=(FINGERPRINT, OTHER_FINGERPRINT)),
    }
    assert contents == expected[verb]
    names = [name for area in pool.volumes.iterdir() if area.is_dir() for name in os.listdir(area)]
    assert not [name for name in names if name.startswith(".new-")]
    if verb == "create_container":
        assert (pool.container_root("web1") / "etc/hostname").read_text() == "image\n"
        assert pool.container_root("web1").parent.stat().st_mode & 0o7777 == 0o100


def test_power_cut_keeps_what_was_reported(loop_pool: Pool, root: Path) -> None:
    """The loop file, copied while mounted, holds what a power cut would leave: nothing that was not committed."""
    image = root / "state/storage/pool/pool.img"
    add_image(loop_pool)
    loop_pool.create_container("web1", FINGERPRINT, OWNER, 40 * MIB)
    shutil.copyfile(image, root / "created.img")
    loop_pool.remove_container("web1")
    shutil.copyfile(image, root / "removed.img")
    subprocess.run(["umount", "--", loop_pool.volumes], check=True)
    for name, containers in (("created", ["web1"]), ("removed", [])):
        subprocess.run(["mount", "-o", "loop", "--", root / f"{name}.img", loop_pool.volumes], check=True)
        assert list(loop_pool.list_contents().containers) == containers
        if containers:
            assert (loop_pool.container_root("web1") / "etc/hostname").read_text() == "image\n"
            assert loop_pool.container_usage("web1").total_bytes == 40 * MIB
        subprocess.run(["umount", "--", loop_pool.volumes], check=True)
    open_pool(Paths(root / "state"), "pool")


# Open and not open.


def test_pool_that_is_not_mounted_is_mounted_once(loop_pool: Pool, root: Path) -> None:
    paths = Paths(root / "state")
    subprocess.run(["umount", "--", loop_pool.volumes], check=True)
    assert find_pool(paths, "pool") is None
    program = PROGRAM.format(
        path=import_path(), fingerprint="", other="", root=str(paths.root), has_limit=False, verb="print(pool.space())"
    )
    script = root / "program.py"
    script.write_text(program)
    runs = [
        subprocess.Popen([sys.executable, "-I", "-S", "-B", script], stdout=subprocess.PIPE) for _unused in range(6)
    ]
    assert [run.wait(60) for run in runs] == [0] * 6
    for run in runs:
        assert run.stdout is not None
        run.stdout.close()
    assert sum(f" {loop_pool.volumes} " in line for line in Path("/proc/self/mountinfo").read_text().splitlines()) == 1
    found = find_pool(paths, "pool")
    assert found is not None and found.uuid == loop_pool.uuid


def test_missing_mount_is_never_replaced_by_an_empty_directory(loop_pool: Pool, root: Path) -> None:
    paths = Paths(root / "state")
    image = root / "state/storage/pool/pool.img"
    subprocess.run(["umount", "--", loop_pool.volumes], check=True)
    os.rename(image, root / "away.img")
    with pytest.raises(Conflict, match="storage pool pool cannot be mounted"):
        open_pool(paths, "pool")
    assert list(loop_pool.volumes.iterdir()) == []
    os.rename(root / "away.img", image)
    open_pool(paths, "pool")


def test_what_somebody_mounted_there_is_not_touched(loop_pool: Pool, root: Path) -> None:
    paths = Paths(root / "state")
    subprocess.run(["umount", "--", loop_pool.volumes], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", loop_pool.volumes], check=True)
    for act in (lambda: open_pool(paths, "pool"), lambda: apply(paths)):
        with pytest.raises(Conflict, match=r"none is mounted at .* and is not this pool: unmount it"):
            act()
    assert find_pool(paths, "pool") is None
    assert list(loop_pool.volumes.iterdir()) == []
    subprocess.run(["umount", "--", loop_pool.volumes], check=True)
    apply(paths)


def test_directory_with_another_marker_is_not_touched(root: Path) -> None:
    with contextmanager(new_pool)("dir", root) as pool:
        marker = pool.volumes / MARKER
        kept = marker.read_text()
        marker.write_text(json.dumps({**json.loads(kept), "uuid": str(uuid.uuid4())}))
        with pytest.raises(Conflict, match="nothing is written there"):
            open_pool(Paths(root / "state"), "pool")
        marker.unlink()
        with pytest.raises(Conflict, match="nothing is written there"):
            open_pool(Paths(root / "state"), "pool")
        marker.write_text(kept)


def test_there_is_no_pool_of_that_name(root: Path) -> None:
    with pytest.raises(InvalidRequest, match="storage pool other does not exist"):
        open_pool(Paths(root / "state"), "other")
    assert find_pool(Paths(root / "state"), "other") is None
    assert not (root / "state").exists()


def test_loop_device_frees_itself(loop_pool: Pool) -> None:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    device = next(line.split(" - ")[1].split()[1] for line in lines if f" {loop_pool.volumes} " in line)
    descriptor = os.open(device, os.O_RDONLY)
    try:
        # struct loop_info64: lo_flags at offset 52, LO_FLAGS_AUTOCLEAR is 4.
        answer = bytearray(232)
        fcntl.ioctl(descriptor, 0x4C05, answer)
    finally:
        os.close(descriptor)
    assert struct.unpack_from("=I", answer, 52)[0] & 4
