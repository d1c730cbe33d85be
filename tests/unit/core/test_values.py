# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Value types: what is accepted, what is refused, and that rendering loses nothing."""

from __future__ import annotations

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core import values
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import InvalidRequest
from hypothesis import given
from hypothesis import strategies as st

ADDRESSES = st.ip_addresses(v=4).map(str)
NORMAL_FORMS = {
    "BOOL": st.booleans(),
    "SIZE": st.integers(1, 2**63 - 1),
    "MEMORY": st.integers(1, 2**63 - 1) | st.integers(1, 100).map(lambda percent: f"{percent}%"),
    "CPUS": st.integers(1, 512).map(values.Cpus)
    | st.sets(st.integers(0, 511), min_size=1).map(lambda cpus: values.Cpus(len(cpus), tuple(sorted(cpus)))),
    "STRING": st.text(st.characters(exclude_categories=("C", "Zl", "Zp"))),
    "TEXT": st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",))),
    "PATH": st.lists(st.text("abc def-._", min_size=1).filter(lambda part: part not in (".", "..")), max_size=5).map(
        lambda parts: "/" + "/".join(parts)
    ),
    "IPV4_ADDRESS": ADDRESSES,
    "IPV4_RANGES": st.lists(
        st.tuples(ADDRESSES, ADDRESSES).map(lambda pair: tuple(sorted(pair, key=_key))), min_size=1
    ).map(tuple),
    "HARDWARE_ADDRESS": st.binary(min_size=6, max_size=6)
    .map(lambda raw: bytes([raw[0] & 0xFE]) + raw[1:])
    .map(lambda raw: raw.hex(":")),
}


def _key(address: str) -> tuple[int, ...]:
    return tuple(int(part) for part in address.split("."))


@pytest.mark.parametrize("name", sorted(NORMAL_FORMS))
@given(data=st.data())
def test_parse_undoes_render(name: str, data: st.DataObject) -> None:
    kind = getattr(values, name)
    normal = data.draw(NORMAL_FORMS[name])
    assert kind.parse(kind.render(normal)) == normal


@pytest.mark.parametrize(
    ("name", "given_value", "normal"),
    [
        ("SIZE", "2GiB", 2 * 1024**3),
        ("SIZE", "2048MiB", 2 * 1024**3),
        ("SIZE", 1000, 1000),
        ("SIZE", "1kB", 1000),
        ("BOOL", "true", True),
        ("BOOL", 0, False),
        ("BOOL", "Yes", True),
        ("MEMORY", "50%", "50%"),
        ("CPUS", 2, values.Cpus(2)),
        ("CPUS", "0-2", values.Cpus(3, (0, 1, 2))),
        ("CPUS", "1-1", values.Cpus(1, (1,))),
        ("CPUS", "0,2-3", values.Cpus(3, (0, 2, 3))),
        ("IPV4_INTERFACE", "10.20.0.1/24", "10.20.0.1/24"),
        ("IPV4_INTERFACE", "auto", "auto"),
        ("PATH", "/srv//data/", "/srv/data"),
        ("DOMAIN", "Example.org", "example.org"),
        ("HARDWARE_ADDRESS", "00:16:3E:AA:BB:CC", "00:16:3e:aa:bb:cc"),
    ],
)
def test_normal_forms(name: str, given_value: object, normal: object) -> None:
    assert getattr(values, name).parse(given_value) == normal


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("SIZE", "1 GB B"),
        ("SIZE", "1G"),
        ("SIZE", "-1GiB"),
        ("SIZE", "0"),
        ("SIZE", True),
        ("SIZE", "\u0661\u0662"),
        ("SIZE", "9999999999999999999"),
        ("SIZE", "8EiB"),
        ("BOOL", "maybe"),
        ("BOOL", [True]),
        ("MEMORY", "0%"),
        ("MEMORY", "101%"),
        ("CPUS", "0"),
        ("CPUS", "0-"),
        ("CPUS", "3-1"),
        ("CPUS", True),
        ("STRING", "a\nb"),
        ("STRING", "a\u2028b"),
        ("STRING", {"a": 1}),
        ("TEXT", "a\0b"),
        ("PATH", "srv"),
        ("PATH", "/srv/../etc"),
        ("IPV4_INTERFACE", "10.20.0.0/24"),
        ("IPV4_INTERFACE", "10.20.0.1"),
        ("IPV4_INTERFACE", "10.20.0.1/33"),
        ("IPV4_RANGES", "10.0.0.9-10.0.0.1"),
        ("IPV4_RANGES", "10.0.0.9"),
        ("DOMAIN", "-x.org"),
        ("DOMAIN", "a b"),
        ("HARDWARE_ADDRESS", "01:00:5e:00:00:01"),
        ("HARDWARE_ADDRESS", "00:16:3e:00:00"),
    ],
)
def test_bad_values_are_refused_in_one_line(name: str, bad: object) -> None:
    with pytest.raises(InvalidRequest) as caught:
        getattr(values, name).parse(bad)
    assert "\n" not in str(caught.value)


@given(st.text())
def test_no_text_crashes_any_type(text: str) -> None:
    for kind in (value for value in vars(values).values() if isinstance(value, values.ValueType)):
        try:
            normal = kind.parse(text)
        except InvalidRequest:
            continue
        assert kind.parse(kind.render(normal)) == normal
