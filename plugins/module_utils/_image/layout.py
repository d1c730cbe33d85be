# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""How a VM disk is laid out: sizes, identifiers, and the texts and arguments that make it. Pure: no I/O."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from .architecture import ARCHITECTURES

SECTOR = 512
MIB = 1024 * 1024
ESP_START = 1 * MIB
_ESP_MINIMUM = 128 * MIB
_DISK_MINIMUM = 2 * 1024 * MIB
# GPT type of an EFI system partition (UEFI specification, 5.3.3).
_ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"
# A namespace of our own for identifiers derived from fingerprints.
_NAMESPACE = uuid.UUID("a0f7b5c2-3f43-5d0c-9a52-6d1c1f2f6f4e")

# Stated, not defaulted: newer mke2fs switches on features (orphan_file, metadata_csum_seed) that the guest's older
# e2fsck and kernel do not know.
EXT4_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,"
    "dir_nlink,extra_isize,metadata_csum"
)


@dataclass(frozen=True)
class DiskLayout:
    """Byte offsets and sizes, all whole MiB; identifiers derived from the image's fingerprint."""

    fingerprint: str
    architecture: str
    esp_bytes: int
    disk_bytes: int

    @property
    def root_start(self) -> int:
        return ESP_START + self.esp_bytes

    @property
    def root_bytes(self) -> int:
        # The last MiB holds the second copy of the GPT.
        return self.disk_bytes - MIB - self.root_start

    def identifier(self, part: str) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{self.fingerprint}/{part}"))

    @property
    def kernel_command_line(self) -> str:
        console = ARCHITECTURES[self.architecture].serial_console
        return f"root=PARTUUID={self.identifier('root')} rw console={console} quiet"

    @property
    def efi_loader(self) -> str:
        """Path of the boot loader in an installed systemd, on the host or in the image."""
        return f"usr/lib/systemd/boot/efi/systemd-boot{ARCHITECTURES[self.architecture].efi}.efi"

    @property
    def efi_default(self) -> str:
        """The name firmware looks for without boot entries (UEFI specification, 3.5.1.1)."""
        return f"BOOT{ARCHITECTURES[self.architecture].efi.upper()}.EFI"


def layout_disk(fingerprint: str, architecture: str, unpacked_bytes: int, files: int, boot_bytes: int) -> DiskLayout:
    """Room for the files and as much again, for kernel and initrd (boot_bytes) three times; at least 2 GiB."""
    esp_bytes = max(_ESP_MINIMUM, _whole_mib(3 * boot_bytes))
    # Each file ends in a block of its own, and one inode comes with each 16 KiB.
    content = max(2 * (unpacked_bytes + 4096 * files), 16384 * 2 * files)
    disk_bytes = max(_DISK_MINIMUM, ESP_START + esp_bytes + _whole_mib(content) + 256 * MIB)
    return DiskLayout(fingerprint, architecture, esp_bytes, disk_bytes)


def _whole_mib(size_bytes: int) -> int:
    return -(-size_bytes // MIB) * MIB


def render_sfdisk(layout: DiskLayout) -> str:
    """Input of sfdisk(8)."""
    root_type = ARCHITECTURES[layout.architecture].root_type
    rows = (
        (ESP_START, layout.esp_bytes, _ESP_TYPE, "esp"),
        (layout.root_start, layout.root_bytes, root_type, "root"),
    )
    partitions = (
        f'start={start // SECTOR}, size={size // SECTOR}, type={kind}, uuid={layout.identifier(name)}, name="{name}"\n'
        for start, size, kind, name in rows
    )
    return f"label: gpt\nlabel-id: {layout.identifier('disk')}\nunit: sectors\n" + "".join(partitions)


LOADER_CONF = "timeout 0\ndefault tandem.conf\n"


def render_loader_entry(layout: DiskLayout, title: str, has_initrd: bool) -> str:
    """A boot loader entry (UAPI group, Boot Loader Specification, type 1)."""
    plain = "".join(character for character in title if character.isprintable())[:100] or "Linux"
    initrd = "initrd /initrd.img\n" if has_initrd else ""
    return f"title {plain}\nlinux /vmlinuz\n{initrd}options {layout.kernel_command_line}\n"


def mkfs_esp_argv(layout: DiskLayout, esp: str) -> list[str]:
    """Into a file of its own: with --offset, dosfstools 4.2 makes what mtools cannot read."""
    return ["mkfs.vfat", "-F", "32", "-n", "ESP", "-C", "--", esp, str(layout.esp_bytes // 1024)]


def mkfs_root_argv(layout: DiskLayout, disk: str, directory: str) -> list[str]:
    return [
        "mke2fs",
        "-q",
        "-F",
        *("-t", "ext4"),
        *("-b", "4096"),
        *("-I", "256"),
        *("-m", "1"),
        *("-L", "root"),
        *("-U", layout.identifier("filesystem")),
        *("-O", EXT4_FEATURES),
        *("-E", f"offset={layout.root_start},lazy_itable_init=1,hash_seed={layout.identifier('seed')}"),
        *("-d", directory),
        disk,
        str(layout.root_bytes // 4096),
    ]


def newest_kernel(names: Iterable[str]) -> str | None:
    """The version of the newest vmlinuz-VERSION among names of files in /boot."""
    versions = [name[len("vmlinuz-") :] for name in names if name.startswith("vmlinuz-")]
    return max(versions, key=_version_key, default=None)


def _version_key(version: str) -> list[tuple[int, int, str]]:
    """Numbers compare as numbers: 6.10 is newer than 6.9."""
    return [
        (1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.findall(r"[0-9]{1,9}|[^0-9]+", version)
    ]


def initrd_names(version: str) -> tuple[str, ...]:
    """What distributions call the initrd of a kernel."""
    return f"initrd.img-{version}", f"initrd-{version}", f"initramfs-{version}.img", f"initrd-{version}.img"
