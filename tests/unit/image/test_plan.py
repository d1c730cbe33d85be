# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Plans of images: every case is a file in cases/."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
import yaml
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import EngineError
from ansible_collections.tandem.machines.plugins.module_utils._image.model import (
    Current,
    Desired,
    Image,
    State,
    parse_source,
)
from ansible_collections.tandem.machines.plugins.module_utils._image.plan import plan_image

CASES = sorted((pathlib.Path(__file__).parent / "cases").glob("*.yml"))
BUILD = {"type": "build", "distribution": "debian", "release": "bookworm"}
FINGERPRINT = "ab" * 32


def source_of(given: Any) -> Any:
    if given is None:
        return None
    return parse_source(BUILD if given == "bookworm" else given, "image debian/12", "amd64")


def desired_of(given: dict[str, Any]) -> Desired:
    aliases = given.get("aliases")
    return Desired(
        name="debian/12",
        state=State(given.get("state", "present")),
        source=source_of(given.get("source")),
        aliases=None if aliases is None else tuple(aliases),
        recreate=given.get("recreate", "never"),
    )


def current_of(given: dict[str, Any]) -> Current:
    image = given.get("image")
    return Current(
        image=None if image is None else image_of(image),
        source_fingerprint=given.get("source_fingerprint"),
        is_under_work=given.get("is_under_work", False),
        has_leftovers=given.get("has_leftovers", False),
        users=tuple(given.get("users", ())),
    )


def image_of(given: dict[str, Any]) -> Image:
    return Image(
        fingerprint=FINGERPRINT,
        os="Debian",
        release="bookworm",
        architecture="amd64",
        created="2026-01-02T03:04:05Z",
        source=source_of(given.get("source", "bookworm")),
        has_root=True,
        has_disk=False,
        has_kernel=True,
        aliases=tuple(given.get("aliases", ["debian/12"])),
    )


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_plan(path: pathlib.Path) -> None:
    case = yaml.safe_load(path.read_text())
    desired, current = desired_of(case["desired"]), current_of(case["current"])
    if "error" in case:
        with pytest.raises(EngineError, match=case["error"]) as error:
            plan_image(desired, current)
        assert "\n" not in str(error.value)
        return
    plan = plan_image(desired, current)
    assert [change.path for change in plan.changes] == case["changes"]
    assert [type(step).__name__ for step in plan.steps] == case["steps"]
    assert len(plan.warnings) == len(case.get("warnings", ()))
    for warning, expected in zip(plan.warnings, case.get("warnings", ())):
        assert expected in warning
    assert all(plan.actions)
