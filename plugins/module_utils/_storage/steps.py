# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The acts on a storage pool, as values. Pure: only run(), given a host, does anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .._core.values import render_size
from .record import Backing, Recorded


class PoolHost(Protocol):
    """What steps need; _storage/host.py is the real one. Every verb may meet its own half-done work."""

    def write_record(self, recorded: Recorded) -> None: ...
    def require_unused(self, recorded: Recorded) -> None: ...
    def make_backing(self, recorded: Recorded) -> None: ...
    def mount(self, recorded: Recorded) -> None: ...
    def lay_out(self, recorded: Recorded) -> None: ...
    def install_unit(self, recorded: Recorded) -> None: ...
    def grow(self, recorded: Recorded) -> None: ...
    def remount(self, recorded: Recorded) -> None: ...
    def clear(self, recorded: Recorded) -> None: ...
    def remove_empty_directory(self, name: str) -> None: ...


@dataclass(frozen=True)
class WriteRecord:
    recorded: Recorded

    def describe(self) -> str:
        work = self.recorded.work
        return f"record storage pool {self.recorded.name} ({f'{work.value} under way' if work else 'done'})"

    def run(self, host: PoolHost) -> None:
        host.write_record(self.recorded)


@dataclass(frozen=True)
class MakeBacking:
    """What the volumes will lie on: file system in a loop file or on a device, or a directory."""

    recorded: Recorded

    def describe(self) -> str:
        recorded = self.recorded
        if recorded.backing is Backing.LOOP:
            # The automatic size follows the free space, which check and apply may see differently.
            size = render_size(recorded.config["size"]) if "size" in recorded.config else "automatic size"
            return f"make a loop file ({size}) with {recorded.driver}"
        if recorded.backing is Backing.BLOCK:
            wipe = "wipe and " if recorded.config.get("source.wipe") else ""
            return f"{wipe}format {recorded.source} with {recorded.driver}"
        if recorded.is_source_ours:
            return f"create subvolume {recorded.source}"
        return f"use directory {recorded.source}" if recorded.source else "create a directory for the volumes"

    def run(self, host: PoolHost) -> None:
        host.make_backing(self.recorded)


@dataclass(frozen=True)
class MountPool:
    recorded: Recorded

    def describe(self) -> str:
        return f"mount storage pool {self.recorded.name}"

    def run(self, host: PoolHost) -> None:
        host.mount(self.recorded)


@dataclass(frozen=True)
class LayOut:
    recorded: Recorded

    def describe(self) -> str:
        return "mark it as ours and create directories for its volumes"

    def run(self, host: PoolHost) -> None:
        host.lay_out(self.recorded)


@dataclass(frozen=True)
class InstallUnit:
    recorded: Recorded

    def describe(self) -> str:
        return "let the host mount it at boot"

    def run(self, host: PoolHost) -> None:
        host.install_unit(self.recorded)


@dataclass(frozen=True)
class GrowPool:
    """To recorded.size_bytes: loop file, loop device and file system, each only if it is smaller."""

    recorded: Recorded

    def describe(self) -> str:
        return f"grow it to {render_size(self.recorded.size_bytes or 0)}"

    def run(self, host: PoolHost) -> None:
        host.grow(self.recorded)


@dataclass(frozen=True)
class RemountPool:
    recorded: Recorded

    def describe(self) -> str:
        return f"remount it with {self.recorded.mount_options}"

    def run(self, host: PoolHost) -> None:
        host.remount(self.recorded)


@dataclass(frozen=True)
class RequireUnused:
    """Looks into the pool itself, which a plan cannot do while it is not mounted."""

    recorded: Recorded

    def describe(self) -> str:
        return f"see that nothing uses storage pool {self.recorded.name}"

    def run(self, host: PoolHost) -> None:
        host.require_unused(self.recorded)


@dataclass(frozen=True)
class ClearPool:
    """Everything the record speaks of, and the record last."""

    recorded: Recorded

    def describe(self) -> str:
        is_unfinished = self.recorded.work is not None
        return f"remove {'what is left of ' if is_unfinished else ''}storage pool {self.recorded.name}"

    def run(self, host: PoolHost) -> None:
        host.clear(self.recorded)


@dataclass(frozen=True)
class RemoveEmptyDirectory:
    """A run that was killed between making or removing its directory and its record leaves one."""

    name: str

    def describe(self) -> str:
        return f"remove the empty directory of storage pool {self.name}"

    def run(self, host: PoolHost) -> None:
        host.remove_empty_directory(self.name)
