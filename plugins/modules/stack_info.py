#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: stack_info
short_description: Read a host, or some instances, as the document of a stack
version_added: 0.1.0
description:
  - Returns storage pools, networks, images, profiles and instances as M(tandem.machines.stack) takes them, each with
    the options of its own module.
  - Applied to the same host, the document changes nothing, the power of instances included. So what was made by hand,
    or by many tasks, becomes one file to go on with.
  - Applied to another host, it makes objects of the same kind; what is in them does not come along.
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes.info
  - tandem.machines.attributes.action_group
  - tandem.machines.host
options:
  instances:
    description:
      - Only these instances, with the profiles, images, networks and storage pools that they and their profiles need.
        Everything on the host when not given.
      - One that does not exist fails the task.
    type: list
    elements: str
notes:
  - Options that were never given are not in the document. What was chosen for them on this host, such as the size of
    a storage pool, the address of a network with C(ipv4.address) V(auto) or the MAC address of an interface, is chosen
    again on another host.
  - Options of a profile or an instance that may hold secrets (C(cloud-init.user-data), C(cloud-init.vendor-data)) are
    left out, with a warning. Where the object exists it keeps them.
  - C(source.wipe) of a storage pool is left out, since it would destroy what a device of another host holds.
  - An object that cannot be described is left out, with a warning that says why, such as a damaged record or work on
    it that was interrupted.
  - What differs from its own definition is put right by the document as by any task, such as a bridge that is down,
    or an instance that was not applied again after its profile was changed.
seealso:
  - module: tandem.machines.stack
  - module: tandem.machines.instance_info
"""

EXAMPLES = r"""
- name: Everything on the host is known
  tandem.machines.stack_info:
  register: found

- name: It is written down beside the playbook, for the next run of module stack
  ansible.builtin.copy:
    content: "{{ found.stack | to_nice_yaml(sort_keys=false) }}"
    dest: "{{ playbook_dir }}/files/{{ inventory_hostname }}.yml"
    mode: "0644"
  delegate_to: localhost
  become: false

- name: Two instances are known, with all that they need
  tandem.machines.stack_info:
    instances: [web1, db1]
  register: shop

- name: The profiles, networks and pools of the two exist on another host, too
  tandem.machines.stack:
    storage_pools: "{{ shop.stack.storage_pools }}"
    networks: "{{ shop.stack.networks }}"
    profiles: "{{ shop.stack.profiles }}"
  delegate_to: host2
"""

RETURN = r"""
stack:
  description:
    - The document. All lists are there, empty ones too, each sorted by name.
    - Values of C(config) and C(devices) are strings.
  type: dict
  returned: success
  contains:
    storage_pools:
      description: Options of M(tandem.machines.storage_pool) for each.
      type: list
      elements: dict
    networks:
      description: Options of M(tandem.machines.network) for each.
      type: list
      elements: dict
    images:
      description:
        - Options of M(tandem.machines.image) for each that has a name.
        - There is no C(source) if the file that an image was made from has changed.
      type: list
      elements: dict
    profiles:
      description: Options of M(tandem.machines.profile) for each.
      type: list
      elements: dict
    instances:
      description:
        - Options of M(tandem.machines.instance) for each.
        - The image is named as when the instance was created, as long as there is one of that name. Else it is named
          as it is now, by its fingerprint if it has no name any more, and left out if it is gone.
      type: list
      elements: dict
  sample:
    storage_pools:
      - name: default
        driver: btrfs
        config: {size: 20GiB}
    networks:
      - name: tdbr0
        type: bridge
        config: {ipv4.address: 10.20.0.1/24, ipv4.nat: "true"}
    images:
      - name: debian/12
        source: {type: build, distribution: debian, release: bookworm, architecture: amd64}
    profiles:
      - name: default
        devices:
          eth0: {type: nic, network: tdbr0}
          root: {type: disk, path: /, pool: default}
    instances:
      - name: web1
        type: container
        image: debian/12
        state: started
        profiles: [default]
        config: {limits.memory: 512MiB}
"""

from ..module_utils._module.run import run_info
from ..module_utils._stack.info import gather_stack


def main() -> None:
    run_info({"instances": {"type": "list", "elements": "str"}}, gather_stack)


if __name__ == "__main__":
    main()
