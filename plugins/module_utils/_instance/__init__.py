# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

# Before anything else: a module's first import of ours is in this package, and all later ones come from the cache.
from __future__ import annotations

from .._bytecode import cache

__all__ = ["cache"]
