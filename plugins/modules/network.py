#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: network
short_description: Manage networks, bridges with DHCP, DNS and NAT for instances
version_added: 0.1.0
description:
  - A network is a Linux bridge of the same name. With an address it also has a DHCP and DNS server (dnsmasq), an
    nftables table of its own and, if wanted, NAT. Where systemd runs, all of it comes back after a reboot.
  - Changes apply at once, while guests stay connected. What was damaged by hand, such as a deleted bridge or flushed
    rules, is restored and reported as a change.
  - Bridges, nftables tables and processes of others are never touched. A name or a subnet that is already in use on
    the host is refused.
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes
  - tandem.machines.attributes.action_group
  - tandem.machines.host
options:
  name:
    description: Name of the network and of its bridge, 1 to 15 of a-z, 0-9, C(-) and C(_), a letter first.
    type: str
    required: true
  state:
    description: Whether the network exists. A network that an instance uses cannot be removed.
    type: str
    choices: [present, absent]
    default: present
  type:
    description:
      - V(bridge) can have an address, DHCP, DNS and NAT. V(none) is only a switch between guests, the same as a
        V(bridge) whose C(ipv4.address) is V(none).
      - Fixed at creation. A new network is a V(bridge) unless told otherwise.
    type: str
    choices: [bridge, none]
  description:
    description: Free text. Omitted means it is left alone.
    type: str
  config:
    description:
      - Options with LXD's names. Only the listed keys are managed; V(null) removes a key.
      - A new network has C(ipv4.address) V(auto) unless it is given, and with V(auto) also C(ipv4.nat) V(true).
      - C(ipv4.address) is the host's address with its prefix length, V(auto) for a free 10.x.y.1/24 that is chosen
        once, or V(none) for a bridge without address, DHCP, DNS and NAT.
      - C(ipv4.dhcp) (V(true)), C(ipv4.dhcp.ranges) (the whole subnet), C(ipv4.dhcp.expiry) (V(1h)) and
        C(ipv4.dhcp.gateway) (the bridge) say what guests get by DHCP.
      - C(ipv4.nat) (V(false)) gives guests the host's address outside, C(ipv4.routing) (V(true)) lets traffic leave
        the bridge at all.
      - C(ipv4.firewall) (V(true)) filters forwarded traffic. With NAT, only answers and forwarded ports reach guests
        from outside; link-local addresses, such as the metadata service of a cloud, are out of their reach.
      - C(dns.mode) (V(managed)) gives guests their instance's name in C(dns.domain) (V(tandem)), or with V(dynamic) the
        name they ask for, or with V(none) no name. C(dns.search) lists domains that guests search.
      - C(bridge.mtu) (V(1500)) and C(bridge.hwaddr) (chosen once) are those of the bridge.
      - C(ipv6.address) can only be V(none). C(user.*) are free.
    type: dict
  config_mode:
    description: With V(replace), O(config) is the whole truth and keys not listed are removed.
    type: str
    choices: [merge, replace]
    default: merge
seealso:
  - module: tandem.machines.network_info
  - module: tandem.machines.instance
"""

EXAMPLES = r"""
- name: A network with a subnet of its own choice and NAT exists
  tandem.machines.network:
    name: tdbr0

- name: A network with a fixed subnet, its upper half left for fixed addresses, exists
  tandem.machines.network:
    name: tdlab0
    description: Laboratory
    config:
      ipv4.address: 10.94.20.1/24
      ipv4.nat: true
      ipv4.dhcp.ranges: 10.94.20.2-10.94.20.127
      dns.domain: lab.example.org

- name: A switch between guests exists, without any address of the host
  tandem.machines.network:
    name: tdinner0
    config:
      ipv4.address: none

- name: No network tdlab0 is left
  tandem.machines.network:
    name: tdlab0
    state: absent
"""

RETURN = r"""
network:
  description: The network; empty when absent. In check mode as it would be.
  type: dict
  returned: success
  sample:
    name: tdbr0
    type: bridge
    description: ""
    config: {ipv4.address: auto, ipv4.nat: "true"}
    managed: true
    state: up
    addresses: [10.171.66.1/24]
    hwaddr: "00:16:3e:5d:a2:07"
    mtu: 1500
    used_by: [instance web1]
    leases: [{address: 10.171.66.20, hwaddr: "00:16:3e:11:22:33", hostname: web1, expires: 1795442356}]
    drift: []
    uuid: 0e3c0d3e-6f0f-4c0e-9a55-3d8a4f0a4c55
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
from ..module_utils._network.resource import NETWORK_NOUN


def main() -> None:
    run_resource(NETWORK_NOUN)


if __name__ == "__main__":
    main()
