# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Options of one object in a list of many, held against the argument spec of the object's own module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from .._core.errors import InvalidRequest


class ItemValidator:
    """Checks any number of items of one kind."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._known = tuple(arguments)
        self._validator = ArgumentSpecValidator(dict(arguments))

    def require(self, given: object, where: str) -> dict[str, Any]:
        """The item as its module would get it, defaults filled in; InvalidRequest, which where opens."""
        if not isinstance(given, Mapping):
            raise InvalidRequest(f"{where}: give a mapping of options, not {given!r:.60}")
        unknown = sorted(str(key) for key in given if key not in self._known)
        if unknown:
            raise InvalidRequest(f"{where}: unknown option {unknown[0]!r}{nearest(unknown[0], self._known)}")
        result = self._validator.validate(dict(given))
        if result.error_messages:
            raise InvalidRequest(f"{where}: {result.error_messages[0]}")
        parameters: dict[str, Any] = result.validated_parameters
        return parameters


def nearest(word: str, known: tuple[str, ...]) -> str:
    """The end of a message about an unknown word."""
    import difflib  # for messages only

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else f"; known are {', '.join(sorted(known))}"
