#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: profile
short_description: Manage profiles, named sets of config and devices for instances
version_added: 0.1.0
description:
  - A profile holds config and devices that instances share. An instance lists its profiles in order; a later one wins
    over an earlier one, and the instance's own config and devices win over all of them.
  - A change reaches an instance at its next M(tandem.machines.instance) task.
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes
  - tandem.machines.attributes.action_group
  - tandem.machines.host
options:
  name:
    description: Name of the profile, 1 to 63 of a-z, 0-9 and C(-), a letter first.
    type: str
    required: true
  state:
    description: Whether the profile exists. A profile that an instance lists cannot be removed.
    type: str
    choices: [present, absent]
    default: present
  description:
    description: Free text. Omitted means it is left alone.
    type: str
  config:
    description:
      - Instance options, such as C(limits.memory), with LXD's names. Only the listed keys are managed; V(null) removes
        a key.
      - Options that mean nothing for one type of instance are ignored by instances of that type.
    type: dict
  config_mode:
    description: With V(replace), O(config) is the whole truth and keys not listed are removed.
    type: str
    choices: [merge, replace]
    default: merge
  devices:
    description: Devices by name, each a mapping with C(type) and its options. V(null) removes a device or an option.
    type: dict
  devices_mode:
    description: With V(replace), O(devices) is the whole truth and devices not listed are removed.
    type: str
    choices: [merge, replace]
    default: merge
seealso:
  - module: tandem.machines.instance
  - module: tandem.machines.profile_info
"""

EXAMPLES = r"""
- name: Profile default gives a root disk and a network interface
  tandem.machines.profile:
    name: default
    devices:
      root: {type: disk, path: /, pool: default}
      eth0: {type: nic, network: tdbr0}

- name: Profile small limits memory and CPUs
  tandem.machines.profile:
    name: small
    config:
      limits.cpu: 1
      limits.memory: 512MiB
"""

RETURN = r"""
profile:
  description: The profile; empty when absent. In check mode as it would be.
  type: dict
  returned: success
  sample: {name: small, description: "", config: {limits.cpu: "1", limits.memory: 512MiB}, devices: {}}
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

from ..module_utils._instance.profiles import PROFILE_NOUN
from ..module_utils._module.run import run_resource


def main() -> None:
    run_resource(PROFILE_NOUN)


if __name__ == "__main__":
    main()
