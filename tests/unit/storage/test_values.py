# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Storage pools as values: parameters, records, the fstab line, tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import Conflict, InvalidRequest
from ansible_collections.tandem.machines.plugins.module_utils._core.kinds import NONE, Work
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._host.unit import render_unit
from ansible_collections.tandem.machines.plugins.module_utils._spec.storage import (
    POOL_DRIVERS,
    POOL_OPTION_DRIVERS,
    STORAGE_POOL_CONFIG,
)
from ansible_collections.tandem.machines.plugins.module_utils._storage.features import FEATURES
from ansible_collections.tandem.machines.plugins.module_utils._storage.layout import layout_of
from ansible_collections.tandem.machines.plugins.module_utils._storage.model import (
    GIB,
    default_loop_bytes,
    parse_desired,
)
from ansible_collections.tandem.machines.plugins.module_utils._storage.mounts import render_fstab
from ansible_collections.tandem.machines.plugins.module_utils._storage.observe import pool_unit
from ansible_collections.tandem.machines.plugins.module_utils._storage.record import (
    Backing,
    Recorded,
    parse_record,
    render_record,
)
from ansible_collections.tandem.machines.plugins.module_utils._storage.registry import DRIVERS
from hypothesis import given
from hypothesis import strategies as st

UUID = "11111111-2222-3333-4444-555555555555"

records = st.builds(
    Recorded,
    name=st.just("p1"),
    uuid=st.uuids().map(str),
    driver=st.sampled_from(POOL_DRIVERS),
    backing=st.sampled_from(Backing),
    config=st.fixed_dictionaries(
        {},
        optional={
            "size": st.integers(1, 2**62),
            "source": st.sampled_from(["/dev/sdb", "/srv/with space"]),
            "source.wipe": st.booleans(),
            "btrfs.mount_options": st.sampled_from(["noatime", "ssd,compress=zstd"]),
            "user.x": st.text(st.characters(min_codepoint=32, max_codepoint=126)),
        },
    ),
    description=st.text(),
    work=st.none() | st.sampled_from([Work.CREATE, Work.UPDATE, Work.DELETE]),
    size_bytes=st.none() | st.integers(1, 2**62),
    is_source_ours=st.booleans(),
)


@given(records)
def test_record_survives_being_written(recorded: Recorded) -> None:
    assert parse_record(render_record(recorded), "p1") == recorded


@pytest.mark.parametrize("damage", ["uuid", "driver", "config", "volatile", "work", "description"])
def test_damaged_record_is_named(damage: str) -> None:
    data = render_record(Recorded("p1", UUID, "dir", Backing.PLAIN))
    del data[damage]
    with pytest.raises(Conflict, match="storage pool p1: its record is damaged"):
        parse_record(data, "p1")


def test_record_of_a_newer_version_is_refused() -> None:
    data = {**render_record(Recorded("p1", UUID, "dir", Backing.PLAIN)), "schema": 2}
    with pytest.raises(Conflict, match="upgrade it"):
        parse_record(data, "p1")


@pytest.mark.parametrize(
    ("free_gib", "expected_gib"), [(0, 5), (24, 5), (25, 5), (30, 6), (99, 19), (150, 30), (10_000, 30)]
)
def test_loop_file_takes_a_fifth_of_the_free_space(free_gib: int, expected_gib: int) -> None:
    assert default_loop_bytes(free_gib * GIB) == expected_gib * GIB


BAD = [
    ({"name": "../x"}, "storage pool name"),
    ({"name": "p1\n"}, "storage pool name"),
    ({"driver": "zfs"}, "driver 'zfs' is not known"),
    ({"config": {"sise": "1GiB"}}, "did you mean size"),
    ({"config": {"size": "1 potato"}}, "is not a size"),
    ({"config": {"size": 0}}, "larger than zero"),
    ({"config": {"size": ["1GiB"]}}, "is not a size"),
    ({"config": "size=1GiB"}, "must be a mapping"),
    ({"config": {"source": "srv/pool"}}, "is not an absolute path"),
    ({"config": {"source": "/srv/../etc"}}, "is not an absolute path"),
    ({"config": {"source": "/srv/a\nb"}}, "is not an absolute path"),
    ({"config": {"source.wipe": "perhaps"}}, "is not a boolean"),
    ({"config": {"volatile.uuid": "x"}}, "unknown storage pool config option"),
    ({"config": {"rsync.bwlimit": "1"}}, "has no meaning here: no volume is copied by rsync"),
    ({"config": {"source.recover": True}}, "has no meaning here"),
    ({"config": {"btrfs.create_options": "-m single"}}, "has no meaning here"),
    ({"config": {"btrfs.mount_options": "noatim"}}, "did you mean noatime"),
    ({"config": {"btrfs.mount_options": "subvolid=5"}}, "is not allowed"),
    ({"config": {"btrfs.mount_options": "noatime,"}}, "is not allowed"),
    ({"config": {"btrfs.mount_options": "ro"}}, "is not allowed"),
    ({"config": {"btrfs.mount_options": "compress=zstd 0 0"}}, "has a value that is not valid"),
]


@pytest.mark.parametrize(("params", "message"), BAD, ids=lambda value: str(value)[:60])
def test_bad_parameters_are_refused_in_one_line(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        parse_desired({"name": "p1", "driver": "btrfs", **params}, UUID)
    assert "\n" not in str(refused.value)


def test_fstab_names_each_backing() -> None:
    layout = layout_of(Paths(Path("/var/lib/tandem")), "p1")
    volumes = "/var/lib/tandem/storage/p1/volumes"
    loop = Recorded("p1", UUID, "btrfs", Backing.LOOP, {"btrfs.mount_options": "noatime,compress=zstd"})
    block = Recorded("p1", UUID, "btrfs", Backing.BLOCK, {"source": "/dev/sdb"})
    directory = Recorded("p1", UUID, "dir", Backing.DIRECTORY, {"source": "/srv/a b#c\\d"})
    assert render_fstab(loop, layout) == (
        f"/var/lib/tandem/storage/p1/pool.img {volumes} btrfs loop,noatime,compress=zstd 0 0\n"
    )
    assert render_fstab(block, layout) == f"UUID={UUID} {volumes} btrfs user_subvol_rm_allowed 0 0\n"
    assert render_fstab(directory, layout) == f"/srv/a\\040b\\043c\\134d {volumes} none bind 0 0\n"


def test_unit_mounts_at_boot_and_unmounts_at_shutdown() -> None:
    recorded = Recorded("p1", UUID, "btrfs", Backing.LOOP)
    unit = render_unit(pool_unit(recorded, layout_of(Paths(Path("/var/lib/tandem")), "p1")))
    assert 'mount" "--fstab" "/var/lib/tandem/storage/p1/fstab" "--all"\n' in unit
    assert 'umount" "--" "/var/lib/tandem/storage/p1/volumes"\n' in unit
    assert "RemainAfterExit=yes" in unit


def test_tables_agree() -> None:
    assert set(POOL_DRIVERS) == set(FEATURES) == set(DRIVERS)
    assert all(DRIVERS[name].features is FEATURES[name] for name in DRIVERS)
    assert set(POOL_OPTION_DRIVERS) <= {option.key for option in STORAGE_POOL_CONFIG}
    assert all(option.doc for option in STORAGE_POOL_CONFIG)
    assert all(bool(option.why_not) == (option.container is NONE) for option in STORAGE_POOL_CONFIG)
