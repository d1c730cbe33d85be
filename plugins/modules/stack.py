#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: stack
short_description: Manage storage pools, networks, images, profiles and instances, many at once
version_added: 0.1.0
description:
  - Brings all listed objects to their desired state in one task. Objects are handled in order of dependency, those
    that do not depend on each other side by side, so that twenty instances take little longer than one.
  - Each item takes exactly the options of its own module. What is wrong in any of them is found before anything is
    done for one.
  - An object that fails keeps no other from being handled. The task fails in the end and says which and why; the same
    task again takes up what is left.
  - In check mode, the plan for all objects is printed, those included that stand on others which are yet to be made.
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes
  - tandem.machines.attributes.action_group
  - tandem.machines.host
options:
  storage_pools:
    description: Storage pools, each with options of M(tandem.machines.storage_pool).
    type: list
    elements: dict
  networks:
    description: Networks, each with options of M(tandem.machines.network).
    type: list
    elements: dict
  images:
    description: Images, each with options of M(tandem.machines.image).
    type: list
    elements: dict
  profiles:
    description: Profiles, each with options of M(tandem.machines.profile).
    type: list
    elements: dict
  instances:
    description: Instances, each with options of M(tandem.machines.instance).
    type: list
    elements: dict
  src:
    description:
      - A YAML or JSON file, on the machine where Ansible runs, with any of the lists above. It is searched for as
        other files of a playbook or role are, and may be encrypted by Ansible Vault.
      - A list can be given in the file or in the task, but not in both.
    type: path
  name:
    description:
      - A name for this stack, 1 to 63 of a-z, 0-9 and C(-), a letter first. The host remembers what belongs to it.
      - Needed for O(prune). Several stacks may live on one host.
    type: str
  prune:
    description:
      - Kinds of objects of which nothing is to be left that this stack once listed and lists no longer.
      - An object that is protected (C(security.protection.delete)) or in use is not removed, and the task fails. One
        that another stack lists too, or that somebody made anew under the same name, is left alone with a warning.
    type: list
    elements: str
    choices: [storage_pools, networks, images, profiles, instances]
    default: []
  parallel:
    description:
      - How many objects are worked on at the same time; by default as many as the host has CPUs.
      - Containers are waited for (C(wait_for)) at the end, all at the same time. A virtual machine is waited for in its
        turn, so that no more of them boot at once.
    type: int
  on_error:
    description: With V(stop), no further object is begun once one has failed.
    type: str
    choices: [continue, stop]
    default: continue
notes:
  - The order is storage pools, networks and images, then profiles, then instances. Objects listed as V(absent) go in
    the opposite order, instances before anything else is done and the others last.
seealso:
  - module: tandem.machines.stack_info
  - module: tandem.machines.instance
"""

EXAMPLES = r"""
- name: A network, a profile and two web servers exist
  tandem.machines.stack:
    networks:
      - name: webnet0
        config: {ipv4.address: 10.20.30.1/24, ipv4.nat: true}
    profiles:
      - name: web
        config: {limits.memory: 512MiB}
        devices:
          root: {type: disk, path: /, pool: default}
          eth0: {type: nic, network: webnet0}
    instances:
      - {name: web1, image: debian/12, profiles: [web]}
      - {name: web2, image: debian/12, profiles: [web]}

- name: The shop is as shop.yml says, and nothing is left of what it no longer lists
  tandem.machines.stack:
    name: shop
    src: shop.yml
    prune: [instances, profiles, networks]

- name: Twenty instances of one kind exist
  tandem.machines.stack:
    instances: >-
      {{ dict(range(1, 21) | map('regex_replace', '^', 'worker') | product(['debian/12']))
         | dict2items(key_name='name', value_name='image') }}

- name: Everything of the shop is gone
  tandem.machines.stack:
    name: shop
    prune: [instances, profiles, networks]
"""

RETURN = r"""
results:
  description: What became of each object, in check mode what would; first those listed, then those pruned.
  type: list
  elements: dict
  returned: always
  contains:
    kind:
      description: Kind of the object, such as V(instance).
      type: str
    name:
      description: Name of the object.
      type: str
    changed:
      description: Whether it was changed.
      type: bool
    failed:
      description: Whether it failed; RV(results[].msg) says why.
      type: bool
    msg:
      description: Why it failed or was not begun, empty otherwise.
      type: str
    actions:
      description: The steps in words.
      type: list
      elements: str
    pending:
      description: Options that wait for a restart of the instance.
      type: list
      elements: str
    diff:
      description: What differed, empty without a change.
      type: dict
  sample:
    - kind: instance
      name: web1
      changed: true
      failed: false
      msg: ""
      actions: [create container web1 from image debian/12]
      pending: []
      diff: {}
plan:
  description: >-
    All changes as lines of text, C(+) create, C(~) change, C(-) remove, C(!) restart needed, C(x) failed. Printed in
    check mode.
  type: list
  elements: str
  returned: always
  sample:
    - + create network webnet0
    - "~ change instance web1"
    - "    config: limits.memory: 512MiB -> 1GiB"
    - "! restart needed by instance web1: security.nesting"
restart_required:
  description: Whether any instance waits for a restart.
  type: bool
  returned: always
"""

from ..module_utils._module.run import run_action
from ..module_utils._stack.document import secrets_of
from ..module_utils._stack.perform import STACK_ARGUMENTS, perform_stack


def main() -> None:
    run_action(STACK_ARGUMENTS, perform_stack, secrets_of)


if __name__ == "__main__":
    main()
