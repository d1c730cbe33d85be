# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Images as the Ansible edge sees them: built from module parameters, converged, shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .._core.errors import InvalidRequest, NotSupported
from .._core.names import is_fingerprint, require_alias
from .._core.plan import Plan
from .._core.resource import NO_PROSPECTS, Noun, Prospects
from .._host.paths import Paths
from .architecture import find_architecture
from .document import image_names, image_options
from .host import ImageHostOnDisk
from .model import Current, Desired, State, describe_image, parse_source
from .plan import plan_image
from .steps import ImageHost

Params = Mapping[str, Any]


class ImageResource:
    """One desired image (see _core/resource.py)."""

    noun = "image"
    waits = False

    def __init__(self, desired: Desired, paths: Paths) -> None:
        self.name = desired.name
        self.desired = desired
        self.host = ImageHostOnDisk(paths)
        self._prospects = NO_PROSPECTS

    @property
    def locks(self) -> tuple[tuple[str, str, bool], ...]:
        """Removal takes the host for itself: creating instances hold it shared while they build on an image."""
        own = ("image", self.name, False)
        return (("host", "all", False), own) if self.desired.state is State.ABSENT else (own,)

    def waits_in_turn(self, current: Current) -> bool:
        return False

    def expect(self, prospects: Prospects) -> None:
        self._prospects = prospects

    def foretell(self, current: Current) -> None:
        return None

    def identity(self, current: Current) -> str:
        return ""  # an image made anew under its name is still the one that was asked for

    def prepare(self) -> None:
        return

    def observe(self) -> Current:
        current = self.host.observe(self.desired)
        return replace(current, users=self._prospects.holding(current.users))

    def is_busy(self, current: Current) -> bool:
        return current.is_under_work

    def plan(self, current: Current) -> Plan[ImageHost]:
        return plan_image(self.desired, current)

    def plan_again(self, current: Current) -> Plan[ImageHost]:
        return plan_image(self.desired, current)

    def plan_undo(self, current: Current) -> Plan[ImageHost]:
        """Nothing: a creation that fails removes its own work directory."""
        return Plan()

    def wait(self, current: Current) -> Current:
        return current

    def describe(self, current: Current) -> dict[str, Any]:
        return {} if current.image is None else {"name": self.name, **describe_image(current.image)}

    def predict(self, current: Current) -> dict[str, Any]:
        """Fingerprint, size and files of an image are not known before it is made."""
        plan = self.plan(current)
        if self.desired.state is State.ABSENT:
            return {}
        shown = self.describe(current)
        for change in plan.changes:
            if change.path.startswith("image/"):
                shown[change.path.partition("/")[2]] = change.after
        return {"name": self.name, **shown}

    def state(self, current: Current) -> str:
        return "absent" if current.image is None else "present"


def build_image(params: Params, paths: Paths) -> ImageResource:
    """The image that module parameters ask for; InvalidRequest names what is wrong with them."""
    name = params["name"]
    state = State(params["state"])
    where = f"image {name}"
    if not (state is State.ABSENT and is_fingerprint(name)):
        require_alias(name)
    source = params["source"]
    aliases = params["aliases"]
    desired = Desired(
        name=name,
        state=state,
        source=None if source is None else parse_source(source, where, _host_architecture(where)),
        aliases=None if aliases is None else tuple(require_alias(alias) for alias in aliases),
        recreate=params["recreate"] or "never",
    )
    if is_fingerprint(name) and state is State.PRESENT:
        raise InvalidRequest(f"{where}: a fingerprint cannot be chosen: give the image a name such as debian/12")
    return ImageResource(desired, paths)


def _host_architecture(where: str) -> str:
    machine = os.uname().machine
    architecture = find_architecture(machine)
    if architecture is None:
        raise NotSupported(f"{where}: hosts of architecture {machine} are not supported: amd64 and arm64 are")
    return architecture


IMAGE_NOUN = Noun(
    "image",
    "images",
    {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "source": {"type": "dict"},
        "aliases": {"type": "list", "elements": "str"},
        "recreate": {"type": "str", "choices": ["never", "on-change"]},
    },
    build_image,
    table=None,
    names=image_names,
    options=image_options,
)
