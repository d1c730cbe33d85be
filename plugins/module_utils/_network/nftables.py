# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The nft table of a network: rendered as JSON, and recognised when it is read back. Pure: no I/O."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from .model import Network

Statement = dict[str, Any]
# What identifies a loaded table: its chains (name, type, hook, priority, policy) and (chain, comment) of its rules.
Table = tuple[tuple[str, ...], ...]

_LINK_LOCAL = "169.254.0.0/16"
_DNS_PORT = 53
_DHCP_PORT = 67
_FILTER_PRIORITY = 0
_SOURCE_NAT_PRIORITY = 100


def table_name(network_name: str) -> str:
    return f"tandem-{network_name}"


def render_rules(network: Network) -> str | None:
    """A transaction for nft -j -f that replaces the whole table, as JSON text; None if no rule is needed."""
    chains = _chains(network)
    if not chains:
        return None
    table = {"family": "inet", "name": table_name(network.name)}
    # Deleting needs a table that exists, hence the first add; all of it is one transaction.
    commands: list[Statement] = [{"add": {"table": table}}, {"delete": {"table": table}}, {"add": {"table": table}}]
    comment = _comment(network, chains)
    for chain, rules in chains:
        commands.append({"add": {"chain": {"family": "inet", "table": table["name"], **chain}}})
        for expression in rules:
            rule = {"family": "inet", "table": table["name"], "chain": chain["name"]}
            commands.append({"add": {"rule": {**rule, "comment": comment, "expr": expression}}})
    # One command on a line: people read this file too.
    return '{"nftables": [\n' + ",\n".join(json.dumps(command) for command in commands) + "\n]}\n"


def render_removal(network_name: str) -> str:
    """A transaction that removes the table whether it exists or not."""
    table = {"family": "inet", "name": table_name(network_name)}
    return json.dumps({"nftables": [{"add": {"table": table}}, {"delete": {"table": table}}]})


def wanted_table(network: Network) -> Table | None:
    """The table as parse_table will see it once render_rules is loaded."""
    chains = _chains(network)
    if not chains:
        return None
    comment = _comment(network, chains)
    return tuple(
        sorted([_chain_facts(chain) for chain, _unused in chains])
        + sorted((chain["name"], comment) for chain, rules in chains for _unused in rules)
    )


def parse_table(listing: Mapping[str, Any]) -> Table:
    """The facts of nft -j list table.

    Rules are recognised by a comment that carries a digest of the whole table, not by their expressions:
    nft prints those differently from version to version, while a rule that was added, replaced or deleted
    by hand shows all the same.
    """
    chains = []
    rules = []
    for entry in listing.get("nftables", ()):
        if "chain" in entry:
            chains.append(_chain_facts(entry["chain"]))
        elif "rule" in entry:
            rules.append((str(entry["rule"]["chain"]), str(entry["rule"].get("comment", ""))))
        elif "table" not in entry and "metainfo" not in entry:
            chains.append((next(iter(entry)),))
    return tuple(sorted(chains) + sorted(rules))


def owners(table: Table) -> frozenset[str]:
    """The uuids of the networks that a loaded table says it belongs to."""
    comments = (facts[1] for facts in table if len(facts) == 2)
    return frozenset(comment.split(":")[1] for comment in comments if comment.startswith("tandem:"))


def _chain_facts(chain: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(chain.get(key, "")) for key in ("name", "type", "hook", "prio", "policy"))


def _comment(network: Network, chains: object) -> str:
    digest = hashlib.sha256(json.dumps(chains, sort_keys=True).encode()).hexdigest()
    return f"{network.alias}:{digest[:16]}"


def _chains(network: Network) -> list[tuple[Statement, list[list[Statement]]]]:
    """The chains that have rules, each with its rules as lists of nft statements."""
    if network.address is None:
        return []
    chains = [
        (_base_chain("input", "filter", _FILTER_PRIORITY), list(_input_rules(network))),
        (_base_chain("forward", "filter", _FILTER_PRIORITY), list(_forward_rules(network))),
        (_base_chain("postrouting", "nat", _SOURCE_NAT_PRIORITY), list(_nat_rules(network))),
    ]
    return [(chain, rules) for chain, rules in chains if rules]


def _base_chain(hook: str, kind: str, priority: int) -> Statement:
    return {"name": hook, "type": kind, "hook": hook, "prio": priority, "policy": "accept"}


def _input_rules(network: Network) -> Iterator[list[Statement]]:
    if network.get("ipv4.firewall"):
        # Linux answers for the bridge's address on every interface, so binding alone does not keep others out.
        yield [
            _match("!=", _meta("iifname"), {"set": ["lo", network.name]}),
            _match("==", _ip("daddr"), str(network.interface.ip)),
            _match("==", _meta("l4proto"), {"set": ["tcp", "udp"]}),
            _match("==", _payload("th", "dport"), {"set": [_DNS_PORT, _DHCP_PORT]}),
            {"drop": None},
        ]


def _forward_rules(network: Network) -> Iterator[list[Statement]]:
    comes_in = _match("==", _meta("iifname"), network.name)
    goes_out = _match("==", _meta("oifname"), network.name)
    if not network.get("ipv4.routing"):
        yield [comes_in, _match("!=", _meta("oifname"), network.name), {"drop": None}]
        yield [_match("!=", _meta("iifname"), network.name), goes_out, {"drop": None}]
    elif network.get("ipv4.firewall"):
        # With bridge-nf-call-iptables, frames from guest to guest pass here too.
        yield [comes_in, goes_out, {"accept": None}]
        # RFC 3927: routers do not forward link-local addresses; a cloud host's metadata service is one.
        yield [comes_in, _match("==", _ip("daddr"), _prefix(_LINK_LOCAL)), {"drop": None}]
        yield [comes_in, {"accept": None}]
        yield from _inward_rules(network, goes_out)


def _inward_rules(network: Network, goes_out: Statement) -> Iterator[list[Statement]]:
    if network.get("ipv4.nat"):
        yield [goes_out, _match("in", {"ct": {"key": "state"}}, ["established", "related"]), {"accept": None}]
        yield [goes_out, _match("in", {"ct": {"key": "status"}}, "dnat"), {"accept": None}]
        yield [goes_out, {"drop": None}]
    else:
        yield [goes_out, {"accept": None}]


def _nat_rules(network: Network) -> Iterator[list[Statement]]:
    if not network.get("ipv4.nat"):
        return
    subnet = _prefix(str(network.interface.network))
    leaves = [
        _match("==", _ip("saddr"), subnet),
        _match("!=", _ip("daddr"), subnet),
        _match("!=", _meta("oifname"), network.name),
    ]
    # A guest must not get a source port below 1024 of the host: some services trust those (CVE-2010-2242).
    ports = {"port": {"range": [1024, 65535]}}
    yield [*leaves, _match("==", _meta("l4proto"), {"set": ["tcp", "udp"]}), {"masquerade": ports}]
    yield [*leaves, {"masquerade": None}]


def _match(operator: str, left: Statement, right: object) -> Statement:
    return {"match": {"op": operator, "left": left, "right": right}}


def _meta(key: str) -> Statement:
    return {"meta": {"key": key}}


def _payload(protocol: str, field: str) -> Statement:
    return {"payload": {"protocol": protocol, "field": field}}


def _ip(field: str) -> Statement:
    return _payload("ip", field)


def _prefix(text: str) -> Statement:
    address, _unused, length = text.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}}
