# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What instances need to know of a network: its bridge and whether it is there. Starts no process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .._core.errors import Conflict
from .._core.names import require_interface
from .._host.paths import Paths
from .model import Network, build_network
from .record import find_record

_LINKS = Path("/sys/class/net")
_IFF_UP = 1


@dataclass(frozen=True)
class NetworkInfo:
    """A bridge to join. address is the host's with prefix length, subnet the network's; None where there is none."""

    name: str
    bridge: str
    mtu: int
    is_managed: bool
    is_up: bool
    address: str | None = None
    subnet: str | None = None


def find_network(paths: Paths, name: str) -> NetworkInfo | None:
    """A finished network of ours, None without one; is_up says whether its bridge really is there."""
    network = find_definition(paths, name)
    if network is None:
        return None
    return NetworkInfo(
        name=name,
        bridge=name,
        mtu=network.get("bridge.mtu"),
        is_managed=True,
        is_up=is_bridge(name) and _is_up(name),
        address=network.address,
        subnet=None if network.address is None else str(network.interface.network),
    )


def open_network(paths: Paths, name: str) -> NetworkInfo:
    """A network of ours that guests can join now; Conflict if it is missing or down."""
    info = find_network(paths, require_interface("network", name))
    if info is None:
        raise Conflict(f"network {name} does not exist: create it with tandem.machines.network")
    if not info.is_up:
        raise Conflict(f"network {name} is down: bring it up with tandem.machines.network")
    return info


def require_bridge(name: str) -> NetworkInfo:
    """Any bridge of the host, ours or not, as nictype bridged joins; Conflict if there is none of that name."""
    require_interface("bridge", name)
    if not is_bridge(name):
        raise Conflict(f"bridge {name} does not exist on this host: create it, or name another as parent")
    return NetworkInfo(name, name, int((_LINKS / name / "mtu").read_text()), False, _is_up(name))


def find_definition(paths: Paths, name: str) -> Network | None:
    """All that is recorded and chosen of a finished network."""
    recorded = find_record(paths, name)
    if recorded is None or not recorded.exists:
        return None
    return build_network(name, recorded.uuid, recorded.intent.config, recorded.volatile, str(paths.network(name)))


def is_bridge(name: str) -> bool:
    return (_LINKS / name / "bridge").is_dir()


def bridges() -> list[str]:
    """All bridges of the host, by name."""
    return sorted(path.parent.name for path in _LINKS.glob("*/bridge"))


def _is_up(name: str) -> bool:
    return bool(int((_LINKS / name / "flags").read_text(), 16) & _IFF_UP)
