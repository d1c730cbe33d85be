#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: image_info
short_description: Read the images of a host
version_added: 0.1.0
description:
  - Returns all images that have a name, or the named one.
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes.info
  - tandem.machines.attributes.action_group
  - tandem.machines.host
options:
  name:
    description: Only this image, by name or fingerprint; the list is empty if it does not exist.
    type: str
seealso:
  - module: tandem.machines.image
"""

EXAMPLES = r"""
- name: Which images are there
  tandem.machines.image_info:
  register: found

- name: Their names and sizes
  ansible.builtin.debug:
    msg: "{{ found.images | items2dict(key_name='fingerprint', value_name='size') }}"
"""

RETURN = r"""
images:
  description: One entry for each image, sorted by name.
  type: list
  elements: dict
  returned: success
  contains:
    fingerprint:
      description: Identity of the image, the SHA-256 of its root archive or of the file it was made from.
      type: str
      returned: always
    aliases:
      description: Its names.
      type: list
      elements: str
      returned: always
    os:
      description: Name of the distribution, V(unknown) if the image does not tell.
      type: str
      returned: always
    release:
      description: Release of the distribution, V(unknown) if the image does not tell.
      type: str
      returned: always
    architecture:
      description: Architecture in Debian's names.
      type: str
      returned: always
    created_at:
      description: When it was made on this host, UTC.
      type: str
      returned: always
    source:
      description: What it was made from, as in the C(source) option of M(tandem.machines.image).
      type: dict
      returned: always
    types:
      description: Types of instances that can be made from it.
      type: list
      elements: str
      returned: always
    has_disk:
      description: Whether the disk for virtual machines is there; for built images it is made on first need.
      type: bool
      returned: always
    mounts_disks:
      description: Whether a virtual machine made from it mounts its disk devices by itself, as built images do.
      type: bool
      returned: always
    size:
      description: Bytes it takes in the image store.
      type: int
      returned: always
    files:
      description: Its files by name, each with C(size) in bytes and C(sha256).
      type: dict
      returned: always
    properties:
      description: Further facts, such as C(description).
      type: dict
      returned: always
"""

from ..module_utils._image.info import gather_images
from ..module_utils._module.run import run_info


def main() -> None:
    run_info({"name": {"type": "str"}}, gather_images)


if __name__ == "__main__":
    main()
