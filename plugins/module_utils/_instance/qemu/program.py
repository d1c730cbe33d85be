# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What this host has installed for virtual machines."""

from __future__ import annotations

import json
import os
from typing import Any

from ..._core.errors import MissingDependency, NotSupported, QmpError
from ..._host.run import find_tool, require_tool, run
from .accelerator import KVM, find_accelerator
from .spec import VmHost

_MACHINE_ALIAS = "q35"
_PROGRAMS = {"x86_64": "qemu-system-x86_64"}
# JSON for -netdev and the machine options we turn off came with this version.
LEAST_VERSION = (7, 2)
# Code and template of variables, of the same flash size each.
_FIRMWARE = (
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
)
_VIRTIOFSD = ("/usr/libexec/virtiofsd", "/usr/lib/qemu/virtiofsd")
_VHOST_NET = "/dev/vhost-net"


def program_name() -> str:
    """The QEMU for this host's processor; NotSupported for processors we have no machine for."""
    machine = os.uname().machine
    if machine not in _PROGRAMS:
        raise NotSupported(f"virtual machines are not supported on {machine} hosts: use {', '.join(_PROGRAMS)}")
    return _PROGRAMS[machine]


def find_program() -> str | None:
    """Absolute path of QEMU, None if it is not installed."""
    return find_tool(program_name())


def require_host() -> VmHost:
    """What virtual machines can be given here; MissingDependency without QEMU."""
    accelerator, _unused = find_accelerator()
    firmware, variables = next((pair for pair in _FIRMWARE if all(map(os.path.exists, pair))), (None, None))
    return VmHost(
        accelerator=accelerator,
        program=require_tool(program_name()),
        firmware=firmware,
        firmware_variables=variables,
        virtiofsd=next(filter(os.path.exists, _VIRTIOFSD), None),
        # Emulation is slow by itself: nothing is gained by the kernel's part there.
        has_vhost_net=accelerator == KVM and os.path.exists(_VHOST_NET),
    )


def ask_program() -> tuple[tuple[int, int], str]:
    """QEMU's version and its newest versioned machine type, such as ((7, 2), 'pc-q35-7.2').

    Costs a start of QEMU: ask once, when an instance is created, and record the type. Raises
    MissingDependency for a QEMU that is too old.
    """
    commands = ("qmp_capabilities", "query-version", "query-machines", "quit")
    argv = (program_name(), "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio")
    questions = "".join(json.dumps({"execute": command}) for command in commands)
    version, machines = _answers(run(argv, stdin=questions.encode(), timeout_seconds=30).text)
    found = (int(version["qemu"]["major"]), int(version["qemu"]["minor"]))
    if found < LEAST_VERSION:
        wanted = ".".join(map(str, LEAST_VERSION))
        raise MissingDependency(f"QEMU {found[0]}.{found[1]} is too old here: install {wanted} or later")
    return found, next(entry["name"] for entry in machines if entry.get("alias") == _MACHINE_ALIAS)


def _answers(text: str) -> tuple[Any, Any]:
    """The two answers that are not empty."""
    messages = [json.loads(line) for line in text.splitlines() if line.strip()]
    answers = [message["return"] for message in messages if message.get("return")]
    if len(answers) != 2:
        raise QmpError("to tell its version", "Garbage", text[:200])
    return answers[0], answers[1]
