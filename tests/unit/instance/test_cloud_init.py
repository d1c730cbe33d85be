# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The NoCloud seed: what it says, when it counts as new, and which files of an old one go."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.kinds import InstanceType
from ansible_collections.tandem.machines.plugins.module_utils._instance.cloud_init import render_seed, stale_files
from ansible_collections.tandem.machines.plugins.module_utils._instance.model import Record

USER_DATA = {"cloud-init.user-data": "#cloud-config\n{packages: [git]}\n"}


def record(config: dict[str, Any], uuid: str = "u1") -> Record:
    return Record(
        name="web1",
        uuid=uuid,
        type=InstanceType.CONTAINER,
        image="0f" * 32,
        image_name="debian/12",
        pool="default",
        expanded_config=config,
    )


def instance_id(config: dict[str, Any], uuid: str = "u1") -> str:
    metadata = json.loads(render_seed(record(config, uuid))["meta-data"])
    assert metadata["local-hostname"] == "web1"
    return str(metadata["instance-id"])


def test_without_options_there_is_no_seed() -> None:
    assert render_seed(record({"limits.memory": "1GiB"})) == {}


def test_the_instance_id_follows_instance_and_seed() -> None:
    changed = {"cloud-init.user-data": "#cloud-config\n{packages: [vim]}\n"}
    same = {instance_id(USER_DATA), instance_id({**USER_DATA, "limits.memory": "1GiB"})}
    assert len(same) == 1
    assert len({*same, instance_id(changed), instance_id(USER_DATA, "u2")}) == 3


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (USER_DATA, USER_DATA, {"vendor-data", "network-config"}),
        (USER_DATA, {}, {"meta-data", "user-data", "vendor-data", "network-config"}),
        ({"cloud-init.network-config": "{version: 2}"}, USER_DATA, {"vendor-data", "network-config"}),
    ],
)
def test_of_our_own_seed_what_is_not_wanted_goes(before: Any, after: Any, expected: set[str]) -> None:
    metadata = render_seed(record(before))["meta-data"].encode()
    assert set(stale_files(metadata, render_seed(record(after)))) == expected


@pytest.mark.parametrize("metadata", [None, b"", b"instance-id: i1\n", b'{"instance-id": "i1"}', b"[1]", b"\xff"])
def test_a_seed_of_the_image_stays(metadata: bytes | None) -> None:
    assert stale_files(metadata, {}) == ()
