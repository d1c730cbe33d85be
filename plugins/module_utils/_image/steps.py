# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The acts on images, each idempotent. Pure: the effects are the host's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .model import BuildSource, FileSource, Source


class ImageHost(Protocol):
    """What steps ask of the host."""

    def remove_leftovers(self, name: str) -> None: ...

    def create(self, name: str, source: Source) -> None: ...

    def set_aliases(self, name: str, aliases: Sequence[str]) -> None: ...

    def remove(self, name: str) -> None: ...


@dataclass(frozen=True)
class RemoveLeftovers:
    """Of a run that was killed while it made the image, and images that nothing needs any more."""

    name: str

    def describe(self) -> str:
        return "remove unfinished and unused images"

    def run(self, host: ImageHost) -> None:
        host.remove_leftovers(self.name)


@dataclass(frozen=True)
class CreateImage:
    """Make the image and let name mean it; an older image of that name is kept only while a disk needs it."""

    name: str
    source: Source

    def describe(self) -> str:
        if isinstance(self.source, BuildSource):
            return f"build image {self.name} from {self.source.distribution} {self.source.release}"
        return f"import image {self.name} from {_shown(self.source)}"

    def run(self, host: ImageHost) -> None:
        host.create(self.name, self.source)


@dataclass(frozen=True)
class SetAliases:
    name: str
    aliases: tuple[str, ...]

    def describe(self) -> str:
        return f"set the aliases of image {self.name} to {', '.join(self.aliases)}"

    def run(self, host: ImageHost) -> None:
        host.set_aliases(self.name, self.aliases)


@dataclass(frozen=True)
class RemoveImage:
    """Take all its names away, then the image itself unless a virtual machine's disk stands on it."""

    name: str

    def describe(self) -> str:
        return f"remove image {self.name}"

    def run(self, host: ImageHost) -> None:
        host.remove(self.name)


def _shown(source: FileSource) -> str:
    return f"{source.format.value} file {source.path}"
