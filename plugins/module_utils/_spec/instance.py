# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The option table of instances: config keys with LXD's names. Data only."""

from __future__ import annotations

from .._core.kinds import LIVE, NONE, RESTART
from .._core.options import Option, OptionTable
from .._core.values import BOOL, CPUS, MEMORY, STRING, TEXT, integer

_OWN_KERNEL = "a virtual machine has a kernel of its own"

INSTANCE = OptionTable(
    "config",
    (
        Option("boot.autostart", BOOL, LIVE, LIVE,
               "Start the instance when the host boots; when unset, an instance that ran before runs again.",
               shorthand="autostart"),
        Option("boot.host_shutdown_timeout", integer(1, 86400), LIVE, LIVE,
               "Seconds the instance gets to shut down when the host does.", default=30),
        Option("cloud-init.network-config", TEXT, RESTART, RESTART,
               "Network configuration for cloud-init, read at the next boot."),
        Option("cloud-init.user-data", TEXT, RESTART, RESTART,
               "User data for cloud-init, read at the next boot.", secret=True),
        Option("cloud-init.vendor-data", TEXT, RESTART, RESTART,
               "Vendor data for cloud-init, read at the next boot.", secret=True),
        Option("environment.*", STRING, LIVE, LIVE,
               "Environment variable of every command run in the guest, and of a container's init."),
        Option("limits.cpu", CPUS, LIVE, RESTART,
               "Number of CPUs, or the set of host CPUs the instance is pinned to.", shorthand="cpu"),
        Option("limits.memory", MEMORY, LIVE, RESTART,
               "Memory the instance may use, as a size or a percentage of the host's.", shorthand="memory"),
        Option("limits.processes", integer(1, 4194304), LIVE, NONE,
               "Number of processes that may run in the container.", why_not=_OWN_KERNEL, default=8192),
        Option("security.nesting", BOOL, RESTART, NONE,
               "Allow containers inside the container.", shorthand="nesting", why_not=_OWN_KERNEL, default=False),
        Option("security.privileged", BOOL, RESTART, NONE,
               "Run the container without an id map: its root is the host's root.",
               shorthand="privileged", why_not="a virtual machine's users are never the host's", default=False),
        Option("security.protection.delete", BOOL, LIVE, LIVE,
               "Refuse to delete the instance.", default=False),
        Option("user.*", STRING, LIVE, LIVE, "Free information for people and playbooks."),
    ),
)  # fmt: skip
