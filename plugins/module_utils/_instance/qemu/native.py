# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The files a virtual machine is started from: qemu.json, the launch program, the seed, UEFI's variables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..._core.errors import MissingDependency
from ..._host.files import read_capped, write_atomic, write_if_changed
from ..._host.source import module_source
from ..cloud_init import render_seed
from ..model import InstanceDefinition
from ..record import render_record
from .description import render_description
from .spec import DirectBoot, FirmwareBoot, VmHost, render_spec

LAUNCH = "launch"
_DESCRIPTION = "qemu.json"
_SEED = "seed.img"
_VARIABLES = "variables.fd"
_FILE_LIMIT_BYTES = 1024 * 1024
_FLASH_LIMIT_BYTES = 16 * 1024 * 1024


def write_files(definition: InstanceDefinition, host: VmHost) -> None:
    """Make all of them current; qemu.json last, since it vouches for the others."""
    directory = Path(definition.directory)
    from .seed import seed_digest, write_seed

    seed = render_seed(definition.record)
    description = _render(definition, host, seed)
    if seed and (_recorded_seed(directory) != seed_digest(seed) or not (directory / _SEED).exists()):
        write_seed(directory / _SEED, seed)
    if definition.boot.kernel is None and not (directory / _VARIABLES).exists():
        _unused, template = _require_firmware(definition, host)
        write_atomic(directory / _VARIABLES, read_capped(Path(template), _FLASH_LIMIT_BYTES) or b"")
    write_if_changed(directory / LAUNCH, _launch_program())
    write_if_changed(directory / _DESCRIPTION, description)


def is_current(definition: InstanceDefinition, host: VmHost) -> bool:
    """Whether write_files would change nothing."""
    directory = Path(definition.directory)
    seed = render_seed(definition.record)
    return (
        read_capped(directory / _DESCRIPTION, _FILE_LIMIT_BYTES) == _render(definition, host, seed)
        and read_capped(directory / LAUNCH, _FILE_LIMIT_BYTES) == _launch_program()
        and (not seed or (directory / _SEED).exists())
        and (definition.boot.kernel is not None or (directory / _VARIABLES).exists())
    )


def _render(definition: InstanceDefinition, host: VmHost, seed: Mapping[str, str]) -> bytes:
    """qemu.json; for the launch program the digest of the seed has no meaning, for the next run it has."""
    path = f"{definition.directory}/{_SEED}" if seed else ""
    machine = render_spec(definition, host, _boot(definition, host), path)
    record = render_record(definition.record)
    started_with = {"config": record["expanded_config"], "devices": record["expanded_devices"]}
    description = {**render_description(machine, started_with), "seed": _digest(seed)}
    return (json.dumps(description, indent=1, sort_keys=True) + "\n").encode()


def _digest(seed: Mapping[str, str]) -> str | None:
    if not seed:
        return None
    from .seed import seed_digest

    return seed_digest(seed)


def _boot(definition: InstanceDefinition, host: VmHost) -> DirectBoot | FirmwareBoot:
    boot = definition.boot
    if boot.kernel is not None:
        return DirectBoot(boot.kernel, boot.initrd, boot.command_line)
    code, _unused = _require_firmware(definition, host)
    return FirmwareBoot(code, f"{definition.directory}/{_VARIABLES}")


def _require_firmware(definition: InstanceDefinition, host: VmHost) -> tuple[str, str]:
    if host.firmware is None or host.firmware_variables is None:
        raise MissingDependency(
            f"instance {definition.name}: its image has no kernel of its own and this host no UEFI firmware: "
            "install package ovmf (role tandem.machines.host does)"
        )
    return host.firmware, host.firmware_variables


def _recorded_seed(directory: Path) -> Any:
    data = read_capped(directory / _DESCRIPTION, _FILE_LIMIT_BYTES)
    return None if data is None else json.loads(data).get("seed")


def _launch_program() -> bytes:
    return module_source(f"{__package__}.launch")
