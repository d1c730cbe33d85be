# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""From a stack's document to its objects: every object is checked before anything is done for one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .._core.errors import InvalidRequest
from .._core.resource import Noun
from .._host.paths import Paths
from .._module.items import ItemValidator
from .._module.run import secrets_in
from .model import ABSENT, Entry, require_once
from .nouns import NOUNS


def build_entries(document: Mapping[str, Any], paths: Paths) -> list[Entry]:
    """The objects of a document, lists of options by the nouns' plurals; InvalidRequest names the first wrong one."""
    entries = [entry for noun in NOUNS for entry in _entries(noun, document.get(noun.plural), paths)]
    require_once(entries)
    return entries


def build_pruned(members: Iterable[tuple[str, str]], paths: Paths) -> list[Entry]:
    """The removal of objects that are known by noun and name alone."""
    nouns = {noun.name: noun for noun in NOUNS}
    entries = []
    for kind, name in members:
        params = ItemValidator(nouns[kind].arguments).require({"name": name, "state": ABSENT}, f"{kind} {name}")
        entries.append(Entry(nouns[kind], params, nouns[kind].build(params, paths), is_pruned=True))
    return entries


def secrets_of(document: Mapping[str, Any]) -> set[str]:
    """Secret values anywhere in a document that nobody has checked yet."""
    items = ((noun, item) for noun in NOUNS for item in document.get(noun.plural) or ())
    return {secret for noun, item in items for secret in secrets_in(noun, item)}


def _entries(noun: Noun, items: object, paths: Paths) -> list[Entry]:
    if items is None:
        return []
    if not isinstance(items, list):
        raise InvalidRequest(f"{noun.plural}: give a list of objects, not {items!r:.60}")
    validator = ItemValidator(noun.arguments)
    return [_entry(noun, validator, item, f"{noun.plural}[{number}]", paths) for number, item in enumerate(items)]


def _entry(noun: Noun, validator: ItemValidator, item: object, place: str, paths: Paths) -> Entry:
    name = item.get("name") if isinstance(item, Mapping) else None
    params = validator.require(item, f"{place} ({name})" if name else place)
    return Entry(noun, params, noun.build(params, paths))
