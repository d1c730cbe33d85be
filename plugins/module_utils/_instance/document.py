# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""An instance written down as a task for it. Reads only."""

from __future__ import annotations

from typing import Any

from .._core.resource import leave_out_empty
from .._host.paths import Paths
from .._spec.instance import INSTANCE
from .host import Host
from .model import Record
from .plan import STATES
from .record import render_devices
from .store import read_record


def instance_options(paths: Paths, name: str) -> dict[str, Any] | None:
    """Noun.options of instances. No image if that is gone."""
    record = read_record(paths, name)
    if record is None or record.work is not None:
        return None
    host = Host(paths)
    power = host.driver(record).power(host.definition(record))
    return leave_out_empty(
        {
            "name": name,
            "type": record.type.value,
            "image": _find_image_name(paths, record),
            "state": STATES[power].value,
            "description": record.description,
            "profiles": list(record.profiles),
            "config": INSTANCE.render(record.config),
            "devices": render_devices(record.devices),
        }
    )


def _find_image_name(paths: Paths, record: Record) -> str | None:
    from .._image.catalog import ImageCatalog  # for nothing else that is done with instances that exist

    return ImageCatalog(paths).find_name(record.image_name, record.image)
