# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A network written down as a task for it. Reads only."""

from __future__ import annotations

from typing import Any

from .._core.resource import leave_out_empty
from .._host.paths import Paths
from .._spec.network import NETWORK_CONFIG
from .record import find_record


def network_options(paths: Paths, name: str) -> dict[str, Any] | None:
    """Noun.options of networks. An address that was chosen on this host stays auto."""
    recorded = find_record(paths, name)
    if recorded is None or recorded.intent.work is not None:
        return None
    intent = recorded.intent
    config = NETWORK_CONFIG.render(intent.config)
    return leave_out_empty({"name": name, "type": intent.type, "description": intent.description, "config": config})
