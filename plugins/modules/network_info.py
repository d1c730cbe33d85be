#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: network_info
short_description: Read the networks of a host
version_added: 0.1.0
description:
  - Returns all networks, or the named one, with their addresses, leases and the instances that use them.
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes.info
  - tandem.machines.attributes.action_group
  - tandem.machines.host
options:
  name:
    description: Only this network; the list is empty if it does not exist.
    type: str
  unmanaged:
    description: Whether to list the host's other bridges too, which instances can join by C(nictype) C(bridged).
    type: bool
    default: false
seealso:
  - module: tandem.machines.network
"""

EXAMPLES = r"""
- name: Which networks are there
  tandem.machines.network_info:
  register: found

- name: Nothing was changed by hand
  ansible.builtin.assert:
    that: found.networks | map(attribute='drift') | select | length == 0
"""

RETURN = r"""
networks:
  description: One entry for each network, sorted by name. Bridges of others lack some of the keys.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the network and of its bridge.
      type: str
      returned: always
    type:
      description: V(bridge) or V(none).
      type: str
      returned: always
    managed:
      description: Whether this collection made it.
      type: bool
      returned: always
    state:
      description: V(up), or V(down) if the bridge is missing or switched off.
      type: str
      returned: always
    addresses:
      description: IPv4 addresses of the host on the bridge, with prefix length.
      type: list
      elements: str
      returned: always
    hwaddr:
      description: MAC address of the bridge.
      type: str
      returned: always
    mtu:
      description: MTU of the bridge.
      type: int
      returned: always
    used_by:
      description: What uses it, such as C(instance web1).
      type: list
      elements: str
      returned: always
    config:
      description: The options that are set, as strings.
      type: dict
      returned: for managed networks
    description:
      description: Free text.
      type: str
      returned: for managed networks
    leases:
      description: DHCP leases with C(address), C(hwaddr), C(hostname) and C(expires), a Unix time or 0 for never.
      type: list
      elements: dict
      returned: for managed networks
    drift:
      description: Where the host differs from the definition; the next M(tandem.machines.network) task mends it.
      type: list
      elements: str
      returned: for managed networks
    uuid:
      description: Identity of the network; its bridge carries it as alias.
      type: str
      returned: for managed networks
"""

from ..module_utils._module.run import run_info
from ..module_utils._network.resource import gather_networks


def main() -> None:
    run_info({"name": {"type": "str"}, "unmanaged": {"type": "bool", "default": False}}, gather_networks)


if __name__ == "__main__":
    main()
