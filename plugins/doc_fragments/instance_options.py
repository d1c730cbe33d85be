# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Shorthands of instance options, made from the option table by make generate. Documentation only."""

from __future__ import annotations


class ModuleDocFragment:
    """Fragment tandem.machines.instance_options."""

    DOCUMENTATION = r"""
options:
  autostart:
    description:
    - Start the instance when the host boots; when unset, an instance that ran before runs again.
    - Short for C(boot.autostart) in O(config); give only one of them.
    type: raw
  cpu:
    description:
    - Number of CPUs, or the set of host CPUs the instance is pinned to.
    - Short for C(limits.cpu) in O(config); give only one of them.
    type: raw
  memory:
    description:
    - Memory the instance may use, as a size or a percentage of the host's.
    - Short for C(limits.memory) in O(config); give only one of them.
    type: raw
  nesting:
    description:
    - Allow containers inside the container.
    - Short for C(security.nesting) in O(config); give only one of them.
    type: raw
  privileged:
    description:
    - 'Run the container without an id map: its root is the host''s root.'
    - Short for C(security.privileged) in O(config); give only one of them.
    type: raw
"""
