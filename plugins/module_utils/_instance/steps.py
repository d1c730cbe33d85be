# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The acts an instance plan is made of. Pure: what they do is behind the InstanceHost protocol.

Every verb of the host re-reads the record, which the first step of a plan has written: a step carries
names and wishes, never a second copy of the definition.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .._core.kinds import Work
from .model import Record


class InstanceHost(Protocol):
    """What steps need of the host; all verbs are idempotent. Implemented in host.py."""

    def require_creatable(self, record: Record) -> None: ...
    def allocate(self, record: Record) -> None: ...
    def write_record(self, record: Record) -> None: ...
    def mark(self, name: str, work: Work | None) -> None: ...
    def create_volume(self, name: str) -> None: ...
    def grow_root(self, name: str) -> None: ...
    def define(self, name: str) -> None: ...
    def set_live(self, name: str, keys: tuple[str, ...]) -> None: ...
    def start(self, name: str) -> None: ...
    def stop(self, name: str, timeout_seconds: float, force: bool) -> None: ...
    def kill(self, name: str) -> None: ...
    def freeze(self, name: str) -> None: ...
    def thaw(self, name: str) -> None: ...
    def clear(self, name: str) -> None: ...
    def remove(self, name: str) -> None: ...


@dataclass(frozen=True)
class Require:
    """Make sure that the new instance can be made, before the old one is given up for it."""

    record: Record

    def describe(self) -> str:
        return f"make sure that {self.record.name} can be created anew"

    def run(self, host: InstanceHost) -> None:
        host.require_creatable(self.record)


@dataclass(frozen=True)
class Allocate:
    """Choose ids and addresses for a new instance and record it, marked as under creation."""

    record: Record

    def describe(self) -> str:
        return f"create {self.record.type.value} {self.record.name} from image {self.record.image_name}"

    def run(self, host: InstanceHost) -> None:
        host.allocate(self.record)


@dataclass(frozen=True)
class WriteRecord:
    record: Record

    def describe(self) -> str:
        return f"record the definition of {self.record.name}"

    def run(self, host: InstanceHost) -> None:
        host.write_record(self.record)


@dataclass(frozen=True)
class Mark:
    """Say in the record what is under way; None when it is done."""

    name: str
    work: Work | None

    def describe(self) -> str:
        return f"mark {self.name} as {'whole' if self.work is None else 'under ' + self.work.value}"

    def run(self, host: InstanceHost) -> None:
        host.mark(self.name, self.work)


@dataclass(frozen=True)
class CreateVolume:
    name: str
    pool: str

    def describe(self) -> str:
        return f"clone the image's root to pool {self.pool}"

    def run(self, host: InstanceHost) -> None:
        host.create_volume(self.name)


@dataclass(frozen=True)
class GrowRoot:
    name: str
    size: str

    def describe(self) -> str:
        return f"give the root disk {self.size}"

    def run(self, host: InstanceHost) -> None:
        host.grow_root(self.name)


@dataclass(frozen=True)
class Define:
    name: str

    def describe(self) -> str:
        return f"write the native configuration of {self.name}"

    def run(self, host: InstanceHost) -> None:
        host.define(self.name)


@dataclass(frozen=True)
class SetLive:
    name: str
    keys: tuple[str, ...]

    def describe(self) -> str:
        return f"apply {', '.join(self.keys)} to the running {self.name}"

    def run(self, host: InstanceHost) -> None:
        host.set_live(self.name, self.keys)


@dataclass(frozen=True)
class Start:
    name: str

    def describe(self) -> str:
        return f"start {self.name}"

    def run(self, host: InstanceHost) -> None:
        host.start(self.name)


@dataclass(frozen=True)
class Stop:
    name: str
    timeout_seconds: float
    force: bool

    def describe(self) -> str:
        return f"stop {self.name}"

    def run(self, host: InstanceHost) -> None:
        host.stop(self.name, self.timeout_seconds, self.force)


@dataclass(frozen=True)
class Kill:
    name: str

    def describe(self) -> str:
        return f"end {self.name} at once"

    def run(self, host: InstanceHost) -> None:
        host.kill(self.name)


@dataclass(frozen=True)
class Freeze:
    name: str

    def describe(self) -> str:
        return f"freeze {self.name}"

    def run(self, host: InstanceHost) -> None:
        host.freeze(self.name)


@dataclass(frozen=True)
class Thaw:
    name: str

    def describe(self) -> str:
        return f"thaw {self.name}"

    def run(self, host: InstanceHost) -> None:
        host.thaw(self.name)


@dataclass(frozen=True)
class Clear:
    """Delete the instance but keep its record, from which it is made anew."""

    name: str

    def describe(self) -> str:
        return f"delete {self.name} but for its definition"

    def run(self, host: InstanceHost) -> None:
        host.clear(self.name)


@dataclass(frozen=True)
class Remove:
    """Delete the instance with everything that is derived from its record."""

    name: str
    reason: str = ""

    def describe(self) -> str:
        return f"delete {self.name}{self.reason}"

    def run(self, host: InstanceHost) -> None:
        host.remove(self.name)
