# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The least that an Ansible module can do to launch a container: the commands by hand, nothing checked or recorded."""

from __future__ import annotations

import os
import subprocess

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    module = AnsibleModule(
        {
            "image": {"type": "path"},
            "volume": {"type": "path"},
            "lxcpath": {"type": "path"},
            "name": {"type": "str"},
            "files": {"type": "dict"},
        }
    )
    given = module.params
    subprocess.run(["btrfs", "subvolume", "snapshot", given["image"], given["volume"]], check=True, capture_output=True)
    directory = os.path.join(given["lxcpath"], given["name"])
    os.makedirs(directory)
    os.chmod(given["lxcpath"], 0o711)
    for name, text in given["files"].items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as stream:
            stream.write(text)
    command = ["lxc-start", "-d", "-P", given["lxcpath"], "-n", given["name"]]
    subprocess.run(command, check=True, capture_output=True)
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
