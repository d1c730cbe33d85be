#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: instance
short_description: Manage system containers and virtual machines
version_added: 0.1.0
description:
  - An instance is a system container (liblxc) or a virtual machine (QEMU) made from an image. Both are described by the
    same options, with LXD's names.
  - Omitted options are left alone. A change is applied to the running instance where that is possible; otherwise it is
    recorded, and RV(pending) names what waits for a restart.
  - The instance is created, then configured, then started.
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes
  - tandem.machines.attributes.action_group
  - tandem.machines.host
  - tandem.machines.instance_options
attributes:
  idempotent:
    support: partial
    details: O(state=restarted) and O(recreate=always) act each time.
options:
  name:
    description: Name of the instance, 1 to 63 of a-z, 0-9 and C(-), a letter first. It is the guest's host name too.
    type: str
    required: true
  state:
    description:
      - V(present) makes the instance exist and leaves its power alone.
      - V(started), V(stopped) and V(frozen) bring it to that power; V(restarted) restarts it each time.
      - V(absent) stops and deletes it with its root disk.
    type: str
    choices: [present, started, stopped, restarted, frozen, absent]
    default: started
  type:
    description: Kind of instance, fixed at creation. A new instance is a V(container) when omitted.
    type: str
    choices: [container, virtual-machine]
  image:
    description:
      - Image to create the instance from, by alias or fingerprint; needed for creation and fixed then.
      - An alias that meanwhile points to a newer image does not touch existing instances.
    type: str
  profiles:
    description: Profiles in order, later ones win. A new instance gets C([default]) when omitted.
    type: list
    elements: str
  description:
    description: Free text.
    type: str
  config:
    description:
      - Options of the instance with LXD's names; see the option reference in the documentation of this collection.
      - Only the listed keys are managed; V(null) removes a key.
    type: dict
  config_mode:
    description: With V(replace), O(config) is the whole truth and keys not listed are removed.
    type: str
    choices: [merge, replace]
    default: merge
  devices:
    description:
      - Devices by name, each a mapping with C(type) (C(disk), C(nic) or C(none)) and its options.
      - Only the listed devices and options are managed; V(null) removes a device or an option. A device that comes
        from a profile is overridden by the options given here.
      - A C(disk) with C(source) shows a directory of the host, or with C(pool) a volume, at C(path) in the guest.
        A virtual machine mounts it at each boot before services start if its image was built (source type V(build));
        for other images a warning says how to mount it by hand.
      - In a virtual machine, owners of files there have the same ids as on the host. What its root writes belongs to
        the host's root, so give it directories that nobody else on the host can enter.
    type: dict
  devices_mode:
    description: With V(replace), O(devices) is the whole truth and devices not listed are removed.
    type: str
    choices: [merge, replace]
    default: merge
  recreate:
    description: >-
      Whether the instance may be deleted and created anew, losing its root disk: when something fixed at creation
      differs (V(on-change)), or each time (V(always)).
    type: str
    choices: [never, on-change, always]
    default: never
  when_restart_needed:
    description: What to do when a changed option waits for a restart of the running instance.
    type: str
    choices: [report, restart, fail]
    default: report
  stop_timeout:
    description: Seconds the guest gets to shut down.
    type: float
    default: 30.0
  force_stop:
    description: End a guest that did not shut down in time, instead of failing.
    type: bool
    default: false
  wait_for:
    description:
      - Conditions to wait for once the instance runs, in order. V(running), V(ipv4) or V(ipv6) (a global address),
        V(agent) (commands can be run in the guest), V(cloud-init) (it has finished), V(port:22) (a TCP port answers).
    type: list
    elements: str
  wait_timeout:
    description: Seconds for all conditions together; then the task fails and says what was seen last.
    type: float
    default: 120.0
seealso:
  - module: tandem.machines.instance_info
  - module: tandem.machines.instance_exec
  - module: tandem.machines.image
  - module: tandem.machines.profile
"""

EXAMPLES = r"""
- name: Container web1 runs
  tandem.machines.instance:
    name: web1
    image: debian/12
    cpu: 1
    memory: 512MiB
    wait_for: [ipv4]

- name: Virtual machine db1 runs, from the same image
  tandem.machines.instance:
    name: db1
    type: virtual-machine
    image: debian/12
    memory: 1GiB
    devices:
      root: {size: 8GiB}
    wait_for: [agent]
    wait_timeout: 300

- name: Virtual machine db1 has a directory of the host at /data, and another one that it can only read
  tandem.machines.instance:
    name: db1
    devices:
      data: {type: disk, source: /srv/db1, path: /data}
      keys: {type: disk, source: /srv/keys, path: /etc/keys, readonly: true}
    when_restart_needed: restart

- name: Container web1 has twice the memory, at once
  tandem.machines.instance:
    name: web1
    memory: 1GiB

- name: Container web1 is gone
  tandem.machines.instance:
    name: web1
    state: absent
"""

RETURN = r"""
instance:
  description: The instance; empty when absent. In check mode as it would be. Secrets are hidden.
  type: dict
  returned: success
  sample:
    name: web1
    type: container
    status: running
    image: debian/12
    profiles: [default]
    config: {limits.memory: 512MiB}
    devices: {}
    addresses:
      - {interface: eth0, family: inet, address: 10.20.0.57, prefix: 24, scope: global, hwaddr: "00:16:3e:5c:11:02"}
actions:
  description: The steps in words; in check mode those that would be taken.
  type: list
  elements: str
  returned: success
previous_state:
  description: V(absent), V(stopped), V(running) or V(frozen), as it was before.
  type: str
  returned: success
pending:
  description: Options that are recorded and take effect at the next restart.
  type: list
  elements: str
  returned: success
restart_required:
  description: Whether RV(pending) holds anything.
  type: bool
  returned: success
"""

from ..module_utils._instance.resource import INSTANCE_NOUN
from ..module_utils._module.run import run_resource


def main() -> None:
    run_resource(INSTANCE_NOUN)


if __name__ == "__main__":
    main()
