# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What differs between processor architectures of guests, in Debian's names. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """machine: the kernel's name (uname -m). efi: suffix of the boot loader's file. root_type: GPT type of a root
    partition (UAPI group, Discoverable Partitions Specification)."""

    machine: str
    efi: str
    root_type: str
    serial_console: str


ARCHITECTURES: Mapping[str, Architecture] = {
    "amd64": Architecture("x86_64", "x64", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "ttyS0"),
    "arm64": Architecture("aarch64", "aa64", "b921b045-1df0-41c3-af44-4c6f280d3fae", "ttyAMA0"),
}


def find_architecture(machine: str) -> str | None:
    """Debian's name for the kernel's name of a machine, None for one we do not know."""
    return next((name for name, architecture in ARCHITECTURES.items() if architecture.machine == machine), None)
