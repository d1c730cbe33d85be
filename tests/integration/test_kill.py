# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Killed at many moments: the same task again converges, once more changes nothing, and absent leaves nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.tests.integration.guests import TYPES
from ansible_collections.tandem.machines.tests.integration.leaks import compare, observe
from ansible_collections.tandem.machines.tests.integration.module_process import ModuleProcess
from ansible_collections.tandem.machines.tests.integration.moments import fractions
from ansible_collections.tandem.machines.tests.integration.runner import Ansible

NAME = "test-killed"
ABSENT = {"name": NAME, "state": "absent", "force_stop": True}
OPERATIONS = ("create", "change", "recreate", "remove")


def created(kind: str) -> Mapping[str, Any]:
    return {"name": NAME, "type": kind, "image": "debian/12", "memory": "512MiB", "devices": {"root": {"size": "3GiB"}}}


def changed(kind: str) -> Mapping[str, Any]:
    """Every kind of effect at once; a virtual machine is restarted too, without waiting for its guest."""
    power = {} if kind == "container" else {"when_restart_needed": "restart", "stop_timeout": 0.1, "force_stop": True}
    devices = {"root": {"size": "4GiB"}}
    return {"name": NAME, "memory": "640MiB", "config": {"user.a": "b"}, "devices": devices, **power}


def recreated() -> Mapping[str, Any]:
    """Names nothing of the definition, which therefore must outlive the old guest."""
    power = {"state": "started", "stop_timeout": 0.1, "force_stop": True}
    return {"name": NAME, "recreate": "always", **power}


@pytest.mark.moments
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", TYPES)
def test_killed_at_any_moment(ansible: Ansible, debian_image: str, kind: str, operation: str, tmp_path: Path) -> None:
    module = ModuleProcess("instance", ansible.root, tmp_path)
    module.finish(created(kind))  # what is made once for an image (its volume, its disk) is there from now on
    module.finish(ABSENT)
    nothing = observe()
    task = {"create": created(kind), "change": changed(kind), "recreate": recreated(), "remove": ABSENT}[operation]
    # To make it anew each time is what the task asks for; the rest of it must have been done.
    again = {**task, "recreate": "never"} if operation == "recreate" else task
    seconds = _measure(module, kind, operation, task)
    hits = 0
    moments = fractions(4 if operation == "create" else 3)
    for moment in moments:
        if operation != "create":
            module.finish(created(kind))
        hits += module.kill_after(task, seconds * moment)
        shown = module.finish(task).result["instance"]
        assert shown.get("status", "absent") in ("running", "absent")
        assert operation != "recreate" or shown["config"] == {"limits.memory": "512MiB"}
        assert not module.finish(again).result["changed"]
        module.finish(ABSENT)
        leaks = compare(nothing, observe())
        assert not leaks, f"after being killed at {moment:.0%}: " + "\n".join(map(str, leaks))
    assert hits >= len(moments) // 2, "the module had mostly ended before it was killed"


def _measure(module: ModuleProcess, kind: str, operation: str, task: Mapping[str, Any]) -> float:
    if operation != "create":
        module.finish(created(kind))
    seconds = module.finish(task).seconds
    module.finish(ABSENT)
    return seconds
