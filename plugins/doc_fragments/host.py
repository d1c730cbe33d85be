# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Options of every module that say where on the host it works. Documentation only: imports nothing."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment tandem.machines.host; HOST_ARGUMENTS in module_utils/_module/run.py is its argument spec."""

    DOCUMENTATION = r"""
options:
  root:
    description:
      - The directory on the host that holds all state, such as records, images and storage pools.
      - Objects below one root do not know those below another. Locks, sockets and processes are apart too.
    type: path
    default: /var/lib/tandem
  lock_timeout:
    description:
      - How long to wait, in seconds, for another run that is working on the same object.
    type: float
    default: 300.0
requirements:
  - A host prepared by the role P(tandem.machines.host#role)
notes:
  - The module works as root on the managed host. Give the task C(become) where you log in as somebody else.
"""
