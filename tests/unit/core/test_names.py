# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The one name check (the vectors of NAM-01: names that became paths, options or shell words elsewhere)."""

from __future__ import annotations

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core import names
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import InvalidRequest

HOSTILE = [
    "", ".", "..", "/x", "x/y", "-rf", "--help", "a b", "a\tb", "c1\n", "c1\r", "c1\0", "a,b", "a=b", 'a"b', "a'b",
    "$(id)", "`id`", "%s", "@", "~", "*", "?", "x" * 64, "x" * 256, "\u0661\u0662\u0663", "\ufb01", "\u00e9",
    "\u202e", "123", "x-", "X", None, 7, ["x"],
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_refused(name: object) -> None:
    for check in (names.require_name, names.require_interface):
        with pytest.raises(InvalidRequest) as caught:
            check("object", name)
        assert "\n" not in str(caught.value)
        assert str(caught.value).isascii()


@pytest.mark.parametrize(
    "name", ["../x", "x/../y", "/x", "x//y", "x/", "a b", "debian/12\n", "a/b/c/d/e", "\u00e9", "", None]
)
def test_hostile_aliases_are_refused(name: object) -> None:
    with pytest.raises(InvalidRequest):
        names.require_alias(name)


@pytest.mark.parametrize("name", ["a", "web1", "a-b", "x" * 63])
def test_good_names_pass(name: str) -> None:
    assert names.require_name("instance", name) == name


@pytest.mark.parametrize("name", ["debian/12", "ubuntu/24.04", "my-image", "a/b/c/d"])
def test_good_aliases_pass(name: str) -> None:
    assert names.require_alias(name) == name


def test_interface_names_fit_the_kernel() -> None:
    assert names.require_interface("network", "x" * 15) == "x" * 15
    with pytest.raises(InvalidRequest):
        names.require_interface("network", "x" * 16)
