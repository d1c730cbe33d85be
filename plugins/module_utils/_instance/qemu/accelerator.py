# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Whether this host can run guests with hardware acceleration, tried rather than guessed."""

from __future__ import annotations

import fcntl
import os
from functools import lru_cache

KVM = "kvm"
TCG = "tcg"
_DEVICE = "/dev/kvm"
_KVM_GET_API_VERSION = 0xAE00
_KVM_CREATE_VM = 0xAE01
_API_VERSION = 12
_CPUINFO_LIMIT_BYTES = 64 * 1024


@lru_cache(maxsize=1)
def find_accelerator() -> tuple[str, str]:
    """kvm or tcg (emulation), and why in one clause; the answer holds for the life of this process."""
    problem = _find_problem(_DEVICE, os.uname().machine, _read_cpuinfo())
    return (TCG, problem) if problem else (KVM, f"{_DEVICE} works")


def _find_problem(device: str, machine: str, cpuinfo: str) -> str:
    """What stands against KVM; empty if nothing does."""
    # Some hypervisors offer a KVM that runs firmware but no ordinary kernel; they hide the processor's own flag.
    if machine in ("x86_64", "i686") and not {"vmx", "svm"} & _flags(cpuinfo):
        return "the processor offers neither vmx nor svm to this host"
    try:
        descriptor = os.open(device, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        return f"{device} cannot be opened: {error.strerror}"
    try:
        return _try_kvm(device, descriptor)
    finally:
        os.close(descriptor)


def _try_kvm(device: str, descriptor: int) -> str:
    try:
        version = fcntl.ioctl(descriptor, _KVM_GET_API_VERSION, 0)
        if version != _API_VERSION:
            return f"{device} speaks version {version}, not {_API_VERSION}"
        os.close(fcntl.ioctl(descriptor, _KVM_CREATE_VM, 0))
    except OSError as error:
        return f"{device} cannot create a machine: {error.strerror}"
    return ""


def _flags(cpuinfo: str) -> set[str]:
    """The flags of the first processor."""
    for line in cpuinfo.splitlines():
        name, _unused, value = line.partition(":")
        if name.strip() == "flags":
            return set(value.split())
    return set()


def _read_cpuinfo() -> str:
    with open("/proc/cpuinfo", "rb") as stream:
        return stream.read(_CPUINFO_LIMIT_BYTES).decode("ascii", "replace")
