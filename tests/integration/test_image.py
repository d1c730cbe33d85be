# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Images for real: one build, imports of every format, hostile archives, the jail, kills, rivals, the VM's disk."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import select
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import CommandFailed, Conflict, EngineError
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._image import jail, layout
from ansible_collections.tandem.machines.plugins.module_utils._image.jail import Limits, run_closed, run_open
from ansible_collections.tandem.machines.plugins.module_utils._image.store import DiskFiles, ImageStore, open_store
from ansible_collections.tandem.machines.plugins.module_utils._image.unpack import unpack_argv
from ansible_collections.tandem.machines.tests.integration.leaks import Areas, compare, observe
from ansible_collections.tandem.machines.tests.integration.module_process import ModuleProcess
from ansible_collections.tandem.machines.tests.integration.moments import fractions
from ansible_collections.tandem.machines.tests.integration.runner import Ansible
from ansible_collections.tandem.machines.tests.unit.image import archives

NAME = "test/imported"
BUILD = {"type": "build", "distribution": "debian", "release": "bookworm"}
COMPRESSORS = {".gz": "gzip", ".xz": "xz", ".bz2": "bzip2", ".zst": "zstd"}
TOKEN = "canary-8c1f"


@dataclass(frozen=True)
class Lab:
    """A state root, a directory for files that are imported, and a file of the host that nobody may read or touch."""

    root: Path
    files: Path
    canary: Path

    @property
    def store(self) -> ImageStore:
        return open_store(Paths(self.root))

    def module(self, name: str = "image") -> ModuleProcess:
        directory = self.files / f"run-{time.monotonic_ns()}"
        directory.mkdir()
        return ModuleProcess(name, self.root, directory)

    def finish(self, **options: Any) -> Mapping[str, Any]:
        return self.module().finish(options).result

    def refused(self, **options: Any) -> str:
        """The message of a module run that must fail: one line, nothing of the canary in it."""
        process = self.module().start(options)
        output, errors = process.communicate(timeout=120)
        assert process.returncode != 0, output
        message = str(json.loads(output)["msg"])
        assert "\n" not in message and "Traceback" not in errors
        assert TOKEN not in output + errors
        return message

    def import_file(self, path: Path, **options: Any) -> Mapping[str, Any]:
        return self.finish(name=NAME, source={"type": "file", "path": str(path)}, **options)


@pytest.fixture
def lab(ansible: Ansible, tmp_path: Path) -> Iterator[Lab]:
    """On the prepared host; whatever images a test makes beside the shared one are removed after it."""
    canary = tmp_path / "canary"
    canary.write_text(TOKEN)
    canary.chmod(0o600)
    before = canary.stat()
    lab = Lab(ansible.root, tmp_path, canary)
    kept = {image.fingerprint for image in lab.store.all()}
    yield lab
    for image in lab.store.all():
        if image.fingerprint not in kept:
            lab.finish(name=image.fingerprint, state="absent")
    after = canary.stat()
    assert canary.read_text() == TOKEN
    assert (after.st_mode, after.st_uid, after.st_mtime_ns) == (before.st_mode, before.st_uid, before.st_mtime_ns)


@pytest.fixture
def small(lab: Lab) -> Path:
    """A root file system of a few files as a plain tar."""
    path = lab.files / "small.tar"
    path.write_bytes(archives.pack(archives.root()))
    return path


def tree(directory: Path) -> dict[str, tuple[str, int, int]]:
    """Mode, owner and group of everything below directory."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        found[str(path.relative_to(directory))] = (stat.filemode(status.st_mode), status.st_uid, status.st_gid)
    return found


# --- Builds.


def test_a_built_image_serves_both_types(ansible: Ansible, debian_image: str) -> None:
    image = ansible.task("image_info", name=debian_image)["images"][0]
    assert image["types"] == ["container", "virtual-machine"]
    assert (image["os"], image["release"]) == ("Debian", "bookworm")
    assert image["fingerprint"] == image["files"]["rootfs.tar.zst"]["sha256"]


def test_a_built_image_is_not_built_again(ansible: Ansible, debian_image: str) -> None:
    started = time.monotonic()
    runs = ansible.four_runs({"tandem.machines.image": {"name": debian_image, "source": BUILD}})
    assert not any(
        run.changed or run["actions"] for run in (runs.check, runs.apply, runs.check_again, runs.apply_again)
    )
    assert time.monotonic() - started < 30


def test_a_check_of_a_build_builds_nothing(ansible: Ansible, debian_image: str) -> None:
    task = {"tandem.machines.image": {"name": "test/never", "source": BUILD}, "check_mode": True, "diff": True}
    result = ansible.tasks(task)[0]
    assert result.changed
    assert result["diff"]["after"]["image"]["source"]["release"] == "bookworm"
    assert result["actions"] == ["build image test/never from debian bookworm"]
    assert ansible.task("image_info", name="test/never")["images"] == []


def test_nothing_of_the_builder_is_in_a_built_image(lab: Lab, debian_image: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    lab.store.unpack_root(lab.store.require(debian_image).fingerprint, root)
    assert (root / "etc/machine-id").read_bytes() == b""
    for gone in ("etc/hostname", "etc/ssh", "var/lib/dbus/machine-id", "etc/apt/apt.conf.d/99mmdebstrap"):
        assert not os.path.lexists(root / gone), gone
    assert os.readlink(root / "etc/resolv.conf") == "../run/systemd/resolve/stub-resolv.conf"
    empty = ("var/lib/apt/lists", "var/cache/apt", "var/log/apt", "var/backups", "tmp", "var/tmp")
    assert not [path for name in empty for path in (root / name).rglob("*") if path.is_file() and path.stat().st_size]
    shadow = dict(line.split(":")[:2] for line in (root / "etc/shadow").read_text().splitlines())
    assert set(shadow.values()) <= {"*", "!", "!*"}
    host = (os.uname().nodename, Path("/etc/machine-id").read_text().strip())
    for path in (root / "etc").rglob("*"):
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert not [word for word in host if len(word) > 4 and word.encode() in content], path
    assert os.getxattr(root / "usr/bin/ping", "security.capability")
    assert stat.S_IMODE((root / "usr/bin/sudo").stat().st_mode) == 0o4755
    assert not list((root / "dev").iterdir())


def test_a_package_that_does_not_exist(lab: Lab, debian_image: str) -> None:
    message = lab.refused(name="test/never", source={**BUILD, "packages": ["no-such-package"]})
    assert message == (
        "image test/never: debian bookworm has no package no-such-package: correct source option packages"
    )


def test_an_archive_without_its_keys(lab: Lab) -> None:
    message = lab.refused(name="test/never", source={**BUILD, "keyring": "/nonexistent.gpg"})
    assert "keyring /nonexistent.gpg is not on this host: install package debian-archive-keyring" in message


@pytest.mark.parametrize("seconds", [3, pytest.param(12, marks=pytest.mark.torture)])
def test_a_build_that_is_killed_leaves_no_process_and_no_mount(lab: Lab, debian_image: str, seconds: float) -> None:
    before = observe()
    assert lab.module().kill_after({"name": "test/killed", "source": BUILD}, seconds)
    wait_until_only_files_differ(before)
    lab.finish(name="test/killed", state="absent")
    assert compare(before, observe()) == []


def wait_until_only_files_differ(before: Areas) -> None:
    """The kernel ends a PID namespace, and its mounts, a moment after its first process."""
    deadline = time.monotonic() + 10
    while left := [leak for leak in compare(before, observe()) if leak.area != "file"]:
        assert time.monotonic() < deadline, "outlived their starter:\n" + "\n".join(map(str, left))
        time.sleep(0.1)


# --- Imports.


def test_import_four_times(ansible: Ansible, lab: Lab, small: Path) -> None:
    task = {"tandem.machines.image": {"name": NAME, "source": {"type": "file", "path": str(small)}}}
    runs = ansible.check_apply_check_apply(task)
    assert runs.apply["image"]["aliases"] == [NAME]
    assert runs.apply["image"]["types"] == ["container"]
    assert runs.apply["previous_state"] == "absent"
    removal = ansible.check_apply_check_apply({"tandem.machines.image": {"name": NAME, "state": "absent"}})
    assert removal.apply["image"] == {}


@pytest.mark.parametrize("ending", ["", *COMPRESSORS])
def test_compressed_archives(lab: Lab, small: Path, ending: str) -> None:
    if ending:
        subprocess.run([COMPRESSORS[ending], "-k", "-q", small], check=True)
    image = lab.import_file(small.with_name(f"small.tar{ending}"))["image"]
    root = lab.files / "root"
    lab.store.unpack_root(image["fingerprint"], root)
    found = tree(root)
    assert found["etc/owned"] == ("-rw-r--r--", 1000, 65535)
    assert found["usr/bin/passwd"] == ("-rwsr-xr-x", 0, 0)
    assert (root / "usr/bin/other").stat().st_ino == (root / "usr/bin/passwd").stat().st_ino
    assert os.readlink(root / "bin") == "usr/bin"
    assert "dev" in found and "dev/null" not in found
    assert image["release"] == "bookworm"


@pytest.mark.parametrize("prefix", ["", "./"])
def test_an_image_of_lxd(lab: Lab, prefix: str) -> None:
    path = lab.files / "lxd.tar.gz"
    path.write_bytes(gzip.compress(archives.pack(archives.unified(prefix))))
    image = lab.import_file(path)["image"]
    root = lab.files / "root"
    lab.store.unpack_root(image["fingerprint"], root)
    assert sorted(child.name for child in root.iterdir()) == ["bin", "dev", "etc", "usr"]
    assert (root / "usr/bin/other").stat().st_ino == (root / "usr/bin/passwd").stat().st_ino


def test_a_squashfs(lab: Lab, small: Path) -> None:
    if shutil.which("mksquashfs") is None or shutil.which("sqfs2tar") is None:
        pytest.skip("needs mksquashfs and sqfs2tar")
    source = lab.files / "tree"
    source.mkdir()
    subprocess.run(["tar", "-C", source, "--numeric-owner", "-xf", small], check=True)
    path = lab.files / "root.squashfs"
    subprocess.run(["mksquashfs", source, path, "-quiet", "-no-progress"], check=True, capture_output=True)
    image = lab.import_file(path)["image"]
    root = lab.files / "root"
    lab.store.unpack_root(image["fingerprint"], root)
    expected = tree(source)
    del expected["dev/null"]
    assert tree(root) == expected


def test_a_qcow2_and_what_must_not_be_in_it(lab: Lab) -> None:
    disk, backed, data = (lab.files / name for name in ("disk.qcow2", "backed.qcow2", "data.qcow2"))
    create = ["qemu-img", "create", "-q", "-f", "qcow2"]
    subprocess.run([*create, disk, "64M"], check=True)
    subprocess.run([*create, "-b", lab.canary, "-F", "raw", backed, "64M"], check=True)
    subprocess.run([*create, "-o", f"data_file={lab.files}/outside.raw", data, "64M"], check=True)
    image = lab.import_file(disk)["image"]
    assert (image["types"], image["has_disk"]) == (["virtual-machine"], True)
    stored = lab.store.disk_files(image["fingerprint"])
    assert (stored.kernel, stored.initrd, stored.command_line) == (None, None, "")
    for path, reason in ((backed, "a backing file"), (data, "an external data file")):
        assert reason in lab.refused(name="test/bad", source={"type": "file", "path": str(path)})


def test_formats_are_not_probed(lab: Lab, small: Path) -> None:
    disguised = lab.files / "disk.qcow2"
    disguised.write_bytes(small.read_bytes())
    assert "no intact qcow2 file" in lab.refused(name="test/bad", source={"type": "file", "path": str(disguised)})
    archive = lab.files / "disk.tar"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", archive, "1M"], check=True)
    assert "damaged content" in lab.refused(name="test/bad", source={"type": "file", "path": str(archive)})


def test_the_same_file_is_one_image(lab: Lab, small: Path) -> None:
    first = lab.import_file(small)["image"]
    second = lab.finish(name="test/second", source={"type": "file", "path": str(small)})
    assert second["changed"]
    assert second["image"]["fingerprint"] == first["fingerprint"]
    assert second["image"]["aliases"] == [NAME, "test/second"]


def test_a_file_that_changes(lab: Lab, small: Path) -> None:
    first = lab.import_file(small)["image"]["fingerprint"]
    small.write_bytes(archives.pack([*archives.root(), archives.file("etc/new", b"x")]))
    source = {"type": "file", "path": str(small)}
    assert "content has changed" in lab.refused(name=NAME, source=source)
    second = lab.import_file(small, recreate="on-change")
    assert second["changed"] and second["image"]["fingerprint"] != first
    assert not lab.import_file(small, recreate="on-change")["changed"]
    assert not Paths(lab.root).image(first).exists()
    small.unlink()
    assert not lab.import_file(small)["changed"], "an image outlives the file it was made from"


def test_aliases(lab: Lab, small: Path) -> None:
    lab.import_file(small, aliases=["test/a", "test/b"])
    assert not lab.import_file(small)["changed"]
    changed = lab.import_file(small, aliases=["test/b", "test/c"])
    assert changed["image"]["aliases"] == ["test/b", "test/c", NAME]
    assert lab.store.find("test/a") is None
    other = lab.files / "other.tar"
    other.write_bytes(archives.pack([*archives.root(), archives.file("etc/x")]))
    lab.finish(name="test/other", source={"type": "file", "path": str(other)})
    assert "alias test/c belongs to image" in lab.refused(name="test/other", aliases=["test/c"])


def test_an_image_a_disk_stands_on_is_hidden(lab: Lab, small: Path) -> None:
    fingerprint = lab.import_file(small)["image"]["fingerprint"]
    instances = Paths(lab.root).instances
    is_ours = not instances.exists()
    record = instances / "test-vm" / "instance.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"schema": 1, "type": "virtual-machine", "image": fingerprint}))
    try:
        lab.finish(name=NAME, state="absent")
        assert lab.store.find(NAME) is None
        assert lab.store.find(fingerprint) is not None, "its disk is still needed"
        assert fingerprint not in {image.fingerprint for image in lab.store.all()}
    finally:
        shutil.rmtree(instances if is_ours else record.parent)
    lab.finish(name=NAME, state="absent")
    assert lab.store.find(fingerprint) is None, "nothing needs it any more"


@pytest.fixture
def large(lab: Lab, debian_image: str) -> Path:
    """The built image's root archive with another digest: an empty frame more is the same content."""
    path = lab.files / "large.tar.zst"
    shutil.copy(Paths(lab.root).image(lab.store.require(debian_image).fingerprint) / "rootfs.tar.zst", path)
    with path.open("ab") as stream:
        subprocess.run(["zstd", "-q", "-c"], input=b"", stdout=stream, check=True)
    return path


def test_two_imports_at_once(lab: Lab, large: Path) -> None:
    options = {"name": NAME, "source": {"type": "file", "path": str(large)}}
    processes = [lab.module().start(options) for _unused in range(2)]
    results = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    assert sorted(result["changed"] for result in results) == [False, True]
    assert results[0]["image"] == results[1]["image"]


@pytest.mark.moments
def test_an_import_that_is_killed(lab: Lab, large: Path) -> None:
    before = observe()
    options = {"name": NAME, "source": {"type": "file", "path": str(large)}}
    seconds = lab.module().finish(options).seconds
    lab.finish(name=NAME, state="absent")
    hits = 0
    moments = fractions(2)
    for moment in moments:
        hits += lab.module().kill_after(options, seconds * moment)
        assert lab.finish(**options)["image"]["types"] == ["container", "virtual-machine"]
        assert not lab.finish(**options)["changed"]
        lab.finish(name=NAME, state="absent")
        assert compare(before, observe()) == []
    assert hits >= len(moments) // 2


@pytest.mark.moments
def test_a_removal_that_is_killed(lab: Lab, small: Path) -> None:
    before = observe()
    for moment in fractions(5):
        lab.import_file(small)
        lab.module().kill_after({"name": NAME, "state": "absent"}, 0.18 * moment)
        lab.finish(name=NAME, state="absent")
        assert compare(before, observe()) == []


# --- Hostile archives, and the jail that holds when nobody looks at them first.


@pytest.mark.parametrize("trick", archives.HOSTILE)
def test_a_hostile_archive_is_refused(lab: Lab, trick: str) -> None:
    before = observe()
    path = lab.files / "hostile.tar"
    path.write_bytes(archives.HOSTILE[trick][1]())
    message = lab.refused(name="test/hostile", source={"type": "file", "path": str(path)})
    assert message.startswith("image test/hostile: ")
    assert compare(before, observe()) == []


def test_a_bomb_stops_at_the_limit(lab: Lab) -> None:
    source, target = lab.files / "bomb.gz", lab.files / "out"
    with gzip.open(source, "wb", compresslevel=9) as stream:
        for _unused in range(200):
            stream.write(bytes(1024 * 1024))
    with source.open("rb") as packed, target.open("wb") as plain, pytest.raises(CommandFailed):
        limits = Limits(file_bytes=1024 * 1024)
        run_closed(["gzip", "-dc"], None, stdin=packed.fileno(), stdout=plain.fileno(), limits=limits)
    assert target.stat().st_size <= 1024 * 1024


@pytest.mark.parametrize("trick", archives.HOSTILE)
def test_the_jail_holds_without_the_check(tmp_path: Path, trick: str) -> None:
    """tar unpacks each hostile archive: it may fail, but nothing outside of its directory changes."""
    outside, target = tmp_path / "outside", tmp_path / "outside" / "target"
    target.mkdir(parents=True)
    canary = outside / "canary"
    canary.write_text(TOKEN)
    archive, packed = tmp_path / "hostile.tar", tmp_path / "hostile.tar.zst"
    archive.write_bytes(archives.HOSTILE[trick][1]())
    subprocess.run(["zstd", "-q", archive], check=True)
    watched = [Path("/var/tmp"), Path("/tmp"), outside]
    before = [sorted(path.name for path in place.iterdir() if path.name.startswith("evil")) for place in watched]
    for prefix in ("", "rootfs"):
        with packed.open("rb") as stream, contextlib.suppress(CommandFailed):
            run_closed([*unpack_argv(prefix), "--absolute-names"], target, stdin=stream.fileno())
    after = [sorted(path.name for path in place.iterdir() if path.name.startswith("evil")) for place in watched]
    assert before == after
    assert canary.read_text() == TOKEN
    for path in target.rglob("*"):
        mode = path.lstat().st_mode
        assert not stat.S_ISBLK(mode)
        assert not stat.S_ISCHR(mode) or path.lstat().st_rdev == 0, "overlayfs' whiteout is all that may be made"
        assert path.is_symlink() or TOKEN.encode() not in (path.read_bytes() if path.is_file() else b"")


@pytest.mark.parametrize(
    "argv",
    [
        ["cat", "/etc/shadow"],
        ["cat", "/proc/1/environ"],
        ["ls", "/dev"],
        ["touch", "/usr/evil"],
        ["touch", "/evil"],
        ["mknod", "/work/disk", "b", "8", "0"],
        ["mount", "-t", "tmpfs", "none", "/work"],
        ["umount", "/usr"],
        ["chroot", "/work"],
        ["unshare", "--mount", "true"],
        ["python3", "-c", "import socket; socket.create_connection(('127.0.0.1', 22), 2)"],
        ["python3", "-c", "x = bytearray(3 * 1024**3)"],
        ["dd", "if=/usr/bin/python3", "of=/work/x", "seek=100", "bs=1M"],
    ],
    ids=lambda argv: " ".join(argv)[:40],
)
def test_what_the_closed_jail_forbids(tmp_path: Path, argv: list[str]) -> None:
    with pytest.raises(CommandFailed):
        run_closed(argv, tmp_path, limits=Limits(file_bytes=1024 * 1024))


def test_the_closed_jail_sees_no_other_process(tmp_path: Path) -> None:
    assert run_closed(["sh", "-c", "echo $$; kill -9 -1 || true"], tmp_path).text == "1\n"


def test_owners_are_stored_as_the_archive_says(tmp_path: Path) -> None:
    script = "touch a b && chown 65535:1 a && mkdir -m 700 c && setcap cap_net_raw=ep b 2>/dev/null; id -u"
    assert run_closed(["sh", "-c", script], tmp_path).text == "0\n"
    assert tree(tmp_path)["a"] == ("-rw-r--r--", 65535, 1)
    assert tree(tmp_path)["c"] == ("drwx------", 0, 0)


def test_where_ids_cannot_be_mapped_the_jail_still_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, user_namespace: int | None) -> int:
        if user_namespace is not None:
            raise OSError(22, "this file system cannot")
        return cloned(path, None)

    cloned = jail.namespaces.clone_mount
    monkeypatch.setattr(jail.namespaces, "clone_mount", refuse)
    assert run_closed(["sh", "-c", "touch a; chown 5:6 a; cat /etc/shadow || id -u"], tmp_path).text == "0\n"
    assert tree(tmp_path)["a"] == ("-rw-r--r--", 5, 6)


def test_the_open_jail_is_a_stranger_to_the_host(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(TOKEN)
    secret.chmod(0o600)
    work = tmp_path / "work"
    work.mkdir()
    script = f"cat {secret} /etc/shadow; touch /etc/evil /root/evil; touch /mnt/made; grep -c . /proc/self/uid_map"
    assert run_open(["sh", "-c", script], work, wall_seconds=10).text == "1\n"
    assert (work / "made").stat().st_uid == 0
    assert not Path("/etc/evil").exists()


def test_a_tool_of_the_jail_dies_with_its_starter(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\n"
        "from ansible_collections.tandem.machines.plugins.module_utils._image.jail import run_closed\n"
        f"run_closed(['sh', '-c', 'touch started; exec sleep 71.93'], Path({str(tmp_path)!r}))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    deadline = time.monotonic() + 20
    while not (tmp_path / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    while subprocess.run(["pgrep", "-f", "^sleep 71.93"], capture_output=True, check=False).returncode == 0:
        assert time.monotonic() < deadline, "it outlived the module"
        time.sleep(0.05)


# --- The disk of virtual machines.


@pytest.fixture(scope="session")
def debian_disk(prepared_host: Ansible, debian_image: str) -> DiskFiles:
    """The disk of the shared image, made before any test looks for what it leaves behind."""
    store = open_store(Paths(prepared_host.root))
    return store.ensure_disk(store.require(debian_image).fingerprint)


def test_the_disk_is_whole(lab: Lab, debian_disk: DiskFiles) -> None:
    files = debian_disk
    assert files.kernel is not None and files.initrd is not None
    assert files.kernel.read_bytes()[0x202:0x206] != b"", "a kernel"
    raw = lab.files / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", files.disk, raw], check=True)
    table = json.loads(subprocess.run(["sfdisk", "--json", raw], check=True, capture_output=True).stdout)
    esp, root = table["partitiontable"]["partitions"]
    assert (table["partitiontable"]["label"], root["name"], esp["name"]) == ("gpt", "root", "esp")
    assert f"root=PARTUUID={root['uuid'].lower()} rw console=ttyS0" in files.command_line
    volume = ["-i", f"{raw}@@{esp['start'] * layout.SECTOR}"]
    listing = subprocess.run(["mdir", "-b", "-/", *volume, "::"], check=True, capture_output=True, text=True).stdout
    for name in ("EFI/BOOT/BOOTX64.EFI", "loader/loader.conf", "loader/entries/tandem.conf", "vmlinuz", "initrd.img"):
        assert f"::/{name}\n" in listing
    entry = subprocess.run(
        ["mtype", *volume, "::/loader/entries/tandem.conf"], check=True, capture_output=True, text=True
    )
    assert files.command_line in entry.stdout
    offset = root["start"] * layout.SECTOR
    check = subprocess.run(["e2fsck", "-fn", f"{raw}?offset={offset}"], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout


def test_the_disk_is_made_once(lab: Lab, debian_image: str, debian_disk: DiskFiles) -> None:
    first = debian_disk.disk.stat()
    second = lab.store.ensure_disk(lab.store.require(debian_image).fingerprint).disk.stat()
    assert (first.st_ino, first.st_mtime_ns) == (second.st_ino, second.st_mtime_ns)
    assert lab.store.require(debian_image).has_disk


@pytest.mark.vm
@pytest.mark.torture
def test_the_disk_boots_by_firmware(lab: Lab, debian_disk: DiskFiles) -> None:
    """Direct boot is what instances do; this is the way of everybody else who is given the disk.

    That firmware boots it under QEMU as we start it is seen by the tests of its driver.
    """
    firmware = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
    if shutil.which("qemu-system-x86_64") is None or not firmware.exists():
        pytest.skip("needs qemu-system-x86_64 and OVMF")
    variables, overlay = lab.files / "variables.fd", lab.files / "overlay.qcow2"
    shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", variables)
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", debian_disk.disk, overlay, "3G"]
    subprocess.run(create, check=True)
    argv = ["qemu-system-x86_64", "-M", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1024"]
    argv += ["-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"]
    argv += ["-drive", f"if=pflash,format=raw,readonly=on,file={firmware}"]
    argv += ["-drive", f"if=pflash,format=raw,file={variables}"]
    argv += ["-drive", f"if=none,id=root,format=qcow2,file={overlay}", "-device", "virtio-blk-pci,drive=root"]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        seen = read_until(process, b" login:", 600)
    finally:
        process.kill()
        process.wait()
    assert b"Debian GNU/Linux 12" in seen


def read_until(process: subprocess.Popen[bytes], end: bytes, timeout_seconds: float) -> bytes:
    """What the process prints until it prints end."""
    assert process.stdout is not None
    seen, deadline = b"", time.monotonic() + timeout_seconds
    while end not in seen:
        ready, _writable, _failed = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))
        chunk = os.read(process.stdout.fileno(), 65536) if ready else b""
        assert chunk, f"ended or silent before {end!r}: {seen[-500:]!r}"
        seen += chunk
    return seen


_MAKE_DISK = """
import sys
from pathlib import Path
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._image.store import open_store
open_store(Paths(Path(sys.argv[1]))).ensure_disk(sys.argv[2])
"""


@pytest.mark.moments
def test_making_the_disk_is_killed_and_raced(lab: Lab, large: Path) -> None:
    fingerprint = lab.finish(name=NAME, source={"type": "file", "path": str(large)})["image"]["fingerprint"]
    before = observe()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    argv = [sys.executable, "-c", _MAKE_DISK, str(lab.root), fingerprint]
    for moment in fractions(1):
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(argv, env=environment, timeout=3 * moment, check=False)
        wait_until_only_files_differ(before)
    rivals = [subprocess.Popen(argv, env=environment) for _unused in range(2)]
    assert [process.wait(120) for process in rivals] == [0, 0]
    assert lab.store.disk_files(fingerprint).kernel is not None
    assert not list(Paths(lab.root).image(fingerprint).glob(".new-*"))


def test_an_image_without_a_kernel_makes_no_disk(lab: Lab, small: Path) -> None:
    fingerprint = lab.import_file(small)["image"]["fingerprint"]
    before = observe()
    with pytest.raises(EngineError, match="has no kernel in /boot, so it serves containers only"):
        lab.store.ensure_disk(fingerprint)
    assert compare(before, observe()) == []


def test_boot_files_are_not_followed_out_of_the_image(lab: Lab) -> None:
    """A link in the place of /boot, or of the initrd, must not bring a file of the host to a guest."""
    kernel = archives.file("kernel/vmlinuz-1", b"kernel")
    path = lab.files / "linked.tar"
    path.write_bytes(archives.pack([*archives.root(), kernel, archives.symlink("boot", str(lab.files))]))
    fingerprint = lab.import_file(path)["image"]["fingerprint"]
    (lab.files / "vmlinuz-9").write_text(TOKEN)
    with pytest.raises(EngineError, match="no kernel"):
        lab.store.ensure_disk(fingerprint)


def test_a_root_is_unpacked_only_into_an_empty_directory(lab: Lab, small: Path) -> None:
    fingerprint = lab.import_file(small)["image"]["fingerprint"]
    target = lab.files / "used"
    target.mkdir()
    (target / "x").touch()
    with pytest.raises(Conflict, match="is not empty"):
        lab.store.unpack_root(fingerprint, target)
    link = lab.files / "link"
    link.symlink_to(lab.files / "elsewhere")
    with pytest.raises(Conflict, match="is not a directory"):
        lab.store.unpack_root(fingerprint, link)


def test_a_full_pool_is_named(lab: Lab, debian_image: str, tmp_path: Path) -> None:
    fingerprint = lab.store.require(debian_image).fingerprint
    small = tmp_path / "pool"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,mode=0755", "none", small], check=True)
    try:
        with pytest.raises(Conflict, match=r"image \w+ needs \d+ bytes and more than \d+ are not free"):
            lab.store.unpack_root(fingerprint, small / "rootfs")
    finally:
        subprocess.run(["umount", small], check=True)
