# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""nft, dnsmasq, ip and systemd files against golden files; UPDATE_GOLDEN=1 writes them anew, then read the diff."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import InvalidRequest
from ansible_collections.tandem.machines.plugins.module_utils._host.unit import render_unit
from ansible_collections.tandem.machines.plugins.module_utils._network.bridge import (
    Link,
    is_ours,
    parse_link,
    render_creation,
    render_mending,
)
from ansible_collections.tandem.machines.plugins.module_utils._network.dnsmasq import render_configuration
from ansible_collections.tandem.machines.plugins.module_utils._network.model import Network
from ansible_collections.tandem.machines.plugins.module_utils._network.nftables import (
    owners,
    parse_table,
    render_removal,
    render_rules,
    wanted_table,
)
from ansible_collections.tandem.machines.plugins.module_utils._network.service import service_unit
from ansible_collections.tandem.machines.plugins.module_utils._spec.network import NETWORK_CONFIG

GOLDEN = pathlib.Path(__file__).parent / "golden"
UUID = "12345678-0000-4000-8000-000000000000"


def network(config: dict[str, Any], directory: str = "/var/lib/tandem/networks/tdn0", name: str = "tdn0") -> Network:
    address = config.get("ipv4.address", "10.93.0.1/24")
    return Network(
        name=name,
        uuid=UUID,
        config=NETWORK_CONFIG.parse(config, "network tdn0"),
        hwaddr="00:16:3e:01:02:03",
        address=None if address == "none" else address,
        uid=1900000003,
        directory=directory,
    )


CASES: dict[str, dict[str, Any]] = {
    "nat": {"ipv4.nat": True},
    "routed": {"ipv4.nat": False, "dns.mode": "none", "ipv4.dhcp.gateway": "10.93.0.254"},
    "unfiltered_nat": {"ipv4.nat": True, "ipv4.firewall": False, "dns.mode": "dynamic"},
    "not_routed": {"ipv4.routing": False, "ipv4.dhcp": False},
    "everything": {
        "bridge.mtu": 9000,
        "dns.domain": "lab.example.org",
        "dns.search": "lab.example.org,example.org",
        "ipv4.address": "10.93.7.9/20",
        "ipv4.dhcp.expiry": "12h",
        "ipv4.dhcp.ranges": "10.93.1.1-10.93.1.99,10.93.7.1-10.93.7.20",
        "ipv4.nat": True,
        "user.note": "a\u00e4#'\"",
    },
    "plain": {"ipv4.address": "none"},
}
RENDERERS = {
    "rules.json": lambda made: render_rules(made) or "",
    "dnsmasq.conf": lambda made: render_configuration(made) if made.address else "",
    "link.batch": render_creation,
    "service": lambda made: render_unit(service_unit(made)),
}


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("kind", sorted(RENDERERS))
def test_rendered_files(case: str, kind: str) -> None:
    rendered = RENDERERS[kind](network(CASES[case]))
    path = GOLDEN / f"{case}.{kind}"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(rendered)
    assert rendered == path.read_text()


def listing(rules: str) -> dict[str, Any]:
    """What nft would list after loading rules: the same objects, with handles."""
    entries: list[dict[str, Any]] = [{"metainfo": {"version": "1.0.6"}}]
    for handle, command in enumerate(json.loads(rules)["nftables"][2:]):
        ((kind, thing),) = command["add"].items()
        entries.append({kind: {**thing, "handle": handle}})
    return {"nftables": entries}


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_loaded_table_is_recognised(case: str) -> None:
    made = network(CASES[case])
    rules = render_rules(made)
    if rules is None:
        assert wanted_table(made) is None
        return
    table = parse_table(listing(rules))
    assert table == wanted_table(made)
    assert owners(table) == {UUID}


def _without_a_rule(entries: list[dict[str, Any]]) -> None:
    entries.remove(next(entry for entry in entries if "rule" in entry))


def _with_a_foreign_rule(entries: list[dict[str, Any]]) -> None:
    entries.append({"rule": {"chain": "forward", "expr": [{"drop": None}]}})


def _with_a_replaced_rule(entries: list[dict[str, Any]]) -> None:
    next(entry for entry in entries if "rule" in entry)["rule"].pop("comment")


def _with_another_policy(entries: list[dict[str, Any]]) -> None:
    next(entry for entry in entries if "chain" in entry)["chain"]["policy"] = "drop"


def _with_a_foreign_set(entries: list[dict[str, Any]]) -> None:
    entries.append({"set": {"name": "x"}})


@pytest.mark.parametrize(
    "damage",
    [_without_a_rule, _with_a_foreign_rule, _with_a_replaced_rule, _with_another_policy, _with_a_foreign_set],
)
def test_a_table_changed_by_hand_is_noticed(damage: Any) -> None:
    made = network(CASES["nat"])
    rules = render_rules(made)
    assert rules is not None
    listed = listing(rules)
    damage(listed["nftables"])
    assert parse_table(listed) != wanted_table(made)


def test_every_option_that_shapes_rules_changes_their_mark() -> None:
    base = network(CASES["nat"])
    for change in (
        {"ipv4.nat": False},
        {"ipv4.nat": True, "ipv4.firewall": False},
        {"ipv4.nat": True, "ipv4.routing": False},
        {"ipv4.nat": True, "ipv4.address": "10.93.0.2/24"},
    ):
        assert wanted_table(network(change)) != wanted_table(base)
    assert wanted_table(network({"ipv4.nat": True, "bridge.mtu": 9000})) == wanted_table(base)


def test_rules_replace_only_their_own_table() -> None:
    rules = render_rules(network(CASES["nat"]))
    assert rules is not None
    for text in (rules, render_removal("tdn0")):
        for command in json.loads(text)["nftables"]:
            ((_unused, target),) = command.items()
            ((kind, thing),) = target.items()
            assert thing.get("table", thing.get("name")) == "tandem-tdn0", command
            assert kind in ("table", "chain", "rule")


@pytest.mark.parametrize("bad", ["/var/lib/a b", "/var/lib/a#b", '/var/lib/"x', "/x\nconf-script=/bin/sh", "/\u00e4"])
def test_paths_that_a_file_cannot_hold_are_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be written"):
        render_configuration(network({}, directory=bad))


def test_dnsmasq_never_gets_a_script_or_more_than_a_line_per_option() -> None:
    for case in CASES.values():
        made = network(case)
        if made.address is None:
            continue
        for line in render_configuration(made).splitlines()[1:]:
            assert line.partition("=")[0] not in {"dhcp-script", "conf-file", "conf-dir", "addn-hosts", "enable-tftp"}
            assert " " not in line


# --- The bridge ---


def link(**facts: Any) -> Link:
    whole = {
        "is_bridge": True,
        "alias": f"tandem:{UUID}",
        "hwaddr": "00:16:3e:01:02:03",
        "mtu": 1500,
        "is_up": True,
        "addresses": ("10.93.0.1/24",),
        "is_ipv6_off": True,
    }
    return Link(**{**whole, **facts})


@pytest.mark.parametrize(
    ("facts", "commands"),
    [
        ({}, []),
        ({"alias": ""}, [f"link set dev tdn0 alias tandem:{UUID}"]),
        ({"mtu": 1400}, ["link set dev tdn0 mtu 1500"]),
        ({"is_up": False}, ["link set dev tdn0 up"]),
        ({"addresses": ()}, ["address add 10.93.0.1/24 dev tdn0"]),
        (
            {"addresses": ("10.93.0.5/24", "10.9.9.9/32")},
            [
                "address delete 10.93.0.5/24 dev tdn0",
                "address delete 10.9.9.9/32 dev tdn0",
                "address add 10.93.0.1/24 dev tdn0",
            ],
        ),
        ({"hwaddr": "00:16:3e:ff:ff:ff"}, ["link set dev tdn0 address 00:16:3e:01:02:03"]),
    ],
)
def test_only_what_differs_is_mended(facts: dict[str, Any], commands: list[str]) -> None:
    assert render_mending(network({}), link(**facts)).splitlines() == commands


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, True),
        ({"hwaddr": "02:00:00:00:00:01"}, True),
        ({"alias": ""}, True),
        ({"alias": "", "hwaddr": "02:00:00:00:00:01"}, False),
        ({"alias": "tandem:another"}, False),
        ({"alias": "uplink"}, False),
        ({"is_bridge": False}, False),
    ],
)
def test_a_bridge_is_ours_by_alias_or_by_the_address_chosen_for_it(facts: dict[str, Any], expected: bool) -> None:
    assert is_ours(link(**facts), network({})) is expected


def test_ip_is_understood() -> None:
    answer = {
        "ifname": "tdn0",
        "flags": ["NO-CARRIER", "BROADCAST", "MULTICAST", "UP"],
        "mtu": 1500,
        "address": "00:16:3e:01:02:03",
        "linkinfo": {"info_kind": "bridge", "info_data": {}},
        "ifalias": f"tandem:{UUID}",
        "addr_info": [
            {"family": "inet", "local": "10.93.0.1", "prefixlen": 24},
            {"family": "inet6", "local": "fe80::1", "prefixlen": 64},
        ],
    }
    assert parse_link(answer, True) == link()
    assert parse_link({}, False) == Link(False, "", "", 0, False, (), False)
