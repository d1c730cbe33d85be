# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Whether the host forwards IPv4: one setting of the kernel that all networks share.

Claims are kept in a file with the setting as it was before the first one, and the last one to go brings it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .._host.files import ensure_directory, read_json, write_json
from .._host.locks import Lock, hold
from .._host.paths import Paths
from .record import RECORD

_SWITCH = Path("/proc/sys/net/ipv4/ip_forward")
_LOCK_SECONDS = 60.0


def is_forwarding() -> bool:
    return _SWITCH.read_text().strip() != "0"


def has_claim(paths: Paths, name: str) -> bool:
    return name in (read_json(_file(paths)) or {}).get("networks", ())


def claim(paths: Paths, name: str) -> None:
    """Remember the old setting, then let the host forward."""
    with _claims(paths) as claims:
        networks = sorted({*_living(paths, claims["networks"]), name})
        ensure_directory(paths.networks, 0o711)
        write_json(_file(paths), {**claims, "networks": networks})
        if not is_forwarding():
            _SWITCH.write_text("1")


def release(paths: Paths, name: str) -> None:
    """Give up the claim; after the last one the old setting is back. Claims of networks without a record lapse."""
    if not _file(paths).exists():
        return
    with _claims(paths) as claims:
        networks = [other for other in _living(paths, claims["networks"]) if other != name]
        if networks:
            write_json(_file(paths), {**claims, "networks": networks})
            return
        if claims["before"] == "0" and is_forwarding() and not _serves_others(paths):
            _SWITCH.write_text("0")
        _file(paths).unlink(missing_ok=True)


@contextmanager
def _claims(paths: Paths) -> Iterator[dict[str, Any]]:
    with hold(paths, [Lock("allocation", "forwarding")], _LOCK_SECONDS):
        yield read_json(_file(paths)) or {"before": _SWITCH.read_text().strip(), "networks": []}


def _living(paths: Paths, names: list[str]) -> list[str]:
    return [name for name in names if (paths.network(name) / RECORD).exists()]


def _serves_others(paths: Paths) -> bool:
    """Whether a bridge of another root is there, whose claims are kept elsewhere."""
    aliases = [path for path in Path("/sys/class/net").glob("*/ifalias") if path.read_text().startswith("tandem:")]
    return any(not (paths.network(path.parent.name) / RECORD).exists() for path in aliases)


def _file(paths: Paths) -> Path:
    return paths.networks / "forwarding.json"
