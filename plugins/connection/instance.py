# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Tasks inside a guest: the way to its host is Ansible's own (local or ssh), the rest is a small program it carries.

The program is _instance/enter.py and what that imports, sent along with each command; nothing of ours has to be
installed on the host, and no address or sshd is needed in the guest.
"""

from __future__ import annotations

DOCUMENTATION = r"""
name: instance
author: The tandem.machines contributors (@tandem)
short_description: Run tasks inside a container or a virtual machine of a host
version_added: 1.0.0
description:
  - Runs modules inside an instance that tandem.machines manages, on this machine or on another host.
  - A container is entered with C(lxc-attach), a virtual machine through qemu-guest-agent. Neither needs C(sshd), a
    network or an address. Both behave the same, with exact output and exit statuses, and privilege escalation works
    inside.
  - Works with pipelining and has it on by default, since a guest is always entered without a terminal.
  - A virtual machine runs one command at a time. A second one waits its turn, see O(lock_timeout).
options:
  remote_addr:
    description: Name of the instance.
    type: string
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: ansible_tandem_instance
  remote_user:
    description:
      - User to be inside the guest, by name or number. Looked up in the guest.
      - On the way to the host, O(ssh_user) counts instead.
    type: string
    default: root
    cli:
      - name: user
    env:
      - name: ANSIBLE_REMOTE_USER
    ini:
      - section: defaults
        key: remote_user
    vars:
      - name: ansible_user
      - name: ansible_tandem_user
    keyword:
      - name: remote_user
  host:
    description:
      - The host on which the instance lives. Empty or V(localhost) is the machine that runs Ansible, everything else is
        reached by ssh.
      - If this is the name of a host in the inventory, its own variables say how to reach it, such as C(ansible_host),
        C(ansible_user), C(ansible_port), C(ansible_ssh_private_key_file) or C(ansible_connection=local).
    type: string
    default: ''
    env:
      - name: ANSIBLE_TANDEM_HOST
    ini:
      - section: tandem_connection
        key: host
    vars:
      - name: ansible_tandem_host
  host_become:
    description: Use C(sudo -n) on the host if the user there is not root. Entering a guest needs root.
    type: boolean
    default: true
    env:
      - name: ANSIBLE_TANDEM_HOST_BECOME
    ini:
      - section: tandem_connection
        key: host_become
    vars:
      - name: ansible_tandem_host_become
  host_python:
    description: A Python 3.9 or newer on the host. It needs no packages.
    type: string
    default: /usr/bin/python3
    env:
      - name: ANSIBLE_TANDEM_HOST_PYTHON
    ini:
      - section: tandem_connection
        key: host_python
    vars:
      - name: ansible_tandem_host_python
  root:
    description: The directory on the host that holds all state, the same as O(tandem.machines.instance#module:root).
    type: string
    default: /var/lib/tandem
    env:
      - name: ANSIBLE_TANDEM_ROOT
    ini:
      - section: tandem_connection
        key: root
    vars:
      - name: ansible_tandem_root
  agent_timeout:
    description: How long to wait, in seconds, for the agent of a virtual machine, such as one that is still booting.
    type: float
    default: 60
    env:
      - name: ANSIBLE_TANDEM_AGENT_TIMEOUT
    ini:
      - section: tandem_connection
        key: agent_timeout
    vars:
      - name: ansible_tandem_agent_timeout
  lock_timeout:
    description: How long to wait, in seconds, while a virtual machine runs somebody else's command.
    type: float
    default: 300
    env:
      - name: ANSIBLE_TANDEM_LOCK_TIMEOUT
    ini:
      - section: tandem_connection
        key: lock_timeout
    vars:
      - name: ansible_tandem_lock_timeout
  pipelining:
    description: Send modules through standard input instead of copying them first, which saves round trips.
    type: boolean
    default: true
    env:
      - name: ANSIBLE_TANDEM_PIPELINING
    ini:
      - section: tandem_connection
        key: pipelining
    vars:
      - name: ansible_pipelining
  ssh_user:
    description:
      - User to log in to the host as.
      - This option and the next few, and every other option of P(ansible.builtin.ssh#connection), are read by that
        plugin. Set for the guest, variables whose name begins with C(ansible_ssh_) are about its host.
    type: string
    vars:
      - name: ansible_ssh_user
  ssh_port:
    description: Port of the host's C(sshd).
    type: int
    vars:
      - name: ansible_ssh_port
  ssh_password:
    description: Password to log in to the host with.
    type: string
    vars:
      - name: ansible_ssh_pass
      - name: ansible_ssh_password
  ssh_private_key_file:
    description: Private key to log in to the host with.
    type: string
    vars:
      - name: ansible_ssh_private_key_file
  ssh_args:
    description: Arguments of C(ssh) that replace the usual ones or are added to them.
    type: string
    vars:
      - name: ansible_ssh_args
      - name: ansible_ssh_common_args
      - name: ansible_ssh_extra_args
  ssh_timeout:
    description: How long to wait, in seconds, for the host to answer.
    type: int
    vars:
      - name: ansible_ssh_timeout
"""

EXAMPLES = r"""
- name: A container and a virtual machine on the host kvm1, as hosts of the inventory
  ansible.builtin.add_host:
    name: "{{ item }}"
    groups: guests
    ansible_connection: tandem.machines.instance
    ansible_tandem_host: kvm1
  loop: [web1, vm1]

- name: Use them like any other host
  hosts: guests
  tasks:
    - name: Time zone is set
      ansible.builtin.file:
        src: /usr/share/zoneinfo/Europe/Berlin
        dest: /etc/localtime
        state: link
        force: true
"""

import base64
import json
import os
import shlex
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import connection_loader
from ansible.utils.display import Display
from ansible_collections.tandem.machines.plugins.module_utils._core import errors, names
from ansible_collections.tandem.machines.plugins.module_utils._instance import agent, enter, frames, script, stream

display = Display()

_LOCAL_NAMES = ("", "localhost", "127.0.0.1", "::1")
_LOCAL = "ansible.builtin.local"
_SSH = "ansible.builtin.ssh"
# Files go in pieces, since Ansible's own connections hold all that they send or receive in memory.
_PIECE_BYTES = 16 * 1024 * 1024
# An emulated guest on a busy host takes a while to start sudo.
_BECOME_SECONDS = 60
# In one line, for any login shell. ssh exits with 255 when it fails itself, so a command's 255 travels as 254 and a
# line on stderr. sudo logs all arguments: it gets the program as a file.
_ON_THE_HOST = (
    "mark=$1 become=$2 python=$3 program=$4 request=$5; "
    'if [ "$become" = no ] || [ "$(id -u)" = 0 ]; then "$python" -I -S -c "$program" "$request"; '
    'else file=$(mktemp) && printf %s "$program" >"$file" || exit; trap \'rm -f "$file"\' EXIT; '
    'sudo -n "$python" -I -S "$file" "$request"; fi; '
    'status=$?; [ "$status" = 255 ] || exit "$status"; echo "$mark 255" >&2; exit 254'
)
# Imports modules of ours from a dictionary of their sources; None is a package.
_LOADER = """
import json, sys
from _frozen_importlib import ModuleSpec
class Finder:
    def find_spec(self, name, path=None, target=None):
        return ModuleSpec(name, self, is_package=SOURCES[name] is None) if name in SOURCES else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        exec(compile(SOURCES[module.__name__] or "", module.__name__, "exec"), module.__dict__)
sys.meta_path.insert(0, Finder())
from tandem._instance.enter import main
main(json.loads(sys.argv[1]))
"""


def render_program() -> str:
    """A Python program in one line: enter.main() and everything it imports."""
    sources: dict[str, str | None] = {"tandem": None, "tandem._core": None, "tandem._instance": None}
    for module in (errors, names, agent, enter, frames, script, stream):
        folder, name = module.__name__.split(".")[-2:]
        sources[f"tandem.{folder}.{name}"] = Path(str(module.__file__)).read_text("utf-8")
    packed = base64.b64encode(zlib.compress(f"SOURCES = {sources!r}\n{_LOADER}".encode())).decode()
    return f'import zlib,binascii;exec(zlib.decompress(binascii.a2b_base64("{packed}")))'


class Connection(ConnectionBase):
    """A guest, reached through Ansible's own connection to its host."""

    transport = "tandem.machines.instance"
    has_pipelining = True
    # All variables that begin with ansible_ssh_ are kept for the way to the host.
    allow_extras = True
    _extras_prefix = "ssh"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._task_keys: dict[str, Any] = {}
        self._variables: dict[str, Any] = {}
        self._inventory: Mapping[str, Mapping[str, Any]] = {}
        self._way: Any = None

    def _resolve_option_variables(self, variables: Any, templar: Any) -> Any:
        self._inventory = variables.get("hostvars") or {}
        return super()._resolve_option_variables(variables, templar)

    def set_options(self, task_keys: Any = None, var_options: Any = None, direct: Any = None) -> None:
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        self._task_keys = dict(task_keys or {})
        self._variables = dict(var_options or {})
        self._way = None

    @property
    def _name(self) -> str:
        return str(self.get_option("remote_addr"))

    def _connect(self) -> Connection:
        if self._way is None:
            self._way = self._find_way()
        self._connected = True
        return self

    def _find_way(self) -> Any:
        """Ansible's connection to the host, with the options that are about the host."""
        host = str(self.get_option("host") or "")
        known = self._inventory[host] if host and host in self._inventory else {}
        if host in _LOCAL_NAMES or known.get("ansible_connection") in ("local", _LOCAL):
            way = connection_loader.get(_LOCAL, self._play_context, shell=self._shell)
            # Pipelining keeps it from making a terminal, which would alter the data.
            way.set_options(direct={"pipelining": True, "become_success_timeout": _BECOME_SECONDS})
            return way
        way = connection_loader.get(_SSH, self._play_context, shell=self._shell)
        # The play's remote_user is about the guest, its timeout about both.
        keys = {key: value for key, value in self._task_keys.items() if key not in ("remote_user", "port")}
        address = {"host": known.get("ansible_host", host), "use_tty": False, "pipelining": True}
        way.set_options(task_keys=keys, var_options=self._ssh_variables(way, known), direct=address)
        return way

    def _ssh_variables(self, way: Any, known: Mapping[str, Any]) -> dict[str, Any]:
        """The host's own variables from the inventory, and over them the guest's ansible_ssh_* ones."""
        about_ssh = {entry["name"] for row in way.option_definitions.values() for entry in row.get("vars") or ()}
        variables = {name: known[name] for name in about_ssh if name in known}
        given = {**self._variables, **self._variables.get("_extras", {})}
        variables.update({name: value for name, value in given.items() if name.startswith("ansible_ssh_")})
        return variables

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        display.vvv(f"EXEC {cmd}", host=self._name)
        return self._enter(cmd, in_data, sudoable)

    def _enter(self, command: str, in_data: bytes | None = None, sudoable: bool = False) -> tuple[int, bytes, bytes]:
        """Run a shell command in the guest; AnsibleConnectionFailure if the guest was not reached."""
        has_prompt = bool(sudoable and self.become and self.become.expect_prompt())
        mark = f"tandem-{os.urandom(8).hex()}"
        request = {
            "mark": mark,
            "root": self.get_option("root"),
            "instance": self._name,
            "user": str(self.get_option("remote_user") or "root"),
            "command": ["/bin/sh", "-c", command],
            "input": bool(in_data) or has_prompt,
            "live": has_prompt,
            "agent_timeout": self.get_option("agent_timeout"),
            "lock_timeout": self.get_option("lock_timeout"),
        }
        self._way.set_become_plugin(self.become)
        line = self._on_the_host(mark, request)
        try:
            status, out, err = self._way.exec_command(line, in_data=in_data, sudoable=sudoable)
        except AnsibleError as error:
            # The traceback holds the pipes to a command that still waits for a password; let go, it ends.
            error.__traceback__ = None
            # A failed privilege escalation shows what was on stderr.
            cleaned = self._read_marks(mark, 1, error.message.encode())[2]
            raise type(error)(cleaned.decode()) from None
        has_entered, status, err = self._read_marks(mark, status, err)
        # With a prompt, the local connection drops what comes before it.
        if not has_entered and status != 0 and not has_prompt:
            raise AnsibleConnectionFailure(f"cannot enter instance {self._name}: {self._explain(out, err, status)}")
        return status, out, err

    def _on_the_host(self, mark: str, request: Mapping[str, Any]) -> str:
        become = "yes" if self.get_option("host_become") else "no"
        words = (mark, become, self.get_option("host_python"), render_program(), json.dumps(request))
        return shlex.join(("/bin/sh", "-c", _ON_THE_HOST, "tandem-enter", *words))

    def _read_marks(self, mark: str, status: int, err: bytes) -> tuple[bool, int, bytes]:
        """Whether the guest was entered, and the command's own status and stderr; see enter.main()."""
        before, problem, after = err.partition(f"{mark} error ".encode())
        if problem:
            message = after.partition(b"\n")[0].decode("utf-8", "replace")
            raise AnsibleConnectionFailure(message if self._name in message else f"instance {self._name}: {message}")
        before, entered, after = err.partition(f"{mark} entered\n".encode())
        err = before + after
        before, hidden, after = err.rpartition(f"{mark} 255\n".encode())
        return (bool(entered), 255, before + after) if hidden else (bool(entered), status, err)

    @staticmethod
    def _explain(out: bytes, err: bytes, status: int) -> str:
        said = (err.strip() or out.strip()).decode("utf-8", "replace")
        return f"{said or 'no message'} (exit status {status} on the host)"

    def put_file(self, in_path: str, out_path: str) -> None:
        super().put_file(in_path, out_path)
        display.vvv(f"PUT {in_path} TO {out_path}", host=self._name)
        target = shlex.quote(out_path)
        try:
            with open(in_path, "rb") as source:
                piece = source.read(_PIECE_BYTES)
                self._transfer(f"cat >{target}" if piece else f": >{target}", out_path, piece)
                while piece := source.read(_PIECE_BYTES):
                    self._transfer(f"cat >>{target}", out_path, piece)
        except OSError as error:
            raise AnsibleFileNotFound(f"cannot read {in_path}: {error.strerror}") from error

    def fetch_file(self, in_path: str, out_path: str) -> None:
        super().fetch_file(in_path, out_path)
        display.vvv(f"FETCH {in_path} TO {out_path}", host=self._name)
        blocks = _PIECE_BYTES // 65536
        read = f"dd if={shlex.quote(in_path)} bs=65536 count={blocks} iflag=fullblock skip="
        try:
            with open(out_path, "wb") as target:
                skip = 0
                while len(piece := self._transfer(f"{read}{skip}", in_path)) == _PIECE_BYTES:
                    target.write(piece)
                    skip += blocks
                target.write(piece)
        except OSError as error:
            raise AnsibleError(f"cannot write {out_path}: {error.strerror}") from error

    def _transfer(self, command: str, path: str, data: bytes | None = None) -> bytes:
        status, out, err = self._enter(command, data)
        if status != 0:
            said = err.decode("utf-8", "replace").strip()
            raise AnsibleError(f"file {path} of instance {self._name} cannot be transferred: {said}")
        return out

    def reset(self) -> None:
        if self._way is not None:
            self._way.reset()
        self.close()

    def close(self) -> None:
        if self._way is not None:
            self._way.close()
        self._way = None
        self._connected = False
