# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The option tables of devices, one per device type. Data only."""

from __future__ import annotations

from collections.abc import Mapping

from .._core.kinds import CREATE, LIVE, NONE, RESTART
from .._core.names import require_interface, require_name
from .._core.options import Option, OptionTable
from .._core.values import BOOL, HARDWARE_ADDRESS, IPV4_ADDRESS, PATH, SIZE, STRING, ValueType, choice, integer

_INTERFACE = ValueType("interface name", lambda value: require_interface("interface", value))
_POOL = ValueType("pool name", lambda value: require_name("storage pool", value))

DISK = OptionTable(
    "disk device",
    (
        Option("path", PATH, RESTART, RESTART, "Where the guest sees it; / is the root disk.", required=True),
        Option("pool", _POOL, CREATE, CREATE, "Storage pool of the root disk or of the volume named by source."),
        Option("source", STRING, RESTART, RESTART,
               "Directory on the host, or with pool the name of a custom volume; none for the root disk."),
        Option("size", SIZE, LIVE, RESTART, "Size of the root disk; it can grow."),
        Option("readonly", BOOL, RESTART, RESTART, "Let the guest only read.", default=False),
        Option("shift", BOOL, RESTART, NONE,
               "Map the owners of a host directory into the container's id range.", default=False,
               why_not="a virtual machine has no id map"),
    ),
)  # fmt: skip

NIC = OptionTable(
    "nic device",
    (
        Option("network", _INTERFACE, RESTART, RESTART, "Managed network to join; not together with parent."),
        Option("nictype", choice("bridged"), RESTART, RESTART, "Kind of interface, when parent is given."),
        Option("parent", _INTERFACE, RESTART, RESTART, "Bridge of the host to join."),
        Option("name", _INTERFACE, RESTART, NONE, "Name of the interface in the guest; eth0, eth1... when unset.",
               why_not="the guest's kernel names the interfaces of a virtual machine"),
        Option("hwaddr", HARDWARE_ADDRESS, RESTART, RESTART, "MAC address; chosen once and kept when unset."),
        Option("ipv4.address", IPV4_ADDRESS, RESTART, RESTART, "Address that the network's DHCP always gives."),
        Option("mtu", integer(576, 65535), RESTART, RESTART, "MTU of the interface; the bridge's when unset."),
    ),
)  # fmt: skip

NONE_DEVICE = OptionTable("none device", ())

DEVICES: Mapping[str, OptionTable] = {"disk": DISK, "nic": NIC, "none": NONE_DEVICE}
