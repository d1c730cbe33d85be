# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Property tests without a time limit for each example: how busy the machine is says nothing about the code."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("tandem", deadline=None)
settings.load_profile("tandem")
