#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: image
short_description: Manage images, from which containers and virtual machines are made
version_added: 0.1.0
description:
  - An image is built on the host from a distribution's packages, or imported from a file. One built image serves both
    types of instances; its bootable disk is made when the first virtual machine needs it.
  - What somebody else made is unpacked and converted by unprivileged processes that see nothing of the host, and is
    refused if it holds what no root file system needs, such as paths that leave it or device nodes outside C(/dev).
  - Built images hold systemd, a network by DHCP, Python, sudo, the QEMU guest agent, a kernel and a script that mounts
    the disk devices of a virtual machine at boot; root has no password. No key, identifier or cache of the host goes
    into them.
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes
  - tandem.machines.attributes.action_group
  - tandem.machines.host
options:
  name:
    description:
      - Name of the image, such as V(debian/12), of a-z, 0-9, C(.), C(_), C(-) and up to three C(/).
      - To remove an image, its fingerprint serves too.
    type: str
    required: true
  state:
    description:
      - V(present) makes the image unless it is there.
      - V(absent) removes it with all its names. Containers do not need it any more. While the disk of a virtual
        machine stands on it, it stays on disk, hidden, until an image task finds it unused.
    type: str
    choices: [present, absent]
    default: present
  source:
    description:
      - What to make the image from. Needed when the image does not exist yet; when it does, a source given must be the
        one it was made from, see O(recreate).
      - With C(type) V(build), C(distribution) is V(debian) or V(ubuntu) and C(release) a code name or version, such
        as V(bookworm) or V(12). C(packages) lists further packages. C(mirror) is the URL of the package archive; by
        default that of the host when it runs the same distribution, else the official one. A Debian mirror has its
        security archive beside it, with C(-security) added to the name. C(keyring) is the file with the archive's
        keys; by default the distribution's own below C(/usr/share/keyrings).
      - With C(type) V(file), C(path) is a file on the managed host and C(format) what it holds, V(tar) (plain, or
        compressed by gzip, xz, bzip2 or zstd) or V(squashfs) with a root file system, or V(qcow2) with a bootable
        disk; by default the end of the file's name tells. The content is never probed. Images that LXD and Incus
        export as one tar file are understood.
      - C(architecture) is V(amd64) or V(arm64), by default the host's. Only the host's own can be built.
    type: dict
  aliases:
    description: All further names of the image. Omitted means they are left alone.
    type: list
    elements: str
  recreate:
    description:
      - What to do when the image was made from another source than O(source), or from a file whose content has
        changed. V(never) fails. V(on-change) makes the image anew; instances that exist keep what they have.
      - Omitted means V(never).
    type: str
    choices: [never, on-change]
seealso:
  - module: tandem.machines.image_info
  - module: tandem.machines.instance
"""

EXAMPLES = r"""
- name: An image of Debian 12 exists
  tandem.machines.image:
    name: debian/12
    source:
      type: build
      distribution: debian
      release: bookworm

- name: An image of Debian 12 with nginx exists, with a second name
  tandem.machines.image:
    name: web
    source:
      type: build
      distribution: debian
      release: bookworm
      packages: [nginx-light]
    aliases: [web/1]

- name: An image from a root file system that was packed elsewhere exists, and follows the file
  tandem.machines.image:
    name: appliance
    source:
      type: file
      path: /srv/images/appliance.tar.xz
    recreate: on-change

- name: The image for web servers is gone
  tandem.machines.image:
    name: web
    state: absent
"""

RETURN = r"""
image:
  description: The image; empty when absent. In check mode without what is known only once it is made.
  type: dict
  returned: success
  sample:
    name: debian/12
    aliases: [debian/12]
    fingerprint: 09f5b8b0c1c0e4a5d3a5d0f61a7e9f5a2f7e7f2b8c4b8a4c6f9b1c7d2e3f4a5b
    os: Debian
    release: bookworm
    architecture: amd64
    created_at: "2026-11-23T13:00:00Z"
    source: {type: build, distribution: debian, release: bookworm, architecture: amd64}
    types: [container, virtual-machine]
    has_disk: true
    mounts_disks: true
    size: 451419685
    files:
      rootfs.tar.zst: {size: 96887502, sha256: 09f5b8b0c1c0e4a5d3a5d0f61a7e9f5a2f7e7f2b8c4b8a4c6f9b1c7d2e3f4a5b}
    properties: {description: Debian GNU/Linux 12 (bookworm), variant: default}
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

from ..module_utils._image.resource import IMAGE_NOUN
from ..module_utils._module.run import run_resource


def main() -> None:
    run_resource(IMAGE_NOUN)


if __name__ == "__main__":
    main()
