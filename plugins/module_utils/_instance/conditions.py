# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The conditions a task may wait for, by name. Apart from wait.py, which only runs that wait need. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable

from .._core.errors import InvalidRequest

CONDITIONS = ("running", "ipv4", "ipv6", "agent", "cloud-init")
_PORT = r"port:([0-9]{1,5})"


def require_conditions(conditions: Iterable[str], where: str) -> tuple[str, ...]:
    """The conditions if all are known; InvalidRequest otherwise."""
    for condition in conditions:
        port = re.fullmatch(_PORT, condition, re.ASCII)
        if condition not in CONDITIONS and not (port and 1 <= int(port[1]) <= 65535):
            raise InvalidRequest(
                f"{where}: wait_for {condition!r} is not known: use {', '.join(CONDITIONS)} or port: with a number, "
                "such as port:22"
            )
    return tuple(conditions)
