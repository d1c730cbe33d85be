#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: instance_info
short_description: Read the instances of a host
version_added: 0.1.0
description:
  - Returns all instances, or the named ones, containers and virtual machines alike, with power, process, addresses,
    disk and memory use.
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes.info
  - tandem.machines.attributes.action_group
  - tandem.machines.host
options:
  name:
    description: Only these instances; one that does not exist is not in the list.
    type: list
    elements: str
  type:
    description: Only instances of this type.
    type: str
    choices: [container, virtual-machine]
  agent_timeout:
    description: Seconds to wait for the guest agent of each running virtual machine; its addresses come from there.
    type: float
    default: 2.0
seealso:
  - module: tandem.machines.instance
"""

EXAMPLES = r"""
- name: What runs here
  tandem.machines.instance_info:
  register: found

- name: Addresses of web1
  tandem.machines.instance_info:
    name: [web1]
  register: web1
"""

RETURN = r"""
instances:
  description:
    - One entry for each instance, sorted by name. One that cannot be read, such as with a damaged record, has just its
      C(name), C(status) V(error) and the reason as C(error).
  type: list
  elements: dict
  returned: success
  sample:
    - name: web1
      type: container
      status: running
      pid: 4242
      image: debian/12
      profiles: [default]
      config: {limits.memory: 512MiB}
      devices: {}
      addresses:
        - {interface: eth0, family: inet, address: 10.20.0.57, prefix: 24, scope: global, hwaddr: "00:16:3e:5c:11:02"}
      memory: {used_bytes: 31457280, limit_bytes: 536870912}
      disk: {used_bytes: 2097152, total_bytes: null}
      processes: 12
      cpu_seconds: 1.208
      pending: []
      snapshots: []
"""

from ..module_utils._instance.info import gather_instances
from ..module_utils._module.run import run_info

ARGUMENTS = {
    "name": {"type": "list", "elements": "str"},
    "type": {"type": "str", "choices": ["container", "virtual-machine"]},
    "agent_timeout": {"type": "float", "default": 2.0},
}


def main() -> None:
    run_info(ARGUMENTS, gather_instances)


if __name__ == "__main__":
    main()
