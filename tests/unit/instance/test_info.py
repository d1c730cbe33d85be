# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""instance_info on a host where records are damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._instance.info import gather_instances

OPTIONS = {"name": None, "type": None, "agent_timeout": 1.0}
NEWER = json.dumps({"schema": 99, "kind": "instance", "name": "web2"})


@pytest.mark.parametrize("text", ["", "{", "[]", NEWER, json.dumps({"schema": 1, "name": "web2"})])
def test_one_damaged_record_does_not_hide_the_others(tmp_path: Path, text: str) -> None:
    for name, content in (("web1", NEWER), ("web2", text)):
        (tmp_path / "instances" / name).mkdir(parents=True)
        (tmp_path / "instances" / name / "instance.json").write_text(content)
    shown = gather_instances(OPTIONS, Paths(tmp_path))["instances"]
    assert [(entry["name"], entry["status"]) for entry in shown] == [("web1", "error"), ("web2", "error")]
    assert all(entry["error"] and "\n" not in entry["error"] for entry in shown)
