# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What to do about an image. Pure: no I/O."""

from __future__ import annotations

from typing import Any

from .._core.errors import Conflict, InvalidRequest
from .._core.plan import Change, Plan, Step, compare
from .model import BuildSource, Current, Desired, Image, Source, State
from .steps import CreateImage, ImageHost, RemoveImage, RemoveLeftovers, SetAliases

ImagePlan = Plan[ImageHost]


def plan_image(desired: Desired, current: Current) -> ImagePlan:
    """InvalidRequest for an image to be made from nothing, Conflict for another source than it was made from."""
    # Cleaning up is a step but no change: the image is the same before and after.
    has_leftovers = current.is_under_work or current.has_leftovers
    leftovers: tuple[Step[ImageHost], ...] = (RemoveLeftovers(desired.name),) if has_leftovers else ()
    if desired.state is State.ABSENT:
        return _plan_removal(desired, current, leftovers)
    if current.image is None:
        return _plan_creation(desired, current, leftovers)
    if _is_made_from(desired.source, current):
        return _plan_update(desired, current.image, leftovers)
    if desired.recreate == "on-change":
        return _plan_creation(desired, current, leftovers)
    raise Conflict(
        f"image {desired.name} was made from another source ({_differences(desired.source, current.image)}):"
        " choose another name, remove it first, or set recreate to on-change"
    )


def foretell_image(desired: Desired, current: Current) -> tuple[tuple[str, ...], str | None]:
    """All names that the image will have, and its fingerprint, None if that is not known before it is made."""
    image = current.image
    if image is None:
        return desired.names, current.source_fingerprint
    names = image.aliases if desired.aliases is None else desired.names
    return names, image.fingerprint if _is_made_from(desired.source, current) else current.source_fingerprint


def _plan_removal(desired: Desired, current: Current, leftovers: tuple[Step[ImageHost], ...]) -> ImagePlan:
    if current.image is None:
        return Plan((), leftovers)
    removal = (Change("state", "present", "absent"), *compare("image", _rendered(current.image), {}))
    warnings: tuple[str, ...] = ()
    if current.users:
        warnings = (
            f"image {desired.name} loses its names but stays on disk, hidden, since the disks of"
            f" {', '.join(current.users)} stand on it",
        )
    return Plan(removal, (*leftovers, RemoveImage(desired.name)), warnings=warnings)


def _plan_creation(desired: Desired, current: Current, leftovers: tuple[Step[ImageHost], ...]) -> ImagePlan:
    old = current.image
    if desired.source is None:
        raise InvalidRequest(f"image {desired.name} does not exist: give a source to make it from")
    names = desired.names if desired.aliases is not None or old is None else old.aliases
    after = {"source": desired.source.render(), "aliases": list(names)}
    if current.source_fingerprint is not None:
        # That of a build is not known before it is made.
        after["fingerprint"] = current.source_fingerprint
    steps: list[Step[ImageHost]] = [*leftovers, CreateImage(desired.name, desired.source)]
    if len(names) > 1:
        steps.append(SetAliases(desired.name, tuple(names)))
    state = (Change("state", "absent", "present"),) if old is None else ()
    before = {} if old is None else {key: value for key, value in _rendered(old).items() if key in after}
    return Plan((*state, *compare("image", before, after)), tuple(steps))


def _plan_update(desired: Desired, image: Image, leftovers: tuple[Step[ImageHost], ...]) -> ImagePlan:
    if desired.aliases is None or desired.names == image.aliases:
        return Plan((), leftovers)
    change = Change("image/aliases", list(image.aliases), list(desired.names))
    return Plan((change,), (*leftovers, SetAliases(desired.name, desired.names)))


def _is_made_from(wanted: Source | None, current: Current) -> bool:
    """Options left out of a build source were decided when the image was built, and stay so."""
    if not (current.image is not None):
        raise AssertionError()
    made = current.image.source
    if wanted is None:
        return True
    if isinstance(wanted, BuildSource):
        return isinstance(made, BuildSource) and wanted == made
    return current.source_fingerprint == current.image.fingerprint


def _differences(wanted: Source | None, image: Image) -> str:
    before = image.source.render()
    after = {} if wanted is None else wanted.render()
    if before["type"] != after.get("type"):
        return f"type: {before['type']} -> {after.get('type')}"
    changes = compare("", before, after)
    named = ", ".join(f"{change.path[1:]}: {change.before} -> {change.after}" for change in changes)
    return named or "the file's content has changed"


def _rendered(image: Image) -> dict[str, Any]:
    return {"fingerprint": image.fingerprint, "source": image.source.render(), "aliases": list(image.aliases)}
