# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""How many and how much: numbers that ours and its peers must have in common to be compared."""

from __future__ import annotations

# Containers that are launched, checked and removed at once.
MANY = 20
# Containers that run while one task checks them all.
HUNDRED = 100
# Defined instances while they are listed; LXD, which takes a second for each, makes only the first of them.
DEFINED = (10, 100, 1000)
DEFINED_WITH_LXD = (10, 100)
# Defined instances while a task is about another one.
CROWD = 500
# A file that is sent into a container and fetched from it.
TRANSFER_BYTES = 256 * 1024 * 1024
