# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Which archives may become an image. The jail that holds whatever this lets through has tests of its own."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import InvalidRequest
from ansible_collections.tandem.machines.plugins.module_utils._image.archive import (
    Budget,
    Contents,
    parse_os_release,
    read_contents,
)
from ansible_collections.tandem.machines.plugins.module_utils._image.model import MOUNT_DISKS
from ansible_collections.tandem.machines.tests.unit.image import archives
from hypothesis import given, settings
from hypothesis import strategies as st

FORMATS = {"gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT, "ustar": tarfile.USTAR_FORMAT}


def read(data: bytes, budget: Budget | None = None) -> Contents:
    return read_contents(io.BytesIO(data), budget)


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("prefix", ["", "./"])
def test_a_root_file_system(prefix: str, form: int) -> None:
    contents = read(archives.pack(archives.root(prefix), form))
    assert (contents.prefix, contents.disk, contents.has_kernel, contents.files) == ("", None, False, 10)
    assert parse_os_release(contents.os_release)["VERSION_CODENAME"] == "bookworm"


@pytest.mark.parametrize("prefix", ["", "./"])
def test_an_image_exported_by_lxd(prefix: str) -> None:
    contents = read(archives.pack(archives.unified(prefix)))
    assert contents.prefix == "rootfs"
    assert contents.has_root
    assert "bookworm" in contents.os_release


def test_a_virtual_machine_exported_by_lxd() -> None:
    data = archives.pack([archives.file("metadata.yaml", b"x"), archives.file("rootfs.img", b"QFI\xfbdisk")])
    contents = read(data)
    assert contents.disk is not None and not contents.has_root
    offset, size = contents.disk
    assert data[offset : offset + size] == b"QFI\xfbdisk"


@pytest.mark.parametrize(("name", "expected"), [(MOUNT_DISKS, True), (f"srv/{MOUNT_DISKS}", False)])
@pytest.mark.parametrize("pack", [archives.root, archives.unified])
def test_the_program_that_mounts_disks_is_seen(pack: Callable[[], list[Any]], name: str, expected: bool) -> None:
    prefix = "rootfs/" if pack is archives.unified else ""
    contents = read(archives.pack([*pack(), archives.file(f"{prefix}{name}", b"#!")]))
    assert contents.mounts_disks is expected


@pytest.mark.parametrize(("name", "expected"), [("boot/vmlinuz-6.1.0", True), ("vmlinuz", False), ("boot/x", False)])
def test_a_kernel_is_seen(name: str, expected: bool) -> None:
    contents = read(archives.pack([*archives.root(), archives.file(name, b"kernel")]))
    assert contents.has_kernel is expected


def test_a_kernel_that_is_a_link_is_none() -> None:
    member = archives.symlink("boot/vmlinuz-1", "/etc/shadow")
    assert not read(archives.pack([*archives.root(), member])).has_kernel


@pytest.mark.parametrize("trick", archives.HOSTILE)
def test_a_hostile_archive_is_refused(trick: str) -> None:
    reason, make = archives.HOSTILE[trick]
    with pytest.raises(InvalidRequest, match=reason) as refusal:
        read(make())
    assert "\n" not in str(refusal.value)


def test_limits_hold() -> None:
    with pytest.raises(InvalidRequest, match="more than 9 files"):
        read(archives.pack(archives.root()), Budget(files=9))
    with pytest.raises(InvalidRequest, match="more than 50 bytes"):
        read(archives.pack(archives.root()), Budget(bytes=50))


def test_a_sparse_file_counts_with_its_whole_size() -> None:
    info, _unused = archives.file("usr/huge", b"")
    info.size = 2**50
    header = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(InvalidRequest, match="more than"):
        read(archives.pack(archives.root())[:-10240] + header + bytes(1024))


@pytest.mark.parametrize("kind", [b"x", b"L", b"K"])
def test_a_header_that_would_fill_the_memory_is_refused(kind: bytes) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = kind, 8 * 1024**3
    with pytest.raises(InvalidRequest):
        read(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))


def test_a_member_that_points_backwards_is_refused() -> None:
    """A negative size in base-256 once made tarfile read the same member for ever (CVE-2025-8194)."""
    first = archives.pack(archives.root())[:-10240].rstrip(b"\0")
    first += bytes(-len(first) % 512)
    header = bytearray(archives.file("etc/x")[0].tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    with pytest.raises(InvalidRequest):
        read(first + bytes(header) + bytes(10240))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_archives_end_in_one_sentence(data: st.DataObject) -> None:
    """Bytes changed at random give contents or a refusal, never another exception and never a loop."""
    damaged = bytearray(archives.pack(archives.unified()))
    for _unused in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        read(bytes(damaged))
    except InvalidRequest as refusal:
        assert "\n" not in str(refusal)


def test_os_release_is_read_without_a_shell() -> None:
    text = 'NAME="A \\"b\\""\nEVIL=$(id)\n# comment\nno equals sign\n1X=2\nLONG=' + "x" * 500
    values = parse_os_release(text)
    assert values["EVIL"] == "$(id)"
    assert "1X" not in values
    assert len(values["LONG"]) == 200
