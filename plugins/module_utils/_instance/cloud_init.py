# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The NoCloud seed of an instance, the same texts for both types. Pure: no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping

from .model import Record

_FILES = {
    "cloud-init.user-data": "user-data",
    "cloud-init.vendor-data": "vendor-data",
    "cloud-init.network-config": "network-config",
}


def render_seed(record: Record) -> Mapping[str, str]:
    """File name -> text of the seed; empty when no cloud-init option is set.

    meta-data is JSON, which is YAML, so that no value can break out of its place. The instance id is
    the instance's uuid: the same seed is applied once.
    """
    given = {name: record.expanded_config[key] for key, name in _FILES.items() if key in record.expanded_config}
    if not given:
        return {}
    metadata = json.dumps({"instance-id": record.uuid, "local-hostname": record.name}) + "\n"
    return {"meta-data": metadata, "user-data": "#cloud-config\n", **given}
