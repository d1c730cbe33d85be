# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Integration tests get the fixtures of fixtures.py and guests.py."""

from __future__ import annotations

from ansible_collections.tandem.machines.tests.integration.fixtures import (
    ansible,
    debian_image,
    nothing_leaks,
    prepared_host,
)
from ansible_collections.tandem.machines.tests.integration.guests import guests

__all__ = ["ansible", "debian_image", "guests", "nothing_leaks", "prepared_host"]
