# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Make the VM half of an image from its unpacked root: a bootable disk, and kernel and initrd beside it.

No loop device and no mount on the host; every tool runs in the jail with the work directory as its whole world.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .._core.errors import MissingDependency, NotSupported
from .._host.files import write_atomic
from . import layout as disk_layout
from .disk_files import DISK_FILE, INITRD_FILE, KERNEL_FILE
from .jail import WORK, Limits, run_closed
from .layout import DiskLayout
from .model import Image

_BOOT_LIMIT_BYTES = 512 * disk_layout.MIB
_RAW = f"{WORK}/disk.raw"
_ESP = f"{WORK}/esp"
_ROOT = "root"


@dataclass(frozen=True)
class MadeDisk:
    """names of the files that now lie in the work directory; the command line for direct boot."""

    names: tuple[str, ...]
    kernel_command_line: str


def make_disk(image: Image, work: Path) -> MadeDisk:
    """Make disk.qcow2, vmlinuz and initrd.img in work, whose directory root holds the unpacked root file system.

    NotSupported without a kernel in /boot, MissingDependency without a boot loader for UEFI.
    """
    with _opened(work / _ROOT) as root:
        version = _copy_kernel(image, root, work)
        has_initrd = _copy_initrd(version, root, work)
        layout = _layout(image, work)
        _copy_loader(layout, root, work)
    write_atomic(work / "loader.conf", disk_layout.LOADER_CONF.encode())
    title = f"{image.os} {image.release}"
    write_atomic(work / "tandem.conf", disk_layout.render_loader_entry(layout, title, has_initrd).encode())
    _partition(layout, work)
    _make_esp(layout, work, has_initrd)
    _copy_sparse(work / "esp", work / "disk.raw", disk_layout.ESP_START)
    # mke2fs and qemu-img make one large file; its size is known.
    limits = Limits(file_bytes=layout.disk_bytes + disk_layout.MIB)
    run_closed(disk_layout.mkfs_root_argv(layout, _RAW, f"{WORK}/{_ROOT}"), work, limits=limits)
    shutil.rmtree(work / _ROOT)
    run_closed(
        ["qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2", _RAW, f"{WORK}/{DISK_FILE}"], work, limits=limits
    )
    names = (DISK_FILE, KERNEL_FILE, INITRD_FILE) if has_initrd else (DISK_FILE, KERNEL_FILE)
    return MadeDisk(names, layout.kernel_command_line)


def _layout(image: Image, work: Path) -> DiskLayout:
    boot = sum(path.stat().st_size for path in (work / KERNEL_FILE, work / INITRD_FILE) if path.exists())
    return disk_layout.layout_disk(
        image.fingerprint, image.architecture, image.unpacked_bytes, image.unpacked_files, boot
    )


def _copy_kernel(image: Image, root: int, work: Path) -> str:
    """Copy the newest kernel out of /boot; its version."""
    boot = _open_beneath(root, "boot")
    version = None
    if boot is not None:
        with _closing(boot):
            version = disk_layout.newest_kernel(_regular_names(boot))
            if version is not None:
                _copy_out(boot, f"vmlinuz-{version}", work / KERNEL_FILE)
    if version is None:
        raise NotSupported(
            f"image {image.fingerprint[:12]} has no kernel in /boot, so it serves containers only:"
            " build it with a kernel package to use it for virtual machines"
        )
    return version


def _copy_initrd(version: str, root: int, work: Path) -> bool:
    boot = _open_beneath(root, "boot")
    if boot is None:
        return False
    with _closing(boot):
        names = _regular_names(boot)
        for name in disk_layout.initrd_names(version):
            if name in names:
                _copy_out(boot, name, work / INITRD_FILE)
                return True
    return False


def _copy_loader(layout: DiskLayout, root: int, work: Path) -> None:
    """systemd-boot, from the image if it has one, else from the host."""
    parent, _unused, name = layout.efi_loader.rpartition("/")
    directory = _open_beneath(root, parent)
    if directory is not None:
        with _closing(directory):
            if name in _regular_names(directory):
                _copy_out(directory, name, work / "loader.efi")
                return
    try:
        shutil.copyfile(f"/{layout.efi_loader}", work / "loader.efi")
    except FileNotFoundError:
        raise MissingDependency(
            f"neither the image nor this host has {name}: install package systemd-boot-efi"
            " (role tandem.machines.host does)"
        ) from None


def _partition(layout: DiskLayout, work: Path) -> None:
    raw = work / "disk.raw"
    with raw.open("xb") as stream:
        stream.truncate(layout.disk_bytes)
    write_atomic(work / "sfdisk", disk_layout.render_sfdisk(layout).encode())
    script = os.open(work / "sfdisk", os.O_RDONLY | os.O_CLOEXEC)
    try:
        run_closed(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--", _RAW], work, stdin=script)
    finally:
        os.close(script)


def _make_esp(layout: DiskLayout, work: Path, has_initrd: bool) -> None:
    volume = ["-i", _ESP]
    run_closed(disk_layout.mkfs_esp_argv(layout, _ESP), work)
    run_closed(["mmd", *volume, "::/EFI", "::/EFI/BOOT", "::/loader", "::/loader/entries"], work)
    run_closed(["mcopy", *volume, f"{WORK}/loader.efi", f"::/EFI/BOOT/{layout.efi_default}"], work)
    run_closed(["mcopy", *volume, f"{WORK}/loader.conf", "::/loader/loader.conf"], work)
    run_closed(["mcopy", *volume, f"{WORK}/tandem.conf", "::/loader/entries/tandem.conf"], work)
    boot = [KERNEL_FILE, INITRD_FILE] if has_initrd else [KERNEL_FILE]
    run_closed(["mcopy", *volume, *(f"{WORK}/{name}" for name in boot), "::/"], work)


def _copy_sparse(source: Path, target: Path, offset: int) -> None:
    """Copy source into target at offset, leaving holes where it has nothing but zeros."""
    zeros = bytes(disk_layout.MIB)
    with source.open("rb") as stream, target.open("r+b") as copy:
        while chunk := stream.read(disk_layout.MIB):
            if chunk != zeros:
                copy.seek(offset)
                copy.write(chunk)
            offset += len(chunk)


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    with _closing(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)) as descriptor:
        yield descriptor


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open_beneath(root: int, path: str) -> int | None:
    """Open directory path below root one name at a time, following no link; None if any part is missing or a link."""
    current = os.dup(root)
    try:
        for name in path.split("/"):
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            below = os.open(name, flags, dir_fd=current)
            os.close(current)
            current = below
    except OSError:
        os.close(current)
        return None
    return current


def _regular_names(directory: int) -> set[str]:
    with os.scandir(directory) as entries:
        return {entry.name for entry in entries if entry.is_file(follow_symlinks=False)}


def _copy_out(directory: int, name: str, target: Path) -> None:
    """Copy a regular file out of a tree that somebody else made."""
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    with os.fdopen(descriptor, "rb") as source:
        status = os.fstat(source.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _BOOT_LIMIT_BYTES:
            raise NotSupported(f"/boot/{name} of the image is no regular file of at most {_BOOT_LIMIT_BYTES} bytes")
        with target.open("xb") as copy:
            shutil.copyfileobj(source, copy, disk_layout.MIB)
