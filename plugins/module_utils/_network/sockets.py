# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Whether a DNS server listens on an address, and who keeps the port, from /proc."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from .._core.errors import Conflict

_PORT = 53
_LISTENING = "0A"


def require_port_free(name: str, address: str) -> None:
    """Conflict naming the process that already answers on the DNS port of address."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        with socket.socket(socket.AF_INET, kind) as probe:
            if kind == socket.SOCK_STREAM:
                # Without it, connections of a server that has just ended would still count.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, _PORT))
            except OSError as error:
                raise Conflict(
                    f"network {name}: port {_PORT} of {address} is taken by {_find_holder(address)} "
                    f"({error.strerror}): let it listen on other addresses only"
                ) from None


def is_bound(address: str) -> bool:
    """Whether a socket of this host is bound to the DNS port of exactly address."""
    wanted = f"{_hexadecimal(address)}:{_PORT:04X}"
    return any(fields[1] == wanted for fields in _entries("udp"))


def _find_holder(address: str) -> str:
    # A socket on all addresses, of either family, keeps the port as well.
    ends = {f"{_hexadecimal(address)}:{_PORT:04X}", f"{'0' * 8}:{_PORT:04X}", f"{'0' * 32}:{_PORT:04X}"}
    inodes = {fields[9] for table in ("udp", "udp6") for fields in _entries(table) if fields[1] in ends}
    for table in ("tcp", "tcp6"):
        inodes |= {fields[9] for fields in _entries(table) if fields[1] in ends and fields[3] == _LISTENING}
    for process in Path("/proc").glob("[0-9]*"):
        if any(target in _sockets(inodes) for target in _open_files(process)):
            return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
    return "another process"


def _sockets(inodes: set[str]) -> set[str]:
    return {f"socket:[{inode}]" for inode in inodes}


def _open_files(process: Path) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for name in os.listdir(process / "fd"):
            with contextlib.suppress(OSError):
                yield os.readlink(process / "fd" / name)


def _entries(table: str) -> list[list[str]]:
    try:
        lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
    except FileNotFoundError:
        return []
    return [line.split() for line in lines]


def _hexadecimal(address: str) -> str:
    """As /proc/net prints an address: its bytes read as a number of this machine."""
    return f"{int.from_bytes(socket.inet_aton(address), sys.byteorder):08X}"
