# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What Ansible sends to the host for each module: our share of the zip, since it is sent again with every task."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.tandem.machines.tests.unit.imports import PLUGINS, payload, zipped_size

# Of these, _core, _host and _module take 31 KiB wherever an object is managed. Ansible's own share of every zip is
# about 120 KiB. A module that grows past its line has to lose code that only some of its runs need.
LIMITS_KIB = {"instance": 210, "instance_info": 210, "image": 80, "network": 80, "network_info": 80,
              "storage_pool": 82, "storage_pool_info": 82, "host_info": 61, "instance_exec": 60, "profile": 42,
              # All nouns at once.
              "stack": 304, "stack_info": 304}  # fmt: skip
OTHER_LIMIT_KIB = 40

MODULES = sorted((PLUGINS / "modules").glob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_payload_is_small(module: Path, tmp_path: Path) -> None:
    files = payload(module)
    limit_kib = LIMITS_KIB.get(module.stem, OTHER_LIMIT_KIB)
    assert zipped_size(files, tmp_path / "payload.zip") <= limit_kib * 1024, f"{len(files)} files"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_payload_has_every_package(module: Path) -> None:
    assert not [path for path in payload(module) if not path.is_file()]
