# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The layout of a VM disk."""

from __future__ import annotations

import os
import pathlib

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._image import layout
from hypothesis import given
from hypothesis import strategies as st

GOLDEN = pathlib.Path(__file__).parent / "golden"
SMALL = layout.layout_disk("ab" * 32, "amd64", 300 * layout.MIB, 9000, 20 * layout.MIB)
ARM = layout.layout_disk("cd" * 32, "arm64", 3000 * layout.MIB, 90000, 100 * layout.MIB)


def agree(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize(("name", "disk"), [("amd64", SMALL), ("arm64", ARM)])
def test_partitions_loader_and_file_systems(name: str, disk: layout.DiskLayout) -> None:
    agree(f"sfdisk_{name}.txt", layout.render_sfdisk(disk))
    agree(f"loader_{name}.txt", layout.render_loader_entry(disk, "Debian\nevil /x bookworm", True))
    argv = [layout.mkfs_esp_argv(disk, "/work/esp"), layout.mkfs_root_argv(disk, "/work/disk.raw", "/work/root")]
    agree(f"mkfs_{name}.txt", "".join(" ".join(words) + "\n" for words in argv))


def test_names_of_the_boot_loader() -> None:
    assert (SMALL.efi_loader.rpartition("/")[2], SMALL.efi_default) == ("systemd-bootx64.efi", "BOOTX64.EFI")
    assert (ARM.efi_loader.rpartition("/")[2], ARM.efi_default) == ("systemd-bootaa64.efi", "BOOTAA64.EFI")


@given(st.integers(0, 2**40), st.integers(0, 10**6), st.integers(0, 2**30))
def test_everything_fits(size_bytes: int, files: int, boot_bytes: int) -> None:
    disk = layout.layout_disk("ab" * 32, "amd64", size_bytes, files, boot_bytes)
    assert disk.esp_bytes >= 3 * boot_bytes
    assert disk.root_bytes >= size_bytes + 4096 * files
    assert disk.root_bytes // 16384 >= files
    assert disk.root_start + disk.root_bytes + layout.MIB == disk.disk_bytes
    assert not [size for size in (disk.esp_bytes, disk.root_bytes, disk.disk_bytes) if size % layout.MIB]


def test_identifiers_belong_to_the_image() -> None:
    parts = ("disk", "esp", "root", "filesystem", "seed")
    ours = {SMALL.identifier(part) for part in parts}
    assert len(ours) == len(parts)
    assert not ours & {ARM.identifier(part) for part in parts}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], None),
        (["config-6.1", "vmlinuz"], None),
        (["vmlinuz-6.9.0-1-amd64", "vmlinuz-6.10.0-1-amd64", "initrd.img-7"], "6.10.0-1-amd64"),
        (["vmlinuz-6.1.0-9-cloud-amd64", "vmlinuz-6.1.0-10-cloud-amd64"], "6.1.0-10-cloud-amd64"),
        (["vmlinuz-6.1.0-rc1", "vmlinuz-6.1.0"], "6.1.0-rc1"),
    ],
)
def test_the_newest_kernel_boots(names: list[str], expected: str | None) -> None:
    assert layout.newest_kernel(names) == expected
