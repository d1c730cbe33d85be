# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Attributes every module of the collection declares. Documentation only: imports nothing."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragments tandem.machines.attributes, .info and .action_group; a module may override single attributes."""

    # For modules that manage an object.
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Predicts what it would do, through the same code, and changes nothing.
    support: full
  diff_mode:
    description: Returns what differs, and only that, before and after.
    support: full
  idempotent:
    description: The same task again, with nothing else happening in between, changes nothing.
    support: full
  platform:
    description: Where the managed host must run.
    support: full
    platforms: linux
"""

    # For modules that only read.
    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Reads the same in check mode.
    support: full
  diff_mode:
    description: Changes nothing, so there is no difference to show.
    support: N/A
  idempotent:
    description: Reads only.
    support: full
  platform:
    description: Where the managed host must run.
    support: full
    platforms: linux
"""

    # For every module.
    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: >-
      Use C(group/tandem.machines.all) or C(group/tandem.machines.tandem) in C(module_defaults) to set options of
      all modules of this collection at once.
    support: full
    membership:
      - tandem.machines.all
      - tandem.machines.tandem
"""
