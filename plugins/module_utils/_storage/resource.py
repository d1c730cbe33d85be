# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A storage pool as the Ansible edge sees it: the resource of one task, and what modules return."""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from .._core.kinds import Work
from .._core.names import require_name
from .._core.options import merge
from .._core.plan import Plan
from .._core.resource import NO_PROSPECTS, Noun, Prospects
from .._host.paths import Paths
from .._spec.storage import POOL_DRIVERS, STORAGE_POOL_CONFIG
from .host import Host
from .layout import layout_of, pool_names
from .model import Current, Desired, parse_desired
from .observe import observe_pool
from .plan import plan_storage_pool, plan_undo
from .record import Backing, Presence
from .steps import PoolHost


class StoragePoolResource:
    """One desired storage pool; see _core/resource.py."""

    noun = "storage_pool"
    waits = False

    def __init__(self, desired: Desired, paths: Paths) -> None:
        self.desired = desired
        self.name = desired.name
        self.paths = paths
        self.host = Host(paths)
        # Removal keeps out every instance run: one that has seen the pool may be about to make a volume in it.
        self.locks = (("host", "all", not desired.is_absent), ("pool", desired.name, False), *_source_lock(desired))
        self._prospects = NO_PROSPECTS

    def waits_in_turn(self, current: Current) -> bool:
        return False

    def expect(self, prospects: Prospects) -> None:
        self._prospects = prospects

    def foretell(self, current: Current) -> None:
        return None

    def uses(self, current: Current) -> frozenset[tuple[str, str]]:
        return frozenset()

    def identity(self, current: Current) -> str:
        return current.recorded.uuid if current.recorded is not None else ""

    def other_names(self, current: Current) -> tuple[str, ...]:
        return ()

    def prepare(self) -> None:
        return

    def observe(self) -> Current:
        current = observe_pool(self.paths, self.name, self.desired.config.get("source"), self.desired.driver)
        return replace(current, users=self._prospects.holding(self.noun, self.name, current.users))

    def is_busy(self, current: Current) -> bool:
        return current.recorded is not None and current.recorded.work is not None

    def plan(self, current: Current) -> Plan[PoolHost]:
        return plan_storage_pool(self.desired, current)

    def plan_again(self, current: Current) -> Plan[PoolHost]:
        return self.plan(current)

    def plan_undo(self, current: Current) -> Plan[PoolHost]:
        return plan_undo(current)

    def wait(self, current: Current) -> Current:
        return current

    def describe(self, current: Current) -> dict[str, Any]:
        return show_pool(self.paths, current)

    def predict(self, current: Current) -> dict[str, Any]:
        if self.desired.is_absent:
            return {}
        shown = show_pool(self.paths, current) or {"name": self.name, "used_by": [], "space": None}
        recorded = current.recorded if current.exists else None
        config = merge(recorded.config if recorded else {}, self.desired.config, self.desired.replace_config)
        description = self.desired.description
        if description is None:
            description = recorded.description if recorded else ""
        return {
            **shown,
            "driver": recorded.driver if recorded else self.desired.driver,
            "config": STORAGE_POOL_CONFIG.render(config),
            "description": description,
            "status": "Created",
            "path": str(layout_of(self.paths, self.name).volumes),
        }

    def state(self, current: Current) -> str:
        return "present" if current.exists else "absent"


def _source_lock(desired: Desired) -> tuple[tuple[str, str, bool], ...]:
    """Two pools made at once must not both find one directory or device empty. No pool's name has a dot."""
    source = desired.config.get("source")
    if source is None:
        return ()
    return (("pool", f".source-{hashlib.sha256(os.path.realpath(source).encode()).hexdigest()[:16]}", False),)


def build_storage_pool(params: Mapping[str, Any], paths: Paths) -> StoragePoolResource:
    """The resource a task describes; InvalidRequest for what can be seen from the parameters alone."""
    return StoragePoolResource(parse_desired(params, str(uuid.uuid4())), paths)


def gather_storage_pools(params: Mapping[str, Any], paths: Paths) -> dict[str, Any]:
    """All pools, or the named one; half made or half removed ones too, since somebody may look for them."""
    if params["name"] is not None:
        require_name("storage pool", params["name"])
    names = [name for name in pool_names(paths) if params["name"] in (None, name)]
    return {"storage_pools": [_show(paths, observe_pool(paths, name)) for name in names]}


def show_pool(paths: Paths, current: Current) -> dict[str, Any]:
    """A pool as modules return it; {} if there is none."""
    return _show(paths, current) if current.exists else {}


def _show(paths: Paths, current: Current) -> dict[str, Any]:
    recorded = current.recorded
    if recorded is None:
        return {}
    return {
        "name": recorded.name,
        "driver": recorded.driver,
        "description": recorded.description,
        "config": STORAGE_POOL_CONFIG.render(recorded.config),
        "status": _status(current),
        "used_by": list(current.used_by),
        "space": asdict(current.space) if current.space is not None else None,
        "path": str(layout_of(paths, recorded.name).volumes),
    }


def _status(current: Current) -> str:
    """LXD's words."""
    recorded = current.recorded
    if not (recorded is not None):
        raise AssertionError()
    if recorded.work in (Work.CREATE, Work.DELETE):
        return "Pending"
    if recorded.backing is Backing.LOOP and current.backing_bytes is None:
        return "Errored"
    return "Created" if current.presence is Presence.MOUNTED else "Unavailable"


STORAGE_POOL_NOUN = Noun(
    "storage_pool",
    "storage_pools",
    {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "driver": {"type": "str", "choices": list(POOL_DRIVERS)},
        "description": {"type": "str"},
        "config": {"type": "dict"},
        "config_mode": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
    },
    build_storage_pool,
)
