#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: host_info
short_description: Read what a host can run and why not
version_added: 0.1.0
description:
  - Reports whether containers and virtual machines can run on the host, by which means, and what is missing.
  - Protections the host lacks are listed in C(hardening.missing).
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes.info
  - tandem.machines.attributes.action_group
  - tandem.machines.host
options: {}
seealso:
  - module: tandem.machines.instance
"""

EXAMPLES = r"""
- name: What can this host run
  tandem.machines.host_info:
  register: found

- name: Virtual machines are fast here
  ansible.builtin.assert:
    that: found.host.virtual_machines.accelerator == "kvm"
    fail_msg: "{{ found.host.virtual_machines.accelerator_reason }}"
"""

RETURN = r"""
host:
  description: Facts about the host.
  type: dict
  returned: success
  sample:
    distribution: debian
    distribution_version: "12"
    kernel: 6.1.0-35-amd64
    architecture: x86_64
    cpus: 4
    memory_bytes: 16777216000
    root: /var/lib/tandem
    supervisor: systemd
    cgroup_version: 2
    containers: {supported: true, reason: "", liblxc_version: 5.0.2}
    virtual_machines:
      supported: true
      reason: ""
      qemu_version: 7.2.17
      accelerator: kvm
      accelerator_reason: /dev/kvm works
    networks: {dnsmasq_version: "2.90", nftables_version: 1.0.6}
    storage_drivers:
      btrfs: {supported: true, reason: "", instant_clone: true, quota: true}
    hardening: {apparmor: true, landlock: true, seccomp: true, kvm: true, landlock_abi: 3, missing: []}
"""

from ..module_utils._instance.capabilities import gather_host
from ..module_utils._module.run import run_info


def main() -> None:
    run_info({}, gather_host)


if __name__ == "__main__":
    main()
