# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Host entries and leases: what is written for dnsmasq and what is read back."""

from __future__ import annotations

import ipaddress

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import InvalidRequest
from ansible_collections.tandem.machines.plugins.module_utils._network.guests import (
    Lease,
    keep_leases,
    parse_host,
    parse_leases,
    render_host,
)
from hypothesis import given
from hypothesis import strategies as st

MAC = "00:16:3e:00:00:07"
LEASES = (
    "1795442356 00:16:3e:00:00:07 10.93.9.7 web1 *\n"
    "0 00:16:3e:00:00:08 10.93.9.8 * 01:00:16:3e:00:00:08\n"
    "duid 00:01:00:01:2c\n"
    "1795442357 3 fd00::7 web1 00:01\n"
    "1795442358 00:16:3e:00:00:09 10.93.9"
)


@pytest.mark.parametrize("mode", ["managed", "dynamic", "none"])
@given(address=st.none() | st.ip_addresses(v=4).map(str))
def test_a_host_entry_is_read_back(mode: str, address: str | None) -> None:
    assert parse_host(render_host(mode, "web1", MAC, address)) == (MAC, address)


def test_names_are_given_only_when_managed() -> None:
    assert render_host("managed", "web1", MAC, "10.93.0.5") == f"{MAC},10.93.0.5,web1\n"
    assert render_host("managed", "web1", MAC, None) == f"{MAC},web1\n"
    assert render_host("dynamic", "web1", MAC, "10.93.0.5") == f"{MAC},10.93.0.5\n"
    assert "web1" not in render_host("none", "web1", MAC, None)


@pytest.mark.parametrize("bad", ["web1\ndhcp-script=/x", "web 1", "web1#", "a\0b"])
def test_text_that_means_something_to_dnsmasq_is_refused(bad: str) -> None:
    with pytest.raises(InvalidRequest):
        render_host("managed", bad, MAC, None)


@given(st.text())
def test_any_text_is_read_without_failing(text: str) -> None:
    parse_host(text)
    for lease in parse_leases(text):
        ipaddress.IPv4Address(lease.address)


def test_leases_are_read_and_the_rest_left_out() -> None:
    assert parse_leases(LEASES) == (
        Lease(MAC, "10.93.9.7", "web1", 1795442356),
        Lease("00:16:3e:00:00:08", "10.93.9.8", "", 0),
    )


def test_only_leases_of_the_subnet_are_kept() -> None:
    kept = keep_leases(LEASES, ipaddress.IPv4Network("10.93.9.0/29"))
    assert kept == LEASES.splitlines(keepends=True)[0]
    assert keep_leases(LEASES, ipaddress.IPv4Network("10.93.8.0/24")) == ""
