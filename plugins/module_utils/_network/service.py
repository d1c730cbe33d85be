# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""dnsmasq as a service of the host: what is run, with which rights, and when it is ready."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

from .._core.errors import Conflict, TimedOut
from .._host.files import ensure_directory, read_capped, write_atomic, write_if_changed
from .._host.paths import Paths
from .._host.run import run
from .._host.supervisor import Supervisor
from .._host.unit import Unit, service_name
from .dnsmasq import CONFIGURATION, render_configuration
from .guests import HOST_LIMIT_BYTES, HOSTS, LEASES, keep_leases, parse_host, render_host
from .leases import read_leases
from .model import Network
from .nftables import render_rules
from .observed import BATCH, RULES
from .sockets import is_bound, require_port_free

LOG = "dnsmasq.log"
_STOP_SECONDS = 5
_START_SECONDS = 10
# net_admin: dnsmasq puts the address it gives into the kernel's neighbour table; net_bind_service: ports 53 and 67.
_CAPABILITIES = "-all,+net_admin,+net_bind_service"
# These flush or rebuild all rules when they start; ours must come after.
_FIREWALLS = ("nftables.service", "firewalld.service", "ufw.service", "netfilter-persistent.service")


def service_unit(network: Network) -> Unit:
    """The unit that keeps dnsmasq running; at boot it also brings back rules, bridge and kernel settings.

    Stopping it leaves the bridge alone: guests stay connected while dnsmasq is restarted.
    """
    return Unit(
        kind="network",
        name=network.name,
        description=f"tandem network {network.name}",
        command=_command(network) if network.address is not None else (),
        setup=tuple(_setup(network)),
        order_after=_FIREWALLS,
        restarts=network.address is not None,
        log=f"{network.directory}/{LOG}",
    )


def _setup(network: Network) -> list[tuple[str, ...]]:
    commands: list[tuple[str, ...]] = []
    if render_rules(network) is not None:
        commands.append(("nft", "-j", "-f", f"{network.directory}/{RULES}"))
    commands.append(("ip", "-batch", f"{network.directory}/{BATCH}"))
    settings = [f"net.ipv6.conf.{network.name}.disable_ipv6=1"]
    if network.is_routed:
        settings.append("net.ipv4.ip_forward=1")
    commands += [("sysctl", "-q", "-w", setting) for setting in settings]
    return commands


def _command(network: Network) -> tuple[str, ...]:
    """dnsmasq never is root: it starts as its own user with two capabilities and can gain nothing."""
    return (
        "setpriv",
        f"--reuid={network.uid}",
        f"--regid={network.uid}",
        "--clear-groups",
        "--no-new-privs",
        f"--inh-caps={_CAPABILITIES}",
        f"--ambient-caps={_CAPABILITIES}",
        f"--bounding-set={_CAPABILITIES}",
        "dnsmasq",
        f"--conf-file={network.directory}/{CONFIGURATION}",
    )


def start(network: Network, supervisor: Supervisor) -> None:
    """(Re)start dnsmasq with freshly written files; returns when it answers. Without an address only the
    unit for the next boot is left."""
    unit = service_unit(network)
    supervisor.stop(unit, _STOP_SECONDS)
    if network.address is None:
        (Path(network.directory) / CONFIGURATION).unlink(missing_ok=True)
        supervisor.start(unit)
        return
    _require_searchable(network)
    _write_files(network)
    require_port_free(network.name, str(network.interface.ip))
    supervisor.start(unit)
    _wait_until_ready(network, supervisor)


def stop(network: Network, supervisor: Supervisor) -> None:
    """End dnsmasq and forget the unit."""
    unit = service_unit(network)
    supervisor.stop(unit, _STOP_SECONDS)
    supervisor.remove(unit)


def _require_searchable(network: Network) -> None:
    """Conflict if dnsmasq, which is nobody in particular, could not reach its files."""
    for directory in Path(network.directory).parents:
        if not directory.stat().st_mode & stat.S_IXOTH:
            raise Conflict(
                f"network {network.name}: dnsmasq runs without rights and cannot pass {directory}: "
                f"run chmod o+x {directory}, or choose another root"
            )


def _write_files(network: Network) -> None:
    directory = Path(network.directory)
    write_if_changed(directory / CONFIGURATION, render_configuration(network).encode(), 0o644)
    hosts = directory / HOSTS
    ensure_directory(hosts, 0o750)
    os.chown(hosts, 0, network.uid)
    for path in hosts.iterdir():
        _rewrite_host(network, path)
    leases = directory / LEASES
    kept = keep_leases(read_leases(directory), network.interface.network)
    write_atomic(leases, kept.encode(), 0o640)
    os.chown(leases, network.uid, network.uid)


def _rewrite_host(network: Network, path: Path) -> None:
    """Write a host entry again, since dns.mode decides whether it holds a name; drop what a killed run left."""
    entry = parse_host((read_capped(path, HOST_LIMIT_BYTES) or b"").decode("utf-8", "replace"))
    if path.name.startswith(".") or entry is None:
        path.unlink()
        return
    instance = path.name.partition(".")[0]
    write_if_changed(path, render_host(network.get("dns.mode"), instance, *entry).encode(), 0o644)


def _wait_until_ready(network: Network, supervisor: Supervisor) -> None:
    """Return when the DNS port is bound, which comes last of all that can fail; Conflict if it ends before.

    No event tells that another process has bound a port, so it is looked up in growing intervals, while the
    end of the process is awaited.
    """
    process = supervisor.find(service_unit(network))
    deadline = time.monotonic() + _START_SECONDS
    pause = 0.004
    while process is not None and process.is_alive():
        if is_bound(str(network.interface.ip)):
            return
        if time.monotonic() > deadline:
            what = f"dnsmasq of network {network.name} to answer"
            raise TimedOut(what, _START_SECONDS, _log_tail(network, supervisor))
        try:
            process.wait(pause)
        except TimedOut:
            pause = min(pause * 2, 0.2)
    raise Conflict(f"network {network.name}: dnsmasq ended at once: {' '.join(_log_tail(network, supervisor).split())}")


def _log_tail(network: Network, supervisor: Supervisor) -> str:
    """The end of what dnsmasq has printed, or where to read it."""
    if supervisor.name == "systemd":
        service = service_name("network", network.name, Paths(Path(network.directory).parents[1]).scope)
        command = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=10", f"--unit={service}"]
        return run(command, check=False).text[-400:] or f"see journalctl --unit '{service}'"
    return (read_capped(Path(network.directory) / LOG, 1024 * 1024) or b"").decode("utf-8", "replace")[-400:]
