# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The scheduling priority of work on many objects: guests that have just been started boot with all CPUs of the host,
and whoever starts the next ones would have to wait for them. Programs that we execute never inherit it."""

from __future__ import annotations

import os

# setpriority(2): -20 to 19, lower is more; each step is a quarter more of the CPU than the next one's.
_STEPS = 15
_HIGHEST = -20
_as_found = os.getpriority(os.PRIO_PROCESS, 0)
_is_raised = False


def raise_priority() -> None:
    """For this process and those it forks; nothing happens where that is not allowed."""
    global _is_raised
    try:
        os.setpriority(os.PRIO_PROCESS, 0, max(_as_found - _STEPS, _HIGHEST))
    except OSError:
        return
    _is_raised = True


def restore_priority() -> None:
    """Before a program is executed."""
    if _is_raised:
        os.setpriority(os.PRIO_PROCESS, 0, _as_found)
