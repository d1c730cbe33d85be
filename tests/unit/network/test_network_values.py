# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Lease times, domains, and the model's rules about several options at once."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core import network_values
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import Conflict, InvalidRequest
from ansible_collections.tandem.machines.plugins.module_utils._network.model import (
    Desired,
    Intent,
    Recorded,
    check_config,
    merge_intent,
    parse_desired,
    parse_record,
    render_record,
)
from ansible_collections.tandem.machines.plugins.module_utils._spec.network import NETWORK_CONFIG
from hypothesis import given
from hypothesis import strategies as st

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
DOMAIN = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "bridge.mtu": st.integers(1280, 16384),
        "dns.domain": DOMAIN,
        "dns.mode": st.sampled_from(["managed", "dynamic", "none"]),
        "dns.search": st.lists(DOMAIN, min_size=1, max_size=6).map(tuple),
        "ipv4.address": st.sampled_from(["auto", "none", "10.93.0.1/24"]),
        "ipv4.dhcp": st.booleans(),
        "ipv4.dhcp.expiry": st.integers(120, 2**31 - 1) | st.just("infinite"),
        "ipv4.nat": st.booleans(),
        "user.note": st.text(st.characters(exclude_categories=("C", "Zl", "Zp"))),
    },
)


@given(st.integers(120, 2**31 - 1) | st.just("infinite"))
def test_lease_times_survive_rendering(value: Any) -> None:
    kind = network_values.LEASE_TIME
    assert kind.parse(kind.render(value)) == value


@pytest.mark.parametrize(
    ("text", "seconds"), [("2m", 120), ("90m", 5400), (120, 120), ("7d", 604800), ("1h", 3600), ("300s", 300)]
)
def test_lease_times_are_read_as_dnsmasq_reads_them(text: object, seconds: int) -> None:
    assert network_values.LEASE_TIME.parse(text) == seconds


@pytest.mark.parametrize(
    "bad", ["", "1", "119", "1m", "1h30m", "h", "-1h", "9999999999d", True, None, [], "1h\n", "\u0661h"]
)
def test_wrong_lease_times_are_refused(bad: object) -> None:
    with pytest.raises(InvalidRequest, match="lease time"):
        network_values.LEASE_TIME.parse(bad)


@given(st.lists(DOMAIN, min_size=1, max_size=6).map(tuple))
def test_domains_survive_rendering(value: tuple[str, ...]) -> None:
    kind = network_values.DOMAINS
    assert kind.parse(kind.render(value)) == value


@pytest.mark.parametrize("bad", ["", ",", "a b", "a,,b", "a\nb", "-a", "a,b,c,d,e,f,g", 7, ["a"]])
def test_wrong_domains_are_refused(bad: object) -> None:
    with pytest.raises(InvalidRequest):
        network_values.DOMAINS.parse(bad)


@pytest.mark.parametrize("given", ["auto", "fd00::1/64", True, ""])
def test_ipv6_is_refused_with_what_can_be_written(given: object) -> None:
    with pytest.raises(InvalidRequest, match=r"network tdn0: network config option ipv6.address: .*write none"):
        NETWORK_CONFIG.parse({"ipv6.address": given}, "network tdn0")


@given(CONFIGS)
def test_configs_and_records_survive_rendering(config: dict[str, Any]) -> None:
    recorded = Recorded("u", Intent("bridge", "text", config, "update"), {"dnsmasq.uid": "1900000000"})
    assert NETWORK_CONFIG.parse(NETWORK_CONFIG.render(config), "record") == config
    assert parse_record("tdn0", render_record("tdn0", recorded)) == recorded


@pytest.mark.parametrize(
    "damage",
    [
        {"schema": 2},
        {"config": None},
        {"config": {"ipv4.address": "x"}},
        {"config": {"no.such": "1"}},
        {"volatile": None},
        {"volatile": 3},
        {"type": ...},
    ],
)
def test_damaged_records_are_a_conflict_in_one_line(damage: dict[str, Any]) -> None:
    record = {**render_record("tdn0", Recorded("u", Intent("bridge", "", {}), {})), **damage}
    record = {key: value for key, value in record.items() if value is not ...}
    with pytest.raises(Conflict, match=r"^network tdn0: its record") as caught:
        parse_record("tdn0", record)
    assert "\n" not in str(caught.value)


@given(CONFIGS, st.booleans())
def test_the_task_that_creates_a_network_changes_nothing_the_second_time(config: dict[str, Any], replace: bool) -> None:
    desired = Desired("tdn0", config=config, replace=replace)
    first = merge_intent(desired, None)
    assert merge_intent(desired, first) == first


def test_new_networks_are_bridges_with_an_automatic_address_and_nat() -> None:
    assert merge_intent(Desired("tdn0"), None).config == {"ipv4.address": "auto", "ipv4.nat": True}
    fixed = merge_intent(Desired("tdn0", config={"ipv4.address": "10.93.0.1/24"}), None)
    assert fixed.config == {"ipv4.address": "10.93.0.1/24"}
    assert merge_intent(Desired("tdn0", config={"ipv4.nat": False}), None).config["ipv4.nat"] is False
    assert merge_intent(Desired("tdn0", type="none"), None).config == {}
    assert merge_intent(Desired("tdn0", config={"ipv4.address": None}), None).config == {}


def test_the_type_is_fixed() -> None:
    with pytest.raises(Conflict, match="type is bridge and cannot become none"):
        merge_intent(Desired("tdn0", type="none"), Intent("bridge", "", {}))


@pytest.mark.parametrize(
    ("kind", "config", "message"),
    [
        ("bridge", {"ipv4.address": "auto", "ipv4.dhcp.ranges": "10.0.0.2-10.0.0.9"}, "needs a fixed ipv4.address"),
        ("bridge", {"ipv4.address": "10.93.0.1/24", "ipv4.dhcp.ranges": "10.94.0.2-10.94.0.9"}, "not within the hosts"),
        ("bridge", {"ipv4.address": "10.93.0.1/24", "ipv4.dhcp.ranges": "10.93.0.2-10.93.0.255"}, "not within"),
        ("bridge", {"ipv4.address": "10.93.0.1/24", "ipv4.dhcp.ranges": "10.93.0.0-10.93.0.9"}, "not within"),
        ("bridge", {"ipv4.address": "10.93.0.1/24", "ipv4.dhcp.gateway": "10.94.0.1"}, "ipv4.dhcp.gateway 10.94.0.1"),
        ("bridge", {"ipv4.address": "10.93.0.255/24"}, "broadcast address"),
        ("bridge", {"ipv4.address": "127.0.0.2/8"}, "unicast"),
        ("bridge", {"ipv4.address": "224.0.0.1/24"}, "unicast"),
        ("bridge", {"ipv4.address": "169.254.1.1/24"}, "unicast"),
        ("bridge", {"ipv4.address": "10.0.0.1/7"}, "too much"),
        ("none", {"ipv4.address": "10.93.0.1/24"}, "not for type none"),
        ("none", {"ipv4.nat": True}, "ipv4.nat is not for type none"),
        ("none", {"dns.domain": "x"}, "not for type none"),
    ],
)
def test_options_that_do_not_fit_together_are_refused(kind: str, config: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest, match=message) as caught:
        check_config("tdn0", kind, NETWORK_CONFIG.parse(config, "network tdn0"))
    assert str(caught.value).startswith("network tdn0: ") and "\n" not in str(caught.value)


@pytest.mark.parametrize("config", [{"ipv4.address": "none"}, {}, {"bridge.mtu": 9000, "user.x": "y"}])
def test_type_none_takes_what_a_bridge_without_address_has(config: dict[str, Any]) -> None:
    check_config("tdn0", "none", config)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"name": "Bad"}, "network name 'Bad' is not valid"),
        ({"name": "a" * 16}, "is not valid"),
        ({"name": "../x"}, "is not valid"),
        ({"name": "br0\n"}, "is not valid"),
        ({"name": "lo.1"}, "is not valid"),
        ({"name": "default"}, "network name 'default' is reserved"),
        ({"name": "tdn0", "type": "macvlan"}, "type 'macvlan' is not one of bridge, none"),
        ({"name": "tdn0", "config": {"ipv4.adress": "auto"}}, "did you mean ipv4.address"),
        ({"name": "tdn0", "config": {"ipv4.nat": "maybe"}}, "ipv4.nat: 'maybe' is not a boolean"),
        ({"name": "tdn0", "config": {"bridge.mtu": 100}}, "1280 to 16384"),
        ({"name": "tdn0", "config": {"dns.domain": "a\nserver=1.2.3.4"}}, "not a DNS domain"),
        ({"name": "tdn0", "config": {"dns.search": "a,b#c"}}, "not a DNS domain"),
        ({"name": "tdn0", "config": {"bridge.hwaddr": "01:00:00:00:00:01"}}, "unicast MAC"),
        ({"name": "tdn0", "description": "two\nlines"}, "network tdn0: description"),
    ],
)
def test_bad_parameters_are_refused_in_one_line(params: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_desired(params)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_addresses_of_the_table_are_host_addresses() -> None:
    address = NETWORK_CONFIG.parse({"ipv4.address": "10.93.0.1/24"}, "x")["ipv4.address"]
    assert ipaddress.IPv4Interface(address).network == ipaddress.IPv4Network("10.93.0.0/24")
