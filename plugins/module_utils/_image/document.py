# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""An image written down as a task for it. Reads only."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from .._core.errors import EngineError
from .._core.resource import leave_out_empty
from .._host.paths import Paths
from .catalog import ImageCatalog
from .host import ImageHostOnDisk
from .model import Desired, FileSource, Image


def image_names(paths: Paths) -> list[str]:
    """Noun.names of images: the first alias of each; one that has none cannot be asked for."""
    return ImageCatalog(paths).names()


def image_options(paths: Paths, name: str) -> dict[str, Any] | None:
    """Noun.options of images, known by any alias or by fingerprint. No source if it is not to be had any more."""
    image = ImageCatalog(paths).find(name)
    if image is None or not image.aliases:
        return None
    first, *others = image.aliases
    source = image.source.render() if _has_its_source(paths, image) else None
    return leave_out_empty({"name": first, "aliases": others or None, "source": source})


def _has_its_source(paths: Paths, image: Image) -> bool:
    """Whether a task with the image's source is content with the image: not if another file is in its place."""
    if not isinstance(image.source, FileSource):
        return True
    desired = Desired(image.aliases[0], source=image.source)
    with suppress(EngineError):
        return ImageHostOnDisk(paths).find_source_fingerprint(desired, image) == image.fingerprint
    return False
