#!/usr/bin/python
# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

DOCUMENTATION = r"""
module: instance_exec
short_description: Run a command inside a container or a virtual machine
version_added: 0.1.0
description:
  - Runs one command in a running instance of the managed host and returns its exit status, output and errors apart.
  - Containers and virtual machines behave the same. Neither needs C(sshd), Python or an address; a virtual machine
    needs qemu-guest-agent, a POSIX shell and the basic tools of coreutils or BusyBox.
  - For whole plays inside an instance use the connection plugin P(tandem.machines.instance#connection).
author:
  - The tandem.machines contributors (@tandem)
extends_documentation_fragment:
  - tandem.machines.attributes
  - tandem.machines.attributes.action_group
  - tandem.machines.host
attributes:
  check_mode:
    description: >-
      Does not run the command and reports the change that running it would be. Only O(creates) and O(removes) are
      looked up in the instance. What the command would print is not known.
    support: full
  diff_mode:
    description: What a command changes is not known, so there is no difference to show.
    support: N/A
  idempotent:
    description: A command that runs is reported as a change. O(creates) and O(removes) keep it from running again.
    support: partial
options:
  name:
    description: Name of the instance.
    type: str
    required: true
  argv:
    description:
      - The program and its arguments. No shell is involved, so nothing in them is special.
      - One of O(argv) and O(shell) is required.
    type: list
    elements: str
    aliases: [command]
  shell:
    description: A script for the instance's C(/bin/sh).
    type: str
  stdin:
    description: Text for the command's standard input. Without it, the input is empty.
    type: str
  stdin_add_newline:
    description: Whether a newline is added to O(stdin).
    type: bool
    default: true
  environment:
    description:
      - Variables for the command, besides those of a login (C(HOME), C(USER), C(LOGNAME), C(PATH), C(LANG), C(TERM))
        and the instance's own C(environment.*) options.
      - Their values are in nobody's process list.
    type: dict
  user:
    description: User to run the command as, a name or a number. Looked up in the instance.
    type: str
    default: root
  cwd:
    description: Directory in the instance to run the command in. The user's home unless given.
    type: str
  timeout:
    description: How many seconds the command may take. Then it is killed and the task fails. No limit unless given.
    type: float
  creates:
    description: A path in the instance. If it exists, the command is not run.
    type: str
  removes:
    description: A path in the instance. If it does not exist, the command is not run.
    type: str
  agent_timeout:
    description: How long to wait, in seconds, for the agent of a virtual machine, such as one that is still booting.
    type: float
    default: 60.0
  strip_empty_ends:
    description: Whether empty lines are cut off the end of what the command prints.
    type: bool
    default: true
seealso:
  - module: tandem.machines.instance
  - plugin: tandem.machines.instance
    plugin_type: connection
"""

EXAMPLES = r"""
- name: The kernel of the virtual machine is known
  tandem.machines.instance_exec:
    name: vm1
    argv: [uname, -r]
  register: kernel
  changed_when: false

- name: A database exists
  tandem.machines.instance_exec:
    name: db1
    user: postgres
    shell: createdb shop && touch /var/lib/postgresql/shop.made
    creates: /var/lib/postgresql/shop.made

- name: The schema is loaded
  tandem.machines.instance_exec:
    name: db1
    user: postgres
    argv: [psql, --set, ON_ERROR_STOP=1, shop]
    stdin: "{{ lookup('ansible.builtin.file', 'schema.sql') }}"
    environment:
      PGAPPNAME: ansible
    timeout: 120
"""

RETURN = r"""
rc:
  description:
    - Exit status of the command, 128 + n if signal n ended it. Any other than 0 fails the task.
    - V(0) if it was not run.
  type: int
  returned: success and failure of the command
  sample: 0
stdout:
  description: What the command printed. Bytes that are not UTF-8 are replaced; fetch binary data as a file.
  type: str
  returned: success and failure of the command
  sample: 6.1.0-28-cloud-amd64
stderr:
  description: What the command printed to standard error.
  type: str
  returned: success and failure of the command
  sample: ""
cmd:
  description: The program and its arguments as they were run.
  type: list
  elements: str
  returned: success and failure of the command
  sample: [uname, -r]
seconds:
  description: How long it took, entering the instance included.
  type: float
  returned: success and failure of the command
  sample: 0.04
"""

from ..module_utils._instance.exec_task import perform_exec
from ..module_utils._module.run import run_action

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "argv": {"type": "list", "elements": "str", "aliases": ["command"]},
    "shell": {"type": "str"},
    "stdin": {"type": "str"},
    "stdin_add_newline": {"type": "bool", "default": True},
    "environment": {"type": "dict"},
    "user": {"type": "str", "default": "root"},
    "cwd": {"type": "str"},
    "timeout": {"type": "float"},
    "creates": {"type": "str"},
    "removes": {"type": "str"},
    "agent_timeout": {"type": "float", "default": 60.0},
    "strip_empty_ends": {"type": "bool", "default": True},
}


def main() -> None:
    run_action(ARGUMENTS, perform_exec, mutually_exclusive=[["argv", "shell"]], required_one_of=[["argv", "shell"]])


if __name__ == "__main__":
    main()
