# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The verbs that build, mend and remove a network on this host, and the look at what is there."""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from .._core.errors import Conflict
from .._host.files import ensure_directory, read_capped, sync_directory, write_if_changed, write_json
from .._host.locks import Lock, hold
from .._host.paths import Paths
from .._host.run import find_tool, require_tool, run
from .._host.supervisor import open_supervisor
from . import forwarding, service
from .bridge import Link, is_ours, parse_link, render_creation, render_mending
from .dnsmasq import CONFIGURATION
from .guests import HOSTS, LEASES
from .model import (
    ADDRESS,
    DNSMASQ_UID,
    HARDWARE_ADDRESS,
    Desired,
    Intent,
    Network,
    Recorded,
    build_network,
    render_record,
)
from .nftables import Table, parse_table, render_removal, render_rules, table_name
from .observed import BATCH, RULES, Current, Observed
from .plan import needs_survey
from .record import RECORD, find_record
from .subnets import choose_address, require_free
from .survey import find_free_uid, find_taken, find_users

TOOLS = ("ip", "nft", "dnsmasq", "setpriv")
_LOCK_SECONDS = 60.0
_FILE_LIMIT_BYTES = 1024 * 1024
_OUR_FILES = (CONFIGURATION, RULES, BATCH, LEASES, service.LOG)


class Host:
    """NetworkHost for one network."""

    def __init__(self, paths: Paths, name: str) -> None:
        self.paths = paths
        self.name = name
        self.directory = paths.network(name)
        self.supervisor = open_supervisor(paths)

    def observe(self, desired: Desired) -> Current:
        recorded = find_record(self.paths, self.name)
        network = self._build(recorded)
        is_wanted = desired.state != "absent"
        tools = tuple(tool for tool in TOOLS if find_tool(tool) is None) if is_wanted else ()
        survey = needs_survey(desired, recorded) and "ip" not in tools
        return Current(
            recorded=recorded,
            network=network,
            observed=self._observe(recorded, network, is_wanted),
            directory=str(self.directory),
            users=find_users(self.paths, self.name) if recorded is not None else (),
            taken=find_taken(self.paths, self.name) if survey else None,
            missing_tools=tools,
        )

    def _observe(self, recorded: Recorded | None, network: Network | None, is_wanted: bool) -> Observed:
        unit = service.service_unit(network) if network is not None else None
        return Observed(
            link=observe_link(self.name),
            table=_observe_table(self.name) if recorded is not None or is_wanted else None,
            files=self._read_files(),
            is_serving=unit is not None and self.supervisor.find(unit) is not None,
            is_unit_installed=unit is None or self.supervisor.is_installed(unit),
            is_forwarding=forwarding.is_forwarding(),
            has_claim=forwarding.has_claim(self.paths, self.name),
            has_directory=self.directory.is_dir(),
        )

    def require_tools(self, tools: Sequence[str]) -> None:
        for tool in tools:
            require_tool(tool)

    def record(self, intent: Intent) -> None:
        with hold(self.paths, [Lock("allocation", "networks")], _LOCK_SECONDS):
            before = find_record(self.paths, self.name)
            recorded = self._choose(intent, before)
            ensure_directory(self.directory, 0o711)
            write_json(self.directory / RECORD, render_record(self.name, recorded))

    def finish(self) -> None:
        recorded = self._require_record()
        done = replace(recorded, intent=replace(recorded.intent, work=None))
        write_json(self.directory / RECORD, render_record(self.name, done))

    def load_rules(self) -> None:
        rules = render_rules(self._require_network())
        if not (rules is not None):
            raise AssertionError()
        # Checked before it replaces the file, so that what is loaded at boot is always whole.
        run(["nft", "-c", "-j", "-f", "-"], stdin=rules.encode())
        write_if_changed(self.directory / RULES, rules.encode())
        run(["nft", "-j", "-f", "-"], stdin=rules.encode())

    def unload_rules(self) -> None:
        run(["nft", "-j", "-f", "-"], stdin=render_removal(self.name).encode())
        (self.directory / RULES).unlink(missing_ok=True)

    def ensure_bridge(self) -> None:
        network = self._require_network()
        batch = render_creation(network)
        write_if_changed(self.directory / BATCH, batch.encode())
        link = observe_link(self.name)
        if link is None:
            run(["ip", "-batch", "-"], stdin=batch.encode())
        elif not is_ours(link, network):
            raise Conflict(f"network {self.name}: an interface {self.name} that is not ours has appeared")
        else:
            mending = render_mending(network, link)
            if mending:
                run(["ip", "-batch", "-"], stdin=mending.encode())
        _turn_ipv6_off(self.name)

    def remove_bridge(self) -> None:
        link = observe_link(self.name)
        if link is not None and is_ours(link, self._require_network()):
            run(["ip", "link", "delete", "dev", self.name, "type", "bridge"])

    def claim_forwarding(self) -> None:
        forwarding.claim(self.paths, self.name)

    def release_forwarding(self) -> None:
        forwarding.release(self.paths, self.name)

    def serve(self) -> None:
        service.start(self._require_network(), self.supervisor)

    def stop_serving(self) -> None:
        service.stop(self._require_network(), self.supervisor)

    def remove_files(self) -> None:
        if not self.directory.is_dir():
            return
        hosts = self.directory / HOSTS
        if hosts.is_dir():
            for path in hosts.iterdir():
                path.unlink()
            hosts.rmdir()
        for name in (*_OUR_FILES, RECORD):
            (self.directory / f".new-{name}").unlink(missing_ok=True)
            (self.directory / name).unlink(missing_ok=True)
        try:
            self.directory.rmdir()
        except OSError as error:
            raise Conflict(f"network {self.name}: {self.directory} cannot be removed: {error.strerror}") from None
        sync_directory(self.paths.networks)

    def _choose(self, intent: Intent, before: Recorded | None) -> Recorded:
        """The record for intent, with everything chosen that is chosen once; Conflict if the subnet is taken."""
        volatile = dict(before.volatile) if before is not None else {}
        address = intent.config.get("ipv4.address", "none")
        if intent.work != "delete":
            self._choose_address(address, before, volatile)
        if DNSMASQ_UID not in volatile:
            volatile[DNSMASQ_UID] = str(find_free_uid(self.paths, self.name))
        if HARDWARE_ADDRESS not in volatile:
            volatile[HARDWARE_ADDRESS] = _hardware_address(random.randrange(2**24))
        return Recorded(before.uuid if before is not None else str(uuid.uuid4()), intent, volatile)

    def _choose_address(self, address: str, before: Recorded | None, volatile: dict[str, str]) -> None:
        if address != "auto":
            volatile.pop(ADDRESS, None)
        if address == "auto" and ADDRESS not in volatile:
            taken = find_taken(self.paths, self.name)
            volatile[ADDRESS] = choose_address(self.name, taken, random.randrange(2**16))
        elif address not in ("auto", "none"):
            is_new = before is None or not before.exists or before.intent.config.get("ipv4.address") != address
            if is_new:
                require_free(self.name, address, find_taken(self.paths, self.name))

    def _require_record(self) -> Recorded:
        recorded = find_record(self.paths, self.name)
        if recorded is None:
            raise Conflict(f"network {self.name} does not exist (any more)")
        return recorded

    def _require_network(self) -> Network:
        network = self._build(self._require_record())
        if network is None:
            raise Conflict(f"network {self.name}: no address has been chosen for it: run the task again")
        return network

    def _build(self, recorded: Recorded | None) -> Network | None:
        if recorded is None:
            return None
        return build_network(self.name, recorded.uuid, recorded.intent.config, recorded.volatile, str(self.directory))

    def _read_files(self) -> Mapping[str, str]:
        files = {}
        for name in (CONFIGURATION, RULES, BATCH):
            data = read_capped(self.directory / name, _FILE_LIMIT_BYTES)
            if data is not None:
                files[name] = data.decode("utf-8", "replace")
        return files


def observe_link(name: str) -> Link | None:
    """The interface of that name, whatever it is."""
    if not Path(f"/sys/class/net/{name}").exists():
        return None
    answer = run(["ip", "-j", "-d", "address", "show", "dev", name], check=False)
    links = answer.json() if answer.status == 0 else []
    if not links:
        return None
    switch = _ipv6_switch(name)
    return parse_link(links[0], not switch.exists() or switch.read_text().strip() == "1")


def _observe_table(name: str) -> Table | None:
    if find_tool("nft") is None:
        return None
    answer = run(["nft", "-j", "list", "table", "inet", table_name(name)], check=False)
    return parse_table(answer.json()) if answer.status == 0 else None


def _turn_ipv6_off(name: str) -> None:
    """Without it the host would have a link-local address there, open to guests past all IPv4 rules."""
    switch = _ipv6_switch(name)
    if switch.exists():
        switch.write_text("1")


def _ipv6_switch(name: str) -> Path:
    return Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")


def _hardware_address(number: int) -> str:
    """A MAC address in the range that LXD uses as well."""
    digits = f"{number:06x}"
    return f"00:16:3e:{digits[:2]}:{digits[2:4]}:{digits[4:]}"
