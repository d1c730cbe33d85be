# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The acts that build, mend and remove a network, in the words of the domain. Pure: effects are the host's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .model import Intent


class NetworkHost(Protocol):
    """One network on this host. Every verb is idempotent and works from the network's record."""

    def require_tools(self, tools: Sequence[str]) -> None:
        """MissingDependency for the first of the programs that is not installed."""

    def record(self, intent: Intent) -> None:
        """Write the record; chooses what is to be chosen once, and Conflict if the subnet is taken."""

    def finish(self) -> None:
        """Write the record without work."""

    def load_rules(self) -> None: ...

    def unload_rules(self) -> None: ...

    def ensure_bridge(self) -> None:
        """Make the bridge or bring it into shape; Conflict if the name belongs to somebody else."""

    def remove_bridge(self) -> None:
        """Remove the bridge if it is ours."""

    def claim_forwarding(self) -> None:
        """Let the host forward IPv4, remembering what it did before."""

    def release_forwarding(self) -> None:
        """Give up the claim; with the last one the old setting comes back."""

    def serve(self) -> None:
        """(Re)start dnsmasq with the configuration of the record, also after a reboot."""

    def stop_serving(self) -> None: ...

    def remove_files(self) -> None:
        """Remove the network's directory, its record last."""


@dataclass(frozen=True)
class _NamedStep:
    """A step that needs no more than the network's name. Its subclasses inherit the dataclass's behaviour."""

    name: str


@dataclass(frozen=True)
class RequireTools:
    tools: tuple[str, ...]

    def describe(self) -> str:
        return f"require {', '.join(self.tools)}"

    def run(self, host: NetworkHost) -> None:
        host.require_tools(self.tools)


@dataclass(frozen=True)
class Record:
    name: str
    intent: Intent

    def describe(self) -> str:
        return f"record network {self.name}"

    def run(self, host: NetworkHost) -> None:
        host.record(self.intent)


class Finish(_NamedStep):
    def describe(self) -> str:
        return f"mark network {self.name} as done"

    def run(self, host: NetworkHost) -> None:
        host.finish()


class LoadRules(_NamedStep):
    def describe(self) -> str:
        return f"load the nftables rules of {self.name}"

    def run(self, host: NetworkHost) -> None:
        host.load_rules()


class UnloadRules(_NamedStep):
    def describe(self) -> str:
        return f"remove the nftables rules of {self.name}"

    def run(self, host: NetworkHost) -> None:
        host.unload_rules()


class EnsureBridge(_NamedStep):
    def describe(self) -> str:
        return f"set up bridge {self.name}"

    def run(self, host: NetworkHost) -> None:
        host.ensure_bridge()


class RemoveBridge(_NamedStep):
    def describe(self) -> str:
        return f"remove bridge {self.name}"

    def run(self, host: NetworkHost) -> None:
        host.remove_bridge()


class ClaimForwarding(_NamedStep):
    def describe(self) -> str:
        return f"let the host forward IPv4 for {self.name}"

    def run(self, host: NetworkHost) -> None:
        host.claim_forwarding()


class ReleaseForwarding(_NamedStep):
    def describe(self) -> str:
        return f"give up IPv4 forwarding for {self.name}"

    def run(self, host: NetworkHost) -> None:
        host.release_forwarding()


@dataclass(frozen=True)
class Serve:
    name: str
    with_dnsmasq: bool

    def describe(self) -> str:
        return f"start DHCP and DNS on {self.name}" if self.with_dnsmasq else f"let {self.name} come back at boot"

    def run(self, host: NetworkHost) -> None:
        host.serve()


class StopServing(_NamedStep):
    def describe(self) -> str:
        return f"stop DHCP and DNS on {self.name}"

    def run(self, host: NetworkHost) -> None:
        host.stop_serving()


class RemoveFiles(_NamedStep):
    def describe(self) -> str:
        return f"forget network {self.name}"

    def run(self, host: NetworkHost) -> None:
        host.remove_files()
