# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""From a stack's document to its objects: every object is checked before anything is done for one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .._core.errors import InvalidRequest
from .._host.paths import Paths
from .._module.items import ItemValidator
from .._module.run import require_seconds, secrets_in
from .model import ABSENT, Entry, require_once
from .nouns import KINDS, Kind


def build_entries(document: Mapping[str, Any], paths: Paths) -> list[Entry]:
    """The objects of a document, lists of options by the nouns' plurals; InvalidRequest names the first wrong one."""
    entries = [entry for kind in KINDS for entry in _entries(kind, document.get(kind.plural), paths)]
    require_once(entries)
    return entries


def build_pruned(members: Iterable[tuple[str, str]], paths: Paths) -> list[Entry]:
    """The removal of objects that are known by noun and name alone."""
    kinds = {kind.name: kind for kind in KINDS}
    return [
        _entry(kinds[kind], _validator(kinds[kind]), {"name": name, "state": ABSENT}, f"{kind} {name}", paths, True)
        for kind, name in members
    ]


def secrets_of(document: Mapping[str, Any]) -> set[str]:
    """Secret values anywhere in a document that nobody has checked yet."""
    given = ((kind, document.get(kind.plural)) for kind in KINDS)
    lists = ((kind, items) for kind, items in given if isinstance(items, list))
    return {secret for kind, items in lists for item in items for secret in secrets_in(kind.load(), item)}


def _entries(kind: Kind, items: object, paths: Paths) -> list[Entry]:
    if items is None:
        return []
    if not isinstance(items, list):
        raise InvalidRequest(f"{kind.plural}: give a list of objects, not {items!r:.60}")
    validator = _validator(kind)
    return [_entry(kind, validator, item, _place(kind, number, item), paths) for number, item in enumerate(items)]


def _validator(kind: Kind) -> ItemValidator:
    return ItemValidator(kind.load().arguments)


def _place(kind: Kind, number: int, item: object) -> str:
    name = item.get("name") if isinstance(item, Mapping) else None
    return f"{kind.plural}[{number}] ({name})" if name else f"{kind.plural}[{number}]"


def _entry(
    kind: Kind, validator: ItemValidator, item: object, place: str, paths: Paths, is_pruned: bool = False
) -> Entry:
    params = validator.require(item, place)
    require_seconds(params, f"{place}: ")
    return Entry(kind.name, kind.level, params, kind.load().build(params, paths), is_pruned)
