# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The liblxc configuration against golden files; set UPDATE_GOLDEN=1 to write them anew and read the diff."""

from __future__ import annotations

import os
import pathlib
from dataclasses import replace

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import InvalidRequest
from ansible_collections.tandem.machines.plugins.module_utils._core.kinds import InstanceType
from ansible_collections.tandem.machines.plugins.module_utils._core.values import Cpus
from ansible_collections.tandem.machines.plugins.module_utils._instance.lxc.config import (
    ContainerHost,
    choose_cpus,
    render_config,
    render_seccomp,
)
from ansible_collections.tandem.machines.plugins.module_utils._instance.model import (
    DiskDefinition,
    InstanceDefinition,
    NicDefinition,
    Record,
)
from ansible_collections.tandem.machines.plugins.module_utils._spec.instance import INSTANCE

GOLDEN = pathlib.Path(__file__).parent / "golden"
V1 = ContainerHost(1, False, (0, 1, 2, 3))
V2 = ContainerHost(2, True, (0, 1, 2, 3))


def definition(config: dict[str, object], **extra: object) -> InstanceDefinition:
    record = Record(
        name="web1",
        uuid="12345678-0000-4000-8000-000000000000",
        type=InstanceType.CONTAINER,
        image="a" * 64,
        image_name="debian/12",
        pool="default",
        expanded_config=INSTANCE.parse(config, "web1"),
        volatile={"idmap.base": "1065536"},
    )
    base = InstanceDefinition(
        record=record,
        directory="/var/lib/tandem/instances/web1",
        run_directory="/run/tandem/instances/web1",
        root="/var/lib/tandem/storage/default/volumes/containers/web1/rootfs",
    )
    return replace(base, **extra)  # type: ignore[arg-type]


NICS = (
    NicDefinition("eth0", "tdbr0", "tv0123456789", "00:16:3e:01:02:03", "eth0"),
    NicDefinition("eth1", "br0", "tvabcdefabcd", "00:16:3e:04:05:06", "wan", 9000),
)
DISKS = (
    DiskDefinition("data", "/srv/my data", "/srv/data", is_readonly=True),
    DiskDefinition("volume", "/var/lib/tandem/storage/default/volumes/custom/v1", "/srv/v1", is_shifted=True),
)
CASES = {
    "plain_v1": (definition({}), V1),
    "limits_v1": (definition({"limits.cpu": 2, "limits.memory": "1GiB"}, memory_bytes=1024**3, nics=NICS), V1),
    "limits_v2": (definition({"limits.cpu": "1,3", "limits.memory": "1GiB"}, memory_bytes=1024**3), V2),
    "privileged_nesting_v2": (definition({"security.privileged": True, "security.nesting": True}), V2),
    "disks_environment_v1": (definition({"environment.LANG": "de_DE.UTF-8", "environment.A": ""}, disks=DISKS), V1),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_configuration(name: str) -> None:
    rendered = render_config(*CASES[name])
    path = GOLDEN / f"{name}.conf"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(rendered)
    assert rendered == path.read_text()


def test_seccomp_profile_denies_module_loading() -> None:
    lines = render_seccomp().splitlines()
    assert lines[:2] == ["2", "denylist"]
    assert "finit_module errno 38" in lines


@pytest.mark.parametrize("bad", ["x\nlxc.hook.pre-start=/bin/touch /tmp/hit", "x\ry", "x\u2028y", "x\x85y", "x\0y"])
def test_control_characters_never_reach_the_file(bad: str) -> None:
    broken = definition({}, disks=(DiskDefinition("data", "/srv", f"/srv/{bad}"),))
    with pytest.raises(InvalidRequest, match="control character"):
        render_config(broken, V1)


def test_every_line_is_one_known_kind_of_entry() -> None:
    for rendered in (render_config(*case) for case in CASES.values()):
        for line in rendered.splitlines():
            key, separator, _unused = line.partition(" = ")
            assert separator and key.startswith("lxc."), line
            assert not key.startswith(("lxc.hook", "lxc.include")), line


def test_cpus_are_chosen_alike_each_time_and_spread() -> None:
    online = (0, 1, 2, 3)
    first = choose_cpus("web1", Cpus(2), online)
    assert first == choose_cpus("web1", Cpus(2), online)
    assert len(first) == 2
    assert {choose_cpus(f"web{n}", Cpus(1), online) for n in range(4)} == {(0,), (1,), (2,), (3,)}
    assert choose_cpus("web1", Cpus(9), online) == online
    assert choose_cpus("web1", Cpus(1, (3,)), online) == (3,)
