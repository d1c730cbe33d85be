# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a built image contains besides packages: small files, the same in containers and VMs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .model import MOUNT_DISKS


@dataclass(frozen=True)
class GuestFile:
    """A file to put into an image: text with a mode, or a symbolic link to target."""

    text: str = ""
    mode: int = 0o644
    target: str | None = None


def _link(target: str) -> GuestFile:
    return GuestFile(target=target)


_UNITS = "/usr/lib/systemd/system"

# A NIC is eth0 in a container and enp*/ens* in a VM. The client id by MAC address gives a guest the same lease
# at each boot, also after it was copied or its machine id was made anew.
_NETWORK = """\
[Match]
Name=en* eth*

[Network]
DHCP=yes

[DHCPv4]
ClientIdentifier=mac
SendHostname=yes
UseDomains=yes

[DHCPv6]
UseDomains=yes
"""

# One link that has an address is enough for "online"; a second NIC without a cable must not cost two minutes.
_WAIT_ONLINE = """\
[Service]
ExecStart=
ExecStart=/usr/lib/systemd/systemd-networkd-wait-online --any
"""

_GROW_UNIT = """\
[Unit]
Description=Grow the root partition and its file system to the size of the disk
ConditionVirtualization=!container
DefaultDependencies=no
After=systemd-remount-fs.service
Before=qemu-guest-agent.service shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
ExecStart=/usr/lib/tandem/grow-root

[Install]
WantedBy=sysinit.target
"""

# sfdisk, partx and resize2fs exist alike on all releases we build; systemd-repart moved between packages.
_GROW_SCRIPT = """\
#!/bin/sh
# Grow the root partition, when it is the last one of its disk, and then its ext4.
set -eu
source=$(findmnt --noheadings --output SOURCE /)
name=${source#/dev/}
here=/sys/class/block/$name
[ -r "$here/partition" ] || exit 0
read -r number < "$here/partition"
read -r start < "$here/start"
read -r size < "$here/size"
disk=$(basename "$(dirname "$(readlink --canonicalize "$here")")")
read -r total < "/sys/class/block/$disk/size"
# The second copy of a GPT takes the last 33 sectors; below 1 MiB there is nothing to gain.
[ $((total - start - size)) -gt 2081 ] || exit 0
echo ', +' | sfdisk --quiet --force --no-reread --partno "$number" "/dev/$disk"
partx --update --nr "$number" "/dev/$disk"
resize2fs "$source"
"""

# Later than the root file system and whatever fstab names, earlier than all services: those may keep their data there.
# A guest without disks starts no process for it: a kernel that the host boots is told by a word whether there are any.
_MOUNT_UNIT = """\
[Unit]
Description=Mount the directories that the host gives to this virtual machine
ConditionVirtualization=vm
ConditionKernelCommandLine=|tandem.disks
ConditionPathExists=|/sys/firmware/efi
DefaultDependencies=no
After=local-fs.target
Before=sysinit.target systemd-tmpfiles-setup.service systemd-journal-flush.service shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/tandem/mount-disks
TimeoutStartSec=2min

[Install]
WantedBy=sysinit.target
"""

# mount(8) reads the list itself, so nothing of it passes through the shell.
_MOUNT_SCRIPT = """\
#!/bin/sh
# Mount what the host lists, in the form of fstab(5), in QEMU's firmware configuration.
set -eu
list=/sys/firmware/qemu_fw_cfg/by_name/opt/tandem.machines/fstab/raw
modprobe --quiet qemu_fw_cfg || :
[ -e "$list" ] || exit 0
exec mount --all --fstab "$list"
"""

_HOSTS = """\
127.0.0.1 localhost
::1 localhost ip6-localhost ip6-loopback
ff02::1 ip6-allnodes
ff02::2 ip6-allrouters
"""

# Small and fast: what a virtio guest needs to find its root, and the other buses virtual disks come on.
_INITRAMFS_MODULES = "virtio_pci\nvirtio_blk\nvirtio_scsi\nsd_mod\nnvme\nahci\next4\n"


def early_files() -> Mapping[str, GuestFile]:
    """Files that must be there before packages are configured: the initramfs is made then."""
    return {
        "etc/initramfs-tools/conf.d/tandem": GuestFile("MODULES=list\nCOMPRESS=zstd\n"),
        "etc/initramfs-tools/modules": GuestFile(_INITRAMFS_MODULES),
        # Kept by the kernel packages: no /vmlinuz links in the root directory.
        "etc/kernel-img.conf": GuestFile("do_symlinks = no\n"),
    }


def late_files(distribution: str, apt_sources: str) -> Mapping[str, GuestFile]:
    """Files put over the finished root file system."""
    wants = "etc/systemd/system"
    return {
        f"etc/apt/sources.list.d/{distribution}.sources": GuestFile(apt_sources),
        "etc/dpkg/dpkg.cfg.d/tandem": GuestFile("".join(f"{option}\n" for option in EXCLUDED_PATHS)),
        "etc/fstab": GuestFile("# The root file system is named by the kernel command line.\n"),
        "etc/hosts": GuestFile(_HOSTS),
        "etc/default/locale": GuestFile("LANG=C.UTF-8\n"),
        "etc/machine-id": GuestFile(mode=0o444),
        # systemd-resolved's package makes it, but where resolved is part of systemd nobody does.
        "etc/resolv.conf": _link("../run/systemd/resolve/stub-resolv.conf"),
        "etc/systemd/network/80-dhcp.network": GuestFile(_NETWORK),
        f"{wants}/systemd-networkd-wait-online.service.d/any.conf": GuestFile(_WAIT_ONLINE),
        f"{wants}/multi-user.target.wants/systemd-networkd.service": _link(f"{_UNITS}/systemd-networkd.service"),
        f"{wants}/sockets.target.wants/systemd-networkd.socket": _link(f"{_UNITS}/systemd-networkd.socket"),
        f"{wants}/dbus-org.freedesktop.network1.service": _link(f"{_UNITS}/systemd-networkd.service"),
        f"{wants}/network-online.target.wants/systemd-networkd-wait-online.service": _link(
            f"{_UNITS}/systemd-networkd-wait-online.service"
        ),
        # Cleans up after e2scrub on LVM, which guests do not use; it takes seconds of an emulated boot.
        f"{wants}/e2scrub_reap.service": _link("/dev/null"),
        # Not permitted in an unprivileged container, where its failure makes the system "degraded".
        f"{wants}/sys-kernel-debug.mount": _link("/dev/null"),
        f"{wants}/tandem-grow-root.service": GuestFile(_GROW_UNIT),
        f"{wants}/sysinit.target.wants/tandem-grow-root.service": _link("/etc/systemd/system/tandem-grow-root.service"),
        "usr/lib/tandem/grow-root": GuestFile(_GROW_SCRIPT, mode=0o755),
        f"{wants}/tandem-mount-disks.service": GuestFile(_MOUNT_UNIT),
        f"{wants}/sysinit.target.wants/tandem-mount-disks.service": _link(
            "/etc/systemd/system/tandem-mount-disks.service"
        ),
        MOUNT_DISKS: GuestFile(_MOUNT_SCRIPT, mode=0o755),
    }


# dpkg's own options: what nobody reads in a guest, but the licences, which must stay with the files.
EXCLUDED_PATHS = (
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-include=/usr/share/locale/locale.alias",
    "path-exclude=/usr/share/man/*",
)

# Run by mmdebstrap as a shell hook whose $1 is the root directory; a constant, no value is ever put into it.
CLEAN_HOOK = (
    'rm -rf "$1"/etc/hostname "$1"/etc/apt/sources.list "$1"/etc/apt/apt.conf.d/99mmdebstrap'
    ' "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$1"/etc/ssh/ssh_host_* "$1"/var/lib/dbus/machine-id'
    ' "$1"/var/lib/systemd/random-seed "$1"/var/lib/systemd/credential.secret "$1"/var/cache/ldconfig/*'
    ' "$1"/var/cache/debconf/*-old "$1"/var/lib/dpkg/*-old "$1"/etc/passwd- "$1"/etc/group- "$1"/etc/shadow-'
    ' "$1"/etc/gshadow- "$1"/etc/subuid- "$1"/etc/subgid- "$1"/var/log/*.log "$1"/var/log/apt/* "$1"/var/backups/*'
    # systemd's ConditionNeedsUpdate: without these, the first boot runs ldconfig and rebuilds catalogs again.
    ' && touch -r "$1"/usr "$1"/etc/.updated "$1"/var/.updated'
)
