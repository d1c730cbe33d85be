# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Archives made on the spot: one that is fine, and one for every trick that archives have been known to play."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Iterable, Mapping

Member = tuple[tarfile.TarInfo, bytes]

OS_RELEASE = (
    b'ID=debian\nNAME="Debian GNU/Linux"\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
)


def file(name: str, data: bytes = b"", mode: int = 0o644, **fields: object) -> Member:
    return _member(name, data, type=tarfile.REGTYPE, mode=mode, size=len(data), **fields)


def directory(name: str) -> Member:
    return _member(name, type=tarfile.DIRTYPE, mode=0o755)


def symlink(name: str, target: str) -> Member:
    return _member(name, type=tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> Member:
    return _member(name, type=tarfile.LNKTYPE, linkname=target)


def node(name: str, kind: bytes, major: int = 0, minor: int = 0) -> Member:
    return _member(name, type=kind, devmajor=major, devminor=minor)


def _member(name: str, data: bytes = b"", **fields: object) -> Member:
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def pack(members: Iterable[Member], form: int = tarfile.PAX_FORMAT) -> bytes:
    """A plain tar; names are taken as they are."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data) if data else None)
    return buffer.getvalue()


def root(prefix: str = "") -> list[Member]:
    """A small root file system."""
    return [
        directory(f"{prefix}etc"),
        file(f"{prefix}etc/os-release", OS_RELEASE),
        directory(f"{prefix}usr"),
        directory(f"{prefix}usr/bin"),
        file(f"{prefix}usr/bin/passwd", b"program", mode=0o4755),
        hard_link(f"{prefix}usr/bin/other", f"{prefix}usr/bin/passwd"),
        symlink(f"{prefix}bin", "usr/bin"),
        directory(f"{prefix}dev"),
        node(f"{prefix}dev/null", tarfile.CHRTYPE, 1, 3),
        file(f"{prefix}etc/owned", b"x", uid=1000, gid=65535),
    ]


def unified(prefix: str = "") -> list[Member]:
    """As LXD and Incus export an image in one file."""
    return [
        file(f"{prefix}metadata.yaml", b"architecture: x86_64\n"),
        directory(f"{prefix}templates"),
        file(f"{prefix}templates/hosts.tpl", b"{{ container.name }}"),
        directory(f"{prefix}rootfs"),
        *root(f"{prefix}rootfs/"),
    ]


def _overflow_chain() -> list[Member]:
    """The chain of long names and links that led Python's own extraction out of its directory (CVE-2025-4517)."""
    members, path = [], ""
    for letter in "abcdefghijklmnop":
        path = f"{path}{letter * 247}/" if path else f"{letter * 247}/"
        members += [directory(path.rstrip("/")), symlink(path.rstrip("/") + "-", letter * 247)]
    return [*members, symlink("escape", path + "../" * 16 + "tmp"), file("escape/evil", b"x")]


# Whatever the reason, each must be refused; the text is part of the reason given.
HOSTILE: Mapping[str, tuple[str, Callable[[], bytes]]] = {
    "parent": ("leaves its directory", lambda: pack([*root(), file("../evil", b"x")])),
    "parent-inside": ("leaves its directory", lambda: pack([*root(), file("etc/../../evil", b"x")])),
    "absolute": ("leaves its directory", lambda: pack([*root(), file("/var/tmp/evil", b"x")])),
    "below-link": ("below a link", lambda: pack([*root(), symlink("a", "/var/tmp"), file("a/evil", b"x")])),
    "below-link-later": (
        "two members",
        lambda: pack([*root(), file("a/evil", b"x"), symlink("a", "/var/tmp"), file("a/evil2", b"x")]),
    ),
    "directory-then-link": (
        "two members",
        lambda: pack([*root(), directory("a"), symlink("a", "/var/tmp"), file("a/evil", b"x")]),
    ),
    "hard-link-out": ("leaves its directory", lambda: pack([*root(), hard_link("etc/x", "../../canary")])),
    "hard-link-absolute": ("hard link", lambda: pack([*root(), hard_link("etc/x", "etc/shadow")])),
    "hard-link-to-link": (
        "hard link",
        lambda: pack([*root(), symlink("etc/s", "/etc/shadow"), hard_link("etc/x", "etc/s")]),
    ),
    "block-device": ("neither file", lambda: pack([*root(), node("etc/disk", tarfile.BLKTYPE, 8, 0)])),
    "kernel-memory": ("neither file", lambda: pack([*root(), node("etc/mem", tarfile.CHRTYPE, 1, 1)])),
    "whiteout": ("neither file", lambda: pack([*root(), node("etc/gone", tarfile.CHRTYPE, 0, 0)])),
    "same-file-twice": ("two members", lambda: pack([*root(), file("etc/os-release", b"x")])),
    "rootfs-becomes-link": ("two members", lambda: pack([*unified(), symlink("rootfs", "/root")])),
    "rootfs-is-link": ("rootfs", lambda: pack([file("metadata.yaml", b"x"), symlink("rootfs", "/root")])),
    "backup-yaml": ("beside", lambda: pack([*unified(), symlink("backup.yaml", "/root/.ssh/authorized_keys")])),
    "exec-output": ("beside", lambda: pack([*unified(), symlink("exec-output", "/etc")])),
    "nothing-of-a-root": ("no root file system", lambda: pack([file("hello", b"x")])),
    "nothing": ("no root file system", lambda: pack([])),
    "deep": ("deeper than", lambda: pack([*root(), file("a/" * 200 + "x", b"x")])),
    "overflow-chain": ("leaves its directory|below a link", lambda: pack(_overflow_chain())),
    "text": ("damaged", lambda: b"this is no archive\n" * 100),
    "cut": ("damaged", lambda: pack([*root(), file("usr/big", b"x" * 100_000)])[:-90_000]),
}
