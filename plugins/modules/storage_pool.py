#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: storage_pool
short_description: Manage storage pools, the places for images, root disks and volumes
version_added: 0.1.0
description:
  - A storage pool holds the unpacked images, the root disks of instances and the custom volumes of a host. Pools of
    driver V(btrfs) clone containers from their image at once and can limit their size; those of driver V(dir) copy.
  - A pool that is not mounted is mounted. Where systemd runs it is mounted at boot, before the instances in it start.
  - Only what this module made is ever written to or removed. A device or directory that already holds something is
    refused.
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes
  - tandem.machines.attributes.action_group
  - tandem.machines.host
options:
  name:
    description: Name of the pool, 1 to 63 of a-z, 0-9 and C(-), a letter first.
    type: str
    required: true
  state:
    description:
      - Whether the pool exists. A pool with instances or custom volumes cannot be removed; cached images go with it.
      - With the pool, a loop file is deleted, the signature of our file system is wiped from a block device, and a
        directory given as C(source) is left empty.
    type: str
    choices: [present, absent]
    default: present
  driver:
    description: V(btrfs) or V(dir). Needed for creation and fixed then.
    type: str
    choices: [btrfs, dir]
  description:
    description: Free text. Omitted means it is left alone.
    type: str
  config:
    description:
      - Options with LXD's names. Only the listed keys are managed; V(null) removes a key.
      - C(source) says where the pool lies and is fixed at creation. For driver V(btrfs) it is an empty block device, or
        an empty directory or a path yet to be made on a mounted btrfs; without it the pool is a loop file in O(root).
        For driver V(dir) it is an empty directory; without it the pool is a directory in O(root).
      - C(source.wipe) V(true) wipes a block device that holds something before it is formatted. Fixed at creation.
      - C(size) is that of the loop file, at creation a fifth of the free space, at least 5GiB and at most 30GiB, unless
        given. It can grow while the pool is in use, but not shrink.
      - C(btrfs.mount_options) (V(user_subvol_rm_allowed)) are applied at once. An option taken away is taken back at
        the next boot.
      - C(user.*) are free.
    type: dict
  config_mode:
    description: With V(replace), O(config) is the whole truth and keys not listed are removed.
    type: str
    choices: [merge, replace]
    default: merge
notes:
  - On Linux 6.7 and later, limits on the size of containers and volumes count what they have written themselves, on
    older kernels also what they share with their image. In a directory of somebody else's btrfs there are limits only
    if quotas are enabled there.
seealso:
  - module: tandem.machines.storage_pool_info
  - module: tandem.machines.instance
"""

EXAMPLES = r"""
- name: The default pool exists, on a loop file that takes a fifth of the free space
  tandem.machines.storage_pool:
    name: default
    driver: btrfs

- name: A pool of 40 GiB exists; a larger size in a later task makes it grow
  tandem.machines.storage_pool:
    name: build
    driver: btrfs
    description: For the build farm
    config:
      size: 40GiB
      btrfs.mount_options: user_subvol_rm_allowed,noatime,compress=zstd

- name: A whole disk is a pool
  tandem.machines.storage_pool:
    name: fast
    driver: btrfs
    config:
      source: /dev/disk/by-id/nvme-example_1234

- name: A pool without a file system of its own exists
  tandem.machines.storage_pool:
    name: plain
    driver: dir

- name: No pool build is left
  tandem.machines.storage_pool:
    name: build
    state: absent
"""

RETURN = r"""
storage_pool:
  description: The pool; empty when absent. In check mode as it would be.
  type: dict
  returned: success
  sample:
    name: build
    driver: btrfs
    description: For the build farm
    config: {size: 40GiB}
    status: Created
    used_by: [instance web1, volume data1]
    space: {total_bytes: 42949672960, used_bytes: 1288490188}
    path: /var/lib/tandem/storage/build/volumes
actions:
  description: The steps in words; in check mode those that would be taken.
  type: list
  elements: str
  returned: success
previous_state:
  description: V(present) or V(absent), as it was before.
  type: str
  returned: success
pending:
  description: Always empty for this module.
  type: list
  elements: str
  returned: success
restart_required:
  description: Always V(false) for this module.
  type: bool
  returned: success
"""

from ..module_utils._module.run import run_resource
from ..module_utils._storage.resource import STORAGE_POOL_NOUN


def main() -> None:
    run_resource(STORAGE_POOL_NOUN)


if __name__ == "__main__":
    main()
