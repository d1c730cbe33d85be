# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A storage pool written down as a task for it. Reads only."""

from __future__ import annotations

from typing import Any

from .._core.resource import leave_out_empty
from .._host.paths import Paths
from .._spec.storage import STORAGE_POOL_CONFIG
from .layout import read_record


def pool_options(paths: Paths, name: str) -> dict[str, Any] | None:
    """Noun.options of storage pools. A size or source that was not given, but chosen on this host, is not given."""
    recorded = read_record(paths, name)
    if recorded is None or recorded.work is not None:
        return None
    config = STORAGE_POOL_CONFIG.render(recorded.config)
    # It says how this pool came to be, not what it is. Applied elsewhere, it would destroy what a device holds there.
    config.pop("source.wipe", None)
    return leave_out_empty(
        {"name": name, "driver": recorded.driver, "description": recorded.description, "config": config}
    )
