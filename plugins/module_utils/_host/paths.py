# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Where everything lies on the host. The one place that joins our directory names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_ROOT = "/var/lib/tandem"
RUN_ROOT = "/run/tandem"


@dataclass(frozen=True)
class Paths:
    """Paths below one state root (absolute) and its runtime twin.

    A root other than the default has a runtime directory of its own inside /run/tandem,
    and its name in those of its units: two roots on one host share no lock and no service.
    """

    root: Path = Path(DEFAULT_ROOT)

    @property
    def scope(self) -> str:
        """This root in names that all roots have in one place; empty for the default one."""
        return "" if str(self.root) == DEFAULT_ROOT else "root" + str(self.root).replace("/", "-")

    @property
    def run(self) -> Path:
        return Path(RUN_ROOT) / self.scope

    @property
    def locks(self) -> Path:
        return self.run / "locks"

    @property
    def instances(self) -> Path:
        return self.root / "instances"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def aliases(self) -> Path:
        return self.images / "aliases"

    @property
    def networks(self) -> Path:
        return self.root / "networks"

    @property
    def pools(self) -> Path:
        return self.root / "storage"

    @property
    def profiles(self) -> Path:
        return self.root / "profiles"

    @property
    def stacks(self) -> Path:
        return self.root / "stacks"

    def instance(self, name: str) -> Path:
        return self.instances / name

    def instance_run(self, name: str) -> Path:
        return self.run / "instances" / name

    def image(self, fingerprint: str) -> Path:
        return self.images / fingerprint

    def network(self, name: str) -> Path:
        return self.networks / name

    def pool(self, name: str) -> Path:
        return self.pools / name

    def profile(self, name: str) -> Path:
        return self.profiles / f"{name}.json"
