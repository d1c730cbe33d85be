# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The records of networks on disk."""

from __future__ import annotations

from .._host.files import read_json
from .._host.paths import Paths
from .model import Recorded, parse_record

RECORD = "network.json"


def network_names(paths: Paths) -> list[str]:
    """The networks that have a record, finished or not, by name."""
    try:
        return sorted(entry.name for entry in paths.networks.iterdir() if (entry / RECORD).is_file())
    except FileNotFoundError:
        return []


def find_record(paths: Paths, name: str) -> Recorded | None:
    record = read_json(paths.network(name) / RECORD)
    return None if record is None else parse_record(name, record)
