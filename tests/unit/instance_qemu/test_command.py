# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""QEMU's command line against text files; TANDEM_UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import InvalidRequest
from ansible_collections.tandem.machines.plugins.module_utils._core.values import parse_absolute_path
from ansible_collections.tandem.machines.plugins.module_utils._image.guest import late_files
from ansible_collections.tandem.machines.plugins.module_utils._image.model import MOUNT_DISKS
from ansible_collections.tandem.machines.plugins.module_utils._instance.qemu.command import (
    MOUNTS,
    MOUNTS_WORD,
    render_command,
)
from ansible_collections.tandem.machines.plugins.module_utils._instance.qemu.spec import (
    DirectBoot,
    Disk,
    FirmwareBoot,
    Layer,
    Nic,
    Share,
    VmSpec,
    disk_port,
    nic_port,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st

GOLDEN = Path(__file__).parent / "golden"
IMAGE = "/var/lib/tandem/images/0f0f"
VOLUME = "/var/lib/tandem/storage/default/volumes/virtual-machines/web1"

ROOT = Disk(
    "disk-root",
    disk_port(0),
    (Layer(f"{VOLUME}/root.qcow2", "qcow2"), Layer(f"{IMAGE}/disk.qcow2", "qcow2")),
    "tandem_root",
    boot_index=1,
)
SEED = Disk("disk-seed", disk_port(1), (Layer("/var/lib/tandem/instances/web1/seed.img", "raw"),), "tandem_seed", True)
ETH0 = Nic("nic-eth0", nic_port(0), "tv0123456789", "tdbr0", "00:16:3e:00:00:01")
ETH1 = Nic("nic-eth1", nic_port(1), "tv9876543210", "tdbr1", "00:16:3e:00:00:02", mtu=9000)
VIRTIOFSD = "/usr/libexec/virtiofsd"
DATA = Share("share-data", disk_port(1), "tandem-data", "/srv/data", "/data", VIRTIOFSD, True)
BELOW = Share("share-a", disk_port(2), "tandem-a", "/srv/more", '/data/my "d\\ä,#"', VIRTIOFSD)
MINIMAL = VmSpec(
    name="web1",
    uuid="0a3b0a5e-1111-4222-8333-444455556666",
    program="/usr/bin/qemu-system-x86_64",
    machine="pc-q35-7.2",
    accelerator="tcg",
    memory_bytes=1024**3,
    cpus=2,
    boot=DirectBoot(f"{IMAGE}/vmlinuz", f"{IMAGE}/initrd.img", 'root=PARTUUID=1,2 rw console=ttyS0 quiet x="a b"'),
    uid=2000001,
    run_directory="/run/tandem/instances/web1",
    cgroup="tandem.web1.0a3b0a5e",
    devices=(ROOT,),
)
CASES = {
    "minimal_direct_boot": MINIMAL,
    "uefi_boot": replace(
        MINIMAL,
        boot=FirmwareBoot("/usr/share/OVMF/OVMF_CODE_4M.fd", "/var/lib/tandem/instances/web1/variables.fd"),
    ),
    "two_disks": replace(MINIMAL, devices=(ROOT, SEED)),
    "two_nics": replace(MINIMAL, devices=(ROOT, ETH0, ETH1)),
    "kvm": replace(MINIMAL, accelerator="kvm", devices=(ROOT, replace(ETH0, has_vhost=True))),
    "share": replace(MINIMAL, devices=(ROOT, DATA)),
    "two_shares": replace(MINIMAL, devices=(ROOT, BELOW, DATA)),
    "room_to_grow": replace(MINIMAL, max_cpus=8, max_memory_bytes=8 * 1024**3),
}


def show(vm: VmSpec) -> str:
    """One option with its value per line, then one resource per line."""
    argv, resources = render_command(vm)
    lines = [argv[0]]
    for word in argv[1:]:
        if word.startswith("-"):
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return "\n".join([*lines, "", *(json.dumps(resource) for resource in resources)]) + "\n"


@pytest.mark.parametrize("name", CASES)
def test_command_line_is_the_recorded_one(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    shown = show(CASES[name])
    if os.environ.get("TANDEM_UPDATE_GOLDEN"):
        path.write_text(shown)
    assert shown == path.read_text()


def test_every_golden_file_has_its_case() -> None:
    assert {path.stem for path in GOLDEN.glob("*.txt")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_descriptors_are_unique_and_each_is_used(name: str) -> None:
    argv, resources = render_command(CASES[name])
    numbers = [resource["fd"] for resource in resources]
    assert len(set(numbers)) == len(numbers)
    text = "\n".join(argv)
    for number in numbers:
        assert any(form in text for form in (f"fd={number}", f'"{number}"', f"/dev/fd/{number}")), number


def test_nothing_is_opened_by_path() -> None:
    for vm in CASES.values():
        argv, _unused = render_command(vm)
        for word in argv[1:]:
            assert "/var/lib" not in word
            assert "/run/" not in word
            assert "/srv" not in word


def test_a_disk_that_is_written_comes_with_both_access_modes_and_its_backing_file_with_one() -> None:
    _unused, resources = render_command(MINIMAL)
    modes: dict[str, list[bool]] = {}
    for resource in resources:
        if resource["type"] == "file":
            modes.setdefault(Path(resource["path"]).name, []).append(resource["write"])
    assert modes == {"root.qcow2": [True, False], "disk.qcow2": [False]}


def test_a_line_break_does_not_reach_qemu() -> None:
    with pytest.raises(InvalidRequest, match="control character"):
        render_command(replace(MINIMAL, boot=DirectBoot("/k", None, "a\nb")))


def test_the_guest_looks_where_qemu_puts_the_list() -> None:
    files = late_files("debian", "")
    assert f"/sys/firmware/qemu_fw_cfg/by_name/{MOUNTS}/raw\n" in files[MOUNT_DISKS].text
    unit = files["etc/systemd/system/tandem-mount-disks.service"].text
    assert f"ConditionKernelCommandLine=|{MOUNTS_WORD}\n" in unit


def test_a_line_break_does_not_reach_the_guests_fstab() -> None:
    with pytest.raises(InvalidRequest, match="control character"):
        render_command(replace(MINIMAL, devices=(ROOT, replace(DATA, path="/a\nb"))))


@pytest.mark.skipif(shutil.which("findmnt") is None, reason="findmnt is not installed")
@settings(max_examples=10)
@example(["data", 'my "d\\ä,#', "a b/c", "'$(touch x)'"])
@given(
    st.lists(st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1), min_size=1, max_size=5)
)
def test_mount_reads_the_paths_that_were_meant(names: list[str]) -> None:
    """findmnt reads the file by libmount, as mount(8) does in the guest."""
    paths = [parse_absolute_path(f"/{index}/{name.replace('..', '')}") for index, name in enumerate(names)]
    shares = [replace(DATA, id=f"share-{index}", path=path) for index, path in enumerate(paths)]
    _unused, resources = render_command(replace(MINIMAL, devices=(ROOT, *shares)))
    (text,) = [resource["text"] for resource in resources if resource["type"] == "text"]
    with NamedTemporaryFile("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        argv = ["findmnt", "--json", "--list", "--output", "SOURCE,TARGET,FSTYPE,OPTIONS", "--tab-file", file.name]
        found = json.loads(subprocess.run(argv, capture_output=True, check=True).stdout)["filesystems"]
    assert {entry["target"] for entry in found} == set(paths)
    for entry in found:
        assert (entry["source"], entry["fstype"]) == ("tandem-data", "virtiofs")
        assert entry["options"] == "ro,X-mount.mkdir"


def test_too_many_devices_are_refused() -> None:
    many = tuple(replace(ETH0, id=f"nic-{index}", port=nic_port(index)) for index in range(60))
    with pytest.raises(InvalidRequest, match="too many devices"):
        render_command(replace(MINIMAL, devices=many))


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=40), st.text("0123456789abcdef:", max_size=20))
def test_values_are_encoded_not_pasted(serial: str, hwaddr: str) -> None:
    devices = (replace(ROOT, serial=serial), replace(ETH0, hwaddr=hwaddr))
    argv, _unused = render_command(replace(MINIMAL, devices=devices))
    values = [json.loads(word) for word in argv if word.startswith("{")]
    assert [value["serial"] for value in values if "serial" in value] == [serial]
    assert [value["mac"] for value in values if "mac" in value] == [hwaddr]
    assert len(argv) == len(render_command(replace(MINIMAL, devices=(ROOT, ETH0)))[0])
