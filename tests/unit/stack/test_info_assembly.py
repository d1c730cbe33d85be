# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A stack's document put together from described objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.resource import leave_out_empty
from ansible_collections.tandem.machines.plugins.module_utils._spec.instance import INSTANCE
from ansible_collections.tandem.machines.plugins.module_utils._stack.assembly import (
    Key,
    collect,
    compose,
    find_gaps,
    leave_out_secrets,
    references,
)

WEB1 = {
    "name": "web1",
    "image": "debian",
    "profiles": ["web"],
    "devices": {
        "data": {"type": "disk", "pool": "slow", "source": "data1", "path": "/srv"},
        "eth1": {"type": "nic", "nictype": "bridged", "parent": "br0"},
        "host": {"type": "disk", "source": "/srv", "path": "/mnt"},
        "usb": {"type": "none"},
    },
}
HOST: Mapping[Key, Mapping[str, Any]] = {
    ("storage_pool", "default"): {"name": "default"},
    ("storage_pool", "slow"): {"name": "slow"},
    ("storage_pool", "unused"): {"name": "unused"},
    ("network", "tdbr0"): {"name": "tdbr0"},
    ("image", "debian/12"): {"name": "debian/12", "aliases": ["debian"]},
    ("image", "debian"): {"name": "debian/12", "aliases": ["debian"]},
    ("profile", "web"): {
        "name": "web",
        "devices": {
            "root": {"type": "disk", "path": "/", "pool": "default"},
            "eth0": {"type": "nic", "network": "tdbr0"},
        },
    },
    ("instance", "web1"): WEB1,
    ("instance", "db1"): {"name": "db1", "image": "debian/12", "profiles": []},
}
PLURALS = {"storage_pool": "storage_pools", "image": "images", "instance": "instances", "volume": "volumes"}


def test_references_are_profiles_image_pools_and_bridges() -> None:
    expected = {("profile", "web"), ("image", "debian"), ("storage_pool", "slow"), ("network", "br0")}
    assert set(references(WEB1)) == expected
    assert set(references({"name": "tdbr0", "config": {"ipv4.address": "auto"}})) == set()


def test_what_is_needed_comes_along_and_nothing_else() -> None:
    found = collect([("instance", "web1")], HOST.get)
    assert set(found) == set(HOST) - {("storage_pool", "unused"), ("instance", "db1"), ("image", "debian")}


def test_each_object_is_asked_for_once() -> None:
    asked = []

    def describe(key: Key) -> Mapping[str, Any] | None:
        asked.append(key)
        return HOST.get(key)

    collect([*HOST, ("instance", "web1")], describe)
    assert len(asked) == len(set(asked))
    assert ("network", "br0") in asked


def test_document_has_all_lists_with_objects_by_name() -> None:
    assert compose(collect(HOST, HOST.get), PLURALS) == {
        "storage_pools": [{"name": "default"}, {"name": "slow"}, {"name": "unused"}],
        "images": [{"name": "debian/12", "aliases": ["debian"]}],
        "instances": [HOST["instance", "db1"], WEB1],
        "volumes": [],
    }


@pytest.mark.parametrize(
    ("config", "kept"),
    [
        (
            {"limits.cpu": "1", "cloud-init.user-data": "x"},
            {"name": "a", "config": {"limits.cpu": "1"}, "profiles": []},
        ),
        ({"cloud-init.user-data": "x"}, {"name": "a", "profiles": []}),
    ],
)
def test_secrets_are_left_out_and_named(config: dict[str, str], kept: dict[str, Any]) -> None:
    options = {"name": "a", "config": config, "profiles": []}
    public, secrets = leave_out_secrets(options, INSTANCE)
    assert (public, secrets) == (kept, ("cloud-init.user-data",))
    assert list(public) == [key for key in options if key in kept]


def test_without_secrets_nothing_is_touched() -> None:
    assert leave_out_secrets(WEB1, INSTANCE) == (WEB1, ())
    options = {"name": "tdbr0", "config": {"cloud-init.user-data": "x"}}
    assert leave_out_secrets(options, None) == (options, ())


def test_gaps_are_what_another_host_would_miss() -> None:
    assert list(find_gaps("image", {"name": "a"})) != []
    assert list(find_gaps("image", {"name": "a", "source": {"type": "build"}})) == []
    assert list(find_gaps("instance", {"name": "a"})) != []
    assert list(find_gaps("instance", {"name": "a", "image": "ab" * 32})) != []
    assert list(find_gaps("instance", {"name": "a", "image": "debian/12"})) == []
    assert list(find_gaps("profile", {"name": "a"})) == []


def test_empty_is_left_out_but_an_empty_list_is_not() -> None:
    given = {"name": "a", "description": "", "config": {}, "image": None, "profiles": [], "flag": False}
    assert leave_out_empty(given) == {"name": "a", "profiles": [], "flag": False}
