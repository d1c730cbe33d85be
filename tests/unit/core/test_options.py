# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Option tables: unknown keys, meaning for a type, merging, shorthands."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import InvalidRequest
from ansible_collections.tandem.machines.plugins.module_utils._core.kinds import NONE, InstanceType
from ansible_collections.tandem.machines.plugins.module_utils._core.options import merge, take_shorthands
from ansible_collections.tandem.machines.plugins.module_utils._spec.devices import DEVICES
from ansible_collections.tandem.machines.plugins.module_utils._spec.instance import INSTANCE

TABLES = [INSTANCE, *DEVICES.values()]


def message_of(config: dict[str, Any], kind: InstanceType | None = None) -> str:
    with pytest.raises(InvalidRequest) as caught:
        INSTANCE.parse(config, "instance web1", kind)
    return str(caught.value)


def test_unknown_key_names_the_nearest() -> None:
    assert message_of({"limits.memroy": 1}).endswith("did you mean limits.memory?")


def test_wrong_value_names_object_option_and_remedy() -> None:
    assert message_of({"limits.memory": "1 GB B"}) == (
        "instance web1: config option limits.memory: '1 GB B' is not a size: "
        "write a number with a unit, such as 512MiB or 2GiB"
    )


def test_option_without_meaning_gives_its_reason() -> None:
    message = message_of({"security.nesting": True}, InstanceType.VIRTUAL_MACHINE)
    assert message == (
        "instance web1: config option security.nesting is not for a virtual-machine: "
        "a virtual machine has a kernel of its own"
    )


def test_secret_value_is_not_shown() -> None:
    assert "hunter2" not in message_of({"cloud-init.user-data": "hunter2\0"})


@pytest.mark.parametrize("key", ["environment.A B", "environment.1A", "environment.", "user.a\nb", "user./x"])
def test_free_keys_are_checked(key: str) -> None:
    message_of({key: "x"})


def test_families_take_free_keys() -> None:
    assert INSTANCE.parse({"user.role": "web", "environment.PATH": "/bin"}, "x") == {
        "user.role": "web",
        "environment.PATH": "/bin",
    }


def test_numbers_and_booleans_need_no_quotes() -> None:
    parsed = INSTANCE.parse({"limits.memory": "2048MiB", "boot.autostart": True}, "x")
    assert INSTANCE.render(parsed) == {"boot.autostart": "true", "limits.memory": "2GiB"}


def test_merge_removes_null_and_replace_drops_the_rest() -> None:
    assert merge({"a": 1, "b": 2}, {"a": None, "c": 3}, replace=False) == {"b": 2, "c": 3}
    assert merge({"a": 1, "b": 2}, {"c": 3}, replace=True) == {"c": 3}


def test_shorthand_and_key_together_are_refused() -> None:
    assert take_shorthands(INSTANCE, {"memory": "1GiB"}, {}, "x") == {"limits.memory": "1GiB"}
    with pytest.raises(InvalidRequest, match="give only one of them"):
        take_shorthands(INSTANCE, {"memory": "1GiB"}, {"limits.memory": "1GiB"}, "x")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.noun)
def test_every_row_keeps_its_promises(table: Any) -> None:
    keys = [option.key for option in table]
    assert len(keys) == len(set(keys))
    for option in table:
        assert option.doc.endswith("."), option.key
        assert (NONE in (option.container, option.vm)) == bool(option.why_not), option.key
        if option.default is not None:
            assert option.type.parse(option.type.render(option.default)) == option.default
