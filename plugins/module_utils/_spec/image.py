# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Where an image can come from: one table for each source type, and the releases that can be built. Tables only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .._core.kinds import CREATE
from .._core.options import Option, OptionTable
from .._core.values import PATH, STRING, choice

BUILD_SOURCE = OptionTable(
    "build source",
    (
        Option(
            "distribution",
            choice("debian", "ubuntu"),
            container=CREATE,
            vm=CREATE,
            required=True,
            doc="Distribution to build.",
        ),
        Option(
            "release",
            STRING,
            container=CREATE,
            vm=CREATE,
            required=True,
            doc="Release, by code name (C(bookworm)) or version (C(12)).",
        ),
        Option(
            "architecture",
            choice("amd64", "arm64"),
            container=CREATE,
            vm=CREATE,
            doc="Architecture in Debian's names; the host's own by default, and only that can be built.",
        ),
        Option(
            "mirror",
            STRING,
            container=CREATE,
            vm=CREATE,
            doc="URL of the package archive (http or https); by default the host's own when it runs the same"
            " distribution, else the official one.",
        ),
        Option(
            "keyring",
            PATH,
            container=CREATE,
            vm=CREATE,
            doc="Keyring file that the archive is signed with; by default the distribution's own below"
            " C(/usr/share/keyrings).",
        ),
        Option(
            "packages",
            STRING,
            container=CREATE,
            vm=CREATE,
            doc="Names of packages to install besides those every image has.",
        ),
    ),
)

FILE_SOURCE = OptionTable(
    "file source",
    (
        Option("path", PATH, container=CREATE, vm=CREATE, required=True, doc="File on the host."),
        Option(
            "format",
            choice("tar", "squashfs", "qcow2"),
            container=CREATE,
            vm=CREATE,
            doc="What the file holds: C(tar) (also compressed by gzip, xz, bzip2 or zstd) or C(squashfs) with a root"
            " file system, C(qcow2) with a whole disk; by default from the file's name, never from its content.",
        ),
        Option(
            "architecture",
            choice("amd64", "arm64"),
            container=CREATE,
            vm=CREATE,
            doc="Architecture in Debian's names; the host's own by default.",
        ),
    ),
)

SOURCES: Mapping[str, OptionTable] = {"build": BUILD_SOURCE, "file": FILE_SOURCE}


@dataclass(frozen=True)
class Release:
    """packages: what this release needs beyond COMMON_PACKAGES, kernel first. is_merged_late: its essential
    packages ask for a merged /usr without making it, so that mmdebstrap's hook must."""

    version: str
    packages: tuple[str, ...]
    has_updates: bool = True
    is_merged_late: bool = False


@dataclass(frozen=True)
class Distribution:
    """archive and security: official URLs, with those of ports where they differ. keyring: below
    /usr/share/keyrings, from package keyring_package."""

    name: str
    archive: Mapping[str, str]
    security: Mapping[str, str]
    components: tuple[str, ...]
    keyring: str
    keyring_package: str
    releases: Mapping[str, Release]


COMMON_PACKAGES = (
    "ca-certificates",
    "dbus",
    "e2fsprogs",
    "fdisk",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "libnss-myhostname",
    "libpam-systemd",
    "procps",
    "python3",
    "qemu-guest-agent",
    "sudo",
    "systemd-sysv",
    "udev",
    "zstd",
)

_DEBIAN = ("linux-image-cloud-{architecture}", "systemd-resolved", "systemd-boot-efi")
_UBUNTU = ("linux-image-virtual",)

DISTRIBUTIONS: Mapping[str, Distribution] = {
    "debian": Distribution(
        name="Debian",
        archive={"*": "http://deb.debian.org/debian"},
        security={"*": "http://deb.debian.org/debian-security"},
        components=("main",),
        keyring="debian-archive-keyring.gpg",
        keyring_package="debian-archive-keyring",
        releases={
            "bookworm": Release("12", _DEBIAN, is_merged_late=True),
            "trixie": Release("13", _DEBIAN),
            "forky": Release("14", _DEBIAN),
            "sid": Release("sid", _DEBIAN, has_updates=False),
        },
    ),
    "ubuntu": Distribution(
        name="Ubuntu",
        archive={"*": "http://ports.ubuntu.com/ubuntu-ports", "amd64": "http://archive.ubuntu.com/ubuntu"},
        security={"*": "http://ports.ubuntu.com/ubuntu-ports", "amd64": "http://security.ubuntu.com/ubuntu"},
        components=("main", "universe"),
        keyring="ubuntu-archive-keyring.gpg",
        keyring_package="ubuntu-keyring",
        releases={
            "jammy": Release("22.04", _UBUNTU),
            "noble": Release("24.04", (*_UBUNTU, "systemd-resolved", "systemd-boot-efi")),
            "resolute": Release("26.04", (*_UBUNTU, "systemd-resolved", "systemd-boot-efi")),
        },
    ),
}
