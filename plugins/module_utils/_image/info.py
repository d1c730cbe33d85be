# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What image_info returns. Apart from resource.py, which carries everything that makes images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._host.paths import Paths
from .catalog import ImageCatalog
from .model import describe_image


def gather_images(params: Mapping[str, Any], paths: Paths) -> dict[str, Any]:
    """All images that have a name, or the one that the option name means."""
    catalog = ImageCatalog(paths)
    if params["name"] is None:
        return {"images": [describe_image(image) for image in catalog.all()]}
    image = catalog.find(params["name"])
    return {"images": [] if image is None else [describe_image(image)]}
