#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: storage_pool_info
short_description: Read the storage pools of a host
version_added: 0.1.0
description:
  - Returns all storage pools, or the named one, with their space and what uses them. Mounts nothing.
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes.info
  - tandem.machines.attributes.action_group
  - tandem.machines.host
options:
  name:
    description: Only this pool; the list is empty if it does not exist.
    type: str
seealso:
  - module: tandem.machines.storage_pool
"""

EXAMPLES = r"""
- name: Which storage pools are there
  tandem.machines.storage_pool_info:
  register: found

- name: No pool is nearly full
  ansible.builtin.assert:
    that: item.space.used_bytes < 0.9 * item.space.total_bytes
    fail_msg: Pool {{ item.name }} is nearly full
  loop: "{{ found.storage_pools | selectattr('space') }}"
  loop_control:
    label: "{{ item.name }}"
"""

RETURN = r"""
storage_pools:
  description: One entry for each pool, sorted by name.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the pool.
      type: str
      returned: always
    driver:
      description: V(btrfs) or V(dir).
      type: str
      returned: always
    description:
      description: Free text.
      type: str
      returned: always
    config:
      description: The options that are set, as strings.
      type: dict
      returned: always
    status:
      description:
        - V(Created), V(Unavailable) while it is not mounted, V(Pending) if its creation or removal was interrupted, or
          V(Errored) if its loop file is gone.
      type: str
      returned: always
    used_by:
      description: What refers to it, such as C(instance web1), C(volume data1), C(profile default) or C(image 1a2b...).
      type: list
      elements: str
      returned: always
    space:
      description: C(total_bytes) and C(used_bytes) of its file system; null while it is not mounted.
      type: dict
      returned: always
    path:
      description: The directory that its volumes lie in.
      type: str
      returned: always
"""

from ..module_utils._module.run import run_info
from ..module_utils._storage.resource import gather_storage_pools


def main() -> None:
    run_info({"name": {"type": "str"}}, gather_storage_pools)


if __name__ == "__main__":
    main()
