# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What stack_info returns: the host, or some of its instances with all that they need, as the document of a stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._core.errors import InvalidRequest, WrongInterpreter
from .._core.names import require_name
from .._host.paths import Paths
from .._module.failure import explain
from .assembly import Key, Options, collect, compose, find_gaps, leave_out_secrets
from .nouns import KINDS


def gather_stack(params: Mapping[str, Any], paths: Paths) -> dict[str, Any]:
    """The document, and warnings about what is not in it. InvalidRequest for an instance that does not exist."""
    inquiry = _Inquiry(paths)
    start = inquiry.everything() if params["instances"] is None else inquiry.require_instances(params["instances"])
    found = collect(start, inquiry.describe)
    return {"stack": compose(found, {kind.name: kind.plural for kind in KINDS}), "warnings": inquiry.warnings}


class _Inquiry:
    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._nouns = {kind.name: kind.load for kind in KINDS}
        self.warnings: list[str] = []

    def everything(self) -> list[Key]:
        return [(noun, name) for noun in self._nouns for name in self._names(noun)]

    def require_instances(self, given: Sequence[str]) -> list[Key]:
        present = self._names("instance")
        unknown = [name for name in given if require_name("instance", name) not in present]
        if unknown:
            raise InvalidRequest(f"instances: there is no instance {' or '.join(unknown)} on this host")
        return [("instance", name) for name in given]

    def _names(self, noun: str) -> tuple[str, ...]:
        return tuple(self._nouns[noun]().names(self._paths))

    def describe(self, key: Key) -> Options | None:
        """The options of an object, secrets left out; None with a warning if it is there and cannot be described."""
        kind, name = key
        noun = self._nouns[kind]()
        try:
            options = noun.options(self._paths, name)
        except (WrongInterpreter, PermissionError):
            raise
        except Exception as error:
            self._warn(key, f"is left out: {explain(error) or f'{type(error).__name__}: {error}'}")
            return None
        if options is None:
            if name in self._names(kind):
                self._warn(key, "is left out: work on it is under way, or was interrupted and waits for the next run")
            return None
        # An image may have been asked for by another of its names, and before by this one.
        key = kind, options["name"]
        public, secrets = leave_out_secrets(options, noun.table)
        for secret in secrets:
            self._warn(key, f"has config option {secret}, which is left out since it is secret")
        for gap in find_gaps(kind, public):
            self._warn(key, gap)
        return public

    def _warn(self, key: Key, text: str) -> None:
        warning = f"{key[0].replace('_', ' ')} {key[1]} {text}"
        if warning not in self.warnings:
            self.warnings.append(warning)
