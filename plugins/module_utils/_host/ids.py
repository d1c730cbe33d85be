# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""User and group ids for guests, out of root's subordinate ranges in /etc/subuid and /etc/subgid (subuid(5))."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from .._core.errors import Conflict, MissingDependency

ID_BLOCK = 65536


def next_container_base(used: Collection[int]) -> int:
    """The lowest free block of 65536 ids for a container; Conflict when all are used."""
    for base in _blocks()[:-1]:
        if base not in used:
            return base
    raise Conflict("all subordinate ids of root are used: add a larger range for root to /etc/subuid and /etc/subgid")


def next_machine_id(used: Collection[int]) -> int:
    """The lowest free id for the QEMU of a virtual machine; they come from the last block."""
    last = _blocks()[-1]
    return next(number for number in range(last + 1, last + ID_BLOCK) if number not in used)


def _blocks() -> list[int]:
    """First ids of root's blocks, the same for users and groups; MissingDependency without at least two."""
    users = set(_ranges(Path("/etc/subuid")))
    groups = set(_ranges(Path("/etc/subgid")))
    common = sorted(users & groups, key=lambda entry: entry[1], reverse=True)
    if common:
        start, count = common[0]
        blocks = [start + index * ID_BLOCK for index in range(count // ID_BLOCK)]
        if len(blocks) > 1:
            return blocks
    raise MissingDependency(
        "root has no subordinate ids: add a line such as root:1000000:10000000 to /etc/subuid and /etc/subgid "
        "(role tandem.machines.host does)"
    )


def _ranges(path: Path) -> Iterator[tuple[int, int]]:
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        owner, _unused, rest = line.partition(":")
        start, _unused, count = rest.partition(":")
        if owner in ("root", "0") and start.isdigit() and count.strip().isdigit():
            yield int(start), int(count)
