#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: profile_info
short_description: Read the profiles of a host
version_added: 0.1.0
description:
  - Returns all profiles, or the named one, with the instances that use each.
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes.info
  - tandem.machines.attributes.action_group
  - tandem.machines.host
options:
  name:
    description: Only this profile; the list is empty if it does not exist.
    type: str
seealso:
  - module: tandem.machines.profile
"""

EXAMPLES = r"""
- name: Which profiles are there
  tandem.machines.profile_info:
  register: found
"""

RETURN = r"""
profiles:
  description: One entry for each profile, sorted by name.
  type: list
  elements: dict
  returned: success
  sample:
    - name: small
      description: ""
      config: {limits.cpu: "1", limits.memory: 512MiB}
      devices: {}
      used_by: [instance web1]
"""

from ..module_utils._instance.profiles import gather_profiles
from ..module_utils._module.run import run_info


def main() -> None:
    run_info({"name": {"type": "str"}}, gather_profiles)


if __name__ == "__main__":
    main()
