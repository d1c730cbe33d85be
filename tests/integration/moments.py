# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""At how many moments something is killed: a few by default, as many as $TANDEM_MOMENTS says when there is time.

Tests that ask have the marker moments; `make torture` runs them with many.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

Moment = TypeVar("Moment")


def how_many(few: int) -> int:
    return int(os.environ.get("TANDEM_MOMENTS", few))


def fractions(few: int) -> list[float]:
    """Parts of the time that something takes, evenly spread between its beginning and its end."""
    count = how_many(few)
    return [number / (count + 1) for number in range(1, count + 1)]


def thinned(moments: Sequence[Moment], few: int) -> Sequence[Moment]:
    """About that many of all moments, evenly spread."""
    return moments[:: max(-(-len(moments) // how_many(few)), 1)]
