# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Value types: parse brings what a user wrote or a record holds into one normal form, render writes it back.

For every type parse(render(x)) == x holds for each normal form x. Pure: no I/O.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .errors import InvalidRequest
from .names import require_name

_UNITS: dict[str, int] = {"": 1, "B": 1}
for _power, _letter in enumerate("KMGTPE", start=1):
    _UNITS[f"{_letter}iB"] = 1024**_power
    _UNITS[f"{'k' if _letter == 'K' else _letter}B"] = 1000**_power
_BINARY_UNITS = ("EiB", "PiB", "TiB", "GiB", "MiB", "KiB")
_SIZE = r"([0-9]{1,19})([A-Za-z]{0,3})"
_CPU_SET = r"[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*"
_DOMAIN = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*"
_HARDWARE_ADDRESS = r"[0-9a-f]{2}(:[0-9a-f]{2}){5}"
_TRUE = ("true", "yes", "on", "1")
_FALSE = ("false", "no", "off", "0")
_LINE_ENDS = (0x2028, 0x2029)
TEXT_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class ValueType:
    """A kind of value: its name in messages and documentation, and both directions.

    parse raises InvalidRequest whose text completes the sentence "VALUE ...".
    """

    name: str
    parse: Callable[[object], Any]
    render: Callable[[Any], str] = str


def _reject(value: object, remedy: str) -> InvalidRequest:
    shown = ascii(value)
    return InvalidRequest(f"{shown if len(shown) <= 80 else shown[:77] + '...'} {remedy}")


def _scalar_text(value: object, remedy: str) -> str:
    """Numbers and booleans come unquoted from YAML; lists and dicts are mistakes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int, float)):
        return str(value)
    raise _reject(value, remedy)


def _require_plain(text: str, remedy: str) -> str:
    if any(ord(character) < 32 or 127 <= ord(character) < 160 or ord(character) in _LINE_ENDS for character in text):
        raise _reject(text, remedy)
    return text


def parse_bool(value: object) -> bool:
    remedy = "is not a boolean: write true or false"
    text = _scalar_text(value, remedy).lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise _reject(value, remedy)


def parse_size(value: object) -> int:
    """Bytes from LXD's notation: a number with B, kB..EB (powers of 1000) or KiB..EiB (powers of 1024)."""
    remedy = "is not a size: write a number with a unit, such as 512MiB or 2GiB"
    match = re.fullmatch(_SIZE, _scalar_text(value, remedy))
    if match is None or match[2] not in _UNITS or isinstance(value, bool):
        raise _reject(value, remedy)
    size_bytes = int(match[1]) * _UNITS[match[2]]
    if size_bytes >= 2**63:
        raise _reject(value, "is too large: sizes end below 8EiB")
    return size_bytes


def render_size(size_bytes: int) -> str:
    """The shortest exact binary notation: 2147483648 becomes 2GiB, 1000 stays 1000."""
    for unit in _BINARY_UNITS:
        if size_bytes and size_bytes % _UNITS[unit] == 0:
            return f"{size_bytes // _UNITS[unit]}{unit}"
    return str(size_bytes)


def parse_positive_size(value: object) -> int:
    size_bytes = parse_size(value)
    if size_bytes == 0:
        raise _reject(value, "must be larger than zero")
    return size_bytes


def parse_memory(value: object) -> int | str:
    """Bytes, or a share of the host's memory kept as 'N%' (1 to 100)."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}%", value, re.ASCII):
        percent = int(value[:-1])
        if 1 <= percent <= 100:
            return f"{percent}%"
        raise _reject(value, "is not a share of the host's memory: write 1% to 100%")
    return parse_positive_size(value)


def render_memory(value: int | str) -> str:
    return value if isinstance(value, str) else render_size(value)


def parse_integer(minimum: int, maximum: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        remedy = f"is not a whole number from {minimum} to {maximum}"
        text = _scalar_text(value, remedy)
        if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,18}", text, re.ASCII):
            raise _reject(value, remedy)
        if not minimum <= int(text) <= maximum:
            raise _reject(value, remedy)
        return int(text)

    return parse


@dataclass(frozen=True)
class Cpus:
    """limits.cpu: a number of CPUs to float over, or a set of CPUs to be pinned to (then count is its size)."""

    count: int
    pinned: tuple[int, ...] = ()


def parse_cpus(value: object) -> Cpus:
    """LXD's notation: 2 is a count, 0-1 or 0,3 or 1-1 a set."""
    remedy = "is not a CPU limit: write a count such as 2, or a set such as 0-3 or 0,2"
    text = _scalar_text(value, remedy)
    if isinstance(value, bool) or not re.fullmatch(_CPU_SET, text):
        raise _reject(value, remedy)
    if text.isdigit():
        if int(text) == 0:
            raise _reject(value, remedy)
        return Cpus(int(text))
    pinned: set[int] = set()
    for part in text.split(","):
        first, _unused, last = part.partition("-")
        if int(last or first) < int(first):
            raise _reject(value, remedy)
        pinned.update(range(int(first), int(last or first) + 1))
    return Cpus(len(pinned), tuple(sorted(pinned)))


def render_cpus(cpus: Cpus) -> str:
    if not cpus.pinned:
        return str(cpus.count)
    parts = [f"{first}-{last}" for first, last in _ranges(cpus.pinned)]
    # A lone "1" would read as a count.
    return ",".join(part if len(parts) == 1 else _short_range(part) for part in parts)


def _short_range(part: str) -> str:
    first, _unused, last = part.partition("-")
    return first if first == last else part


def _ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1] = (ranges[-1][0], number)
        else:
            ranges.append((number, number))
    return ranges


def parse_string(value: object) -> str:
    """One line without control characters."""
    remedy = "is not a line of text: write one line without control characters"
    return _require_plain(_scalar_text(value, remedy), remedy)


def parse_text(value: object) -> str:
    """Text of several lines, at most 1 MiB; no NUL."""
    remedy = "is not text: write a string of at most 1 MiB without NUL"
    text = _scalar_text(value, remedy)
    if "\0" in text or len(text) > TEXT_LIMIT:
        raise _reject(value, remedy)
    return text


def parse_absolute_path(value: object) -> str:
    remedy = "is not an absolute path: write one that starts with / and has no .. in it"
    text = _require_plain(_scalar_text(value, remedy), remedy)
    if not text.startswith("/") or ".." in text.split("/"):
        raise _reject(value, remedy)
    return "/" + "/".join(part for part in text.split("/") if part not in ("", "."))


def parse_ipv4_address(value: object) -> str:
    try:
        return str(ipaddress.IPv4Address(_scalar_text(value, "")))
    except (ipaddress.AddressValueError, InvalidRequest):
        raise _reject(value, "is not an IPv4 address, such as 10.20.0.5") from None


def parse_ipv4_interface(value: object) -> str:
    """auto, none, or a host address with its prefix length: 10.20.0.1/24."""
    remedy = "is not auto, none, or an address with its prefix length such as 10.20.0.1/24"
    text = _scalar_text(value, remedy)
    if text in ("auto", "none"):
        return text
    try:
        interface = ipaddress.IPv4Interface(text)
    except ValueError:
        raise _reject(value, remedy) from None
    if "/" not in text or interface.network.prefixlen > 30 or interface.ip == interface.network.network_address:
        raise _reject(value, remedy)
    return str(interface)


def parse_ipv4_ranges(value: object) -> tuple[tuple[str, str], ...]:
    """FIRST-LAST[,FIRST-LAST...], each first at most its last."""
    remedy = "is not a list of address ranges such as 10.20.0.50-10.20.0.99"
    ranges = []
    for part in _scalar_text(value, remedy).split(","):
        first, separator, last = part.strip().partition("-")
        try:
            pair = ipaddress.IPv4Address(first), ipaddress.IPv4Address(last)
        except ipaddress.AddressValueError:
            raise _reject(value, remedy) from None
        if not separator or pair[0] > pair[1]:
            raise _reject(value, remedy)
        ranges.append((str(pair[0]), str(pair[1])))
    return tuple(ranges)


def render_ipv4_ranges(ranges: tuple[tuple[str, str], ...]) -> str:
    return ",".join(f"{first}-{last}" for first, last in ranges)


def parse_domain(value: object) -> str:
    remedy = "is not a DNS domain: write labels of a-z, 0-9 and '-' joined by dots"
    text = _scalar_text(value, remedy).lower()
    if len(text) > 253 or not re.fullmatch(_DOMAIN, text):
        raise _reject(value, remedy)
    return text


def parse_hardware_address(value: object) -> str:
    """A unicast Ethernet address; the lowest bit of the first byte marks multicast."""
    remedy = "is not a unicast MAC address such as 00:16:3e:12:34:56"
    text = _scalar_text(value, remedy).lower()
    if not re.fullmatch(_HARDWARE_ADDRESS, text) or int(text[:2], 16) & 1:
        raise _reject(value, remedy)
    return text


def parse_label(value: object) -> str:
    return require_name("object", value)


def choice(*words: str) -> ValueType:
    """One of a closed set of words."""

    def parse(value: object) -> str:
        remedy = f"is not one of {', '.join(words)}"
        text = _scalar_text(value, remedy)
        if text not in words:
            raise _reject(value, remedy)
        return text

    return ValueType(f"one of {', '.join(words)}", parse)


def integer(minimum: int, maximum: int) -> ValueType:
    return ValueType(f"integer from {minimum} to {maximum}", parse_integer(minimum, maximum))


BOOL = ValueType("boolean", parse_bool, lambda value: "true" if value else "false")
SIZE = ValueType("size", parse_positive_size, render_size)
MEMORY = ValueType("size or percentage", parse_memory, render_memory)
CPUS = ValueType("CPU count or set", parse_cpus, render_cpus)
STRING = ValueType("string", parse_string)
TEXT = ValueType("text", parse_text)
PATH = ValueType("absolute path", parse_absolute_path)
NAME = ValueType("name", parse_label)
IPV4_ADDRESS = ValueType("IPv4 address", parse_ipv4_address)
IPV4_INTERFACE = ValueType("IPv4 address with prefix length, auto or none", parse_ipv4_interface)
IPV4_RANGES = ValueType("IPv4 address ranges", parse_ipv4_ranges, render_ipv4_ranges)
DOMAIN = ValueType("DNS domain", parse_domain)
HARDWARE_ADDRESS = ValueType("MAC address", parse_hardware_address)
