# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The NoCloud seed of an instance, the same texts for both types. Pure: no I/O."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256

from .model import Record

# Tells a seed of ours from one that came with the image.
WRITER_KEY, WRITER = "written-by", "tandem.machines"
_FILES = {
    "cloud-init.user-data": "user-data",
    "cloud-init.vendor-data": "vendor-data",
    "cloud-init.network-config": "network-config",
}


def render_seed(record: Record) -> Mapping[str, str]:
    """File name -> text of the seed; empty when no cloud-init option is set.

    meta-data is JSON, which is YAML, so that no value can break out of its place. The instance id follows
    the instance and its seed, as with LXD: the same seed is applied once, a changed one at the next boot.
    """
    given = {name: record.expanded_config[key] for key, name in _FILES.items() if key in record.expanded_config}
    if not given:
        return {}
    digest = sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
    metadata = {"instance-id": f"{record.uuid}-{digest[:12]}", "local-hostname": record.name, WRITER_KEY: WRITER}
    return {"meta-data": json.dumps(metadata) + "\n", "user-data": "#cloud-config\n", **given}


def stale_files(metadata: bytes | None, wanted: Mapping[str, str]) -> tuple[str, ...]:
    """Names of files of a seed of ours that are wanted no more, given the meta-data that lies in the guest.

    A seed that came with the image is not ours.
    """
    try:
        found = json.loads(metadata or b"")
    except ValueError:
        return ()
    is_ours = isinstance(found, dict) and found.get(WRITER_KEY) == WRITER
    return tuple(name for name in ("meta-data", *_FILES.values()) if name not in wanted) if is_ours else ()
