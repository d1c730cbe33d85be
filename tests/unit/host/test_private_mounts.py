# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Which mounts of the host a container's monitor lets go of."""

from __future__ import annotations

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._host.private_mounts import PrivateMounts, not_needed


def mountinfo(*mounts: tuple[str, str, str]) -> str:
    """Lines as in proc(5) for kind, source and mount point."""
    return "".join(f"40 1 0:40 / {point} rw shared:1 - {kind} {source} rw\n" for kind, source, point in mounts)


ROOT = ("ext4", "/dev/vda1", "/")


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ([ROOT], []),
        ([ROOT, ("ext4", "/dev/vda2", "/usr"), ("xfs", "/dev/vda3", "/var")], []),
        ([ROOT, ("tmpfs", "none", "/run"), ("proc", "proc", "/proc"), ("cgroup2", "none", "/sys/fs/cgroup")], []),
        ([ROOT, ("btrfs", "/dev/loop0", "/var/lib/tandem/storage/default/volumes")],
         ["/var/lib/tandem/storage/default/volumes"]),
        ([ROOT, ("nfs4", "server:/home", "/home"), ("ext4", "/dev/sdb1", "/home/ann/disk")],
         ["/home/ann/disk", "/home"]),
        ([ROOT, ("fuse.lxcfs", "lxcfs", "/var/lib/lxcfs"), ("fuse.sshfs", "a:/", "/mnt/mein\\040Gerät")],
         ["/mnt/mein Gerät"]),
        ([ROOT, ("ext4", "/dev/sdc1", "/var/lib/tandem/instances"), ("ext4", "/dev/sdd1", "/var/lib/tandem-old")],
         ["/var/lib/tandem-old"]),
    ],
)  # fmt: skip
def test_file_systems_without_a_needed_path_go(mounts: list[tuple[str, str, str]], expected: list[str]) -> None:
    assert not_needed(mountinfo(*mounts), ("/var/lib/tandem/instances/web1", "/run/tandem")) == expected


def test_mounts_lie_below_their_directory() -> None:
    mounts = PrivateMounts("/run/x", {"root": "/pool/root"}, {}, 100000, 65536)
    assert mounts.path("root") == "/run/x/root"
