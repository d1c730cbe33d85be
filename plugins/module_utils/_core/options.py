# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Option tables: one row is the only place for a fact about an option. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidRequest
from .kinds import LIVE, NONE, Apply, InstanceType
from .values import ValueType

_FREE_KEY = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
_ENVIRONMENT_KEY = r"[A-Za-z_][A-Za-z0-9_]{0,127}"

Config = Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """One option of a noun.

    key ends in '.*' for a family of free keys. container and vm say when a change takes effect for
    each type of instance; nouns that are not instances use container alone. why_not is the reason of
    a NONE. shorthand is the module option that sets the same key. secret values are never shown.
    default is what an absent key means, in normal form; it is never written to a record.
    """

    key: str
    type: ValueType
    container: Apply = LIVE
    vm: Apply = LIVE
    doc: str = ""
    shorthand: str | None = None
    why_not: str = ""
    default: Any = None
    required: bool = False
    secret: bool = False

    @property
    def is_family(self) -> bool:
        return self.key.endswith(".*")

    def apply_for(self, kind: InstanceType | None) -> Apply:
        return self.vm if kind is InstanceType.VIRTUAL_MACHINE else self.container


@dataclass(frozen=True)
class OptionTable:
    """The options of one noun; noun names it in messages, such as 'instance config' or 'disk device'."""

    noun: str
    options: tuple[Option, ...]
    _exact: Mapping[str, Option] = field(init=False, repr=False, compare=False)
    _families: tuple[Option, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_exact", {option.key: option for option in self.options if not option.is_family})
        object.__setattr__(self, "_families", tuple(option for option in self.options if option.is_family))

    def __iter__(self) -> Iterator[Option]:
        return iter(self.options)

    def find(self, key: str) -> Option | None:
        """The row for key, a family's row for one of its keys, or None."""
        exact = self._exact.get(key)
        if exact is not None:
            return exact
        return next((family for family in self._families if _belongs(key, family)), None)

    def require(self, key: object, where: str) -> Option:
        """The row for key; InvalidRequest naming where and the nearest known key."""
        option = self.find(key) if isinstance(key, str) else None
        if option is None:
            raise InvalidRequest(f"{where}: unknown {self.noun} option {key!r}{self._nearest(str(key))}")
        return option

    def parse(self, given: object, where: str, kind: InstanceType | None = None) -> dict[str, Any]:
        """Normal forms of a user's mapping; a None value stays None (remove the key).

        where opens every message ("instance web1"). With kind, options that have no meaning for
        that type of instance are refused with their reason.
        """
        if not isinstance(given, Mapping):
            raise InvalidRequest(f"{where}: {self.noun} options must be a mapping of option to value")
        return {str(key): self._parse_one(key, value, where, kind) for key, value in given.items()}

    def require_meaning(self, key: str, where: str, kind: InstanceType) -> None:
        """InvalidRequest, with the reason, if the option means nothing for that type of instance."""
        option = self.require(key, where)
        if option.apply_for(kind) is NONE:
            raise InvalidRequest(f"{where}: {self.noun} option {key} is not for a {kind.value}: {option.why_not}")

    def render(self, config: Config) -> dict[str, str]:
        """The mapping of strings that records hold and modules return, as lxc config show prints it."""
        return {key: self.require(key, "record").type.render(value) for key, value in sorted(config.items())}

    def get(self, config: Config, key: str) -> Any:
        """The value in force: the one given, else the option's default."""
        value = config.get(key)
        return self._exact[key].default if value is None else value

    def _parse_one(self, key: object, value: object, where: str, kind: InstanceType | None) -> Any:
        option = self.require(key, where)
        if kind is not None:
            self.require_meaning(str(key), where, kind)
        if value is None:
            return None
        try:
            return option.type.parse(value)
        except InvalidRequest as error:
            shown = "its value is not valid" if option.secret else str(error)
            raise InvalidRequest(f"{where}: {self.noun} option {key}: {shown}") from None

    def _nearest(self, key: str) -> str:
        import difflib  # for messages only

        known = [option.key for option in self.options]
        near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        if near:
            return f"; did you mean {near[0]}?"
        return f"; known are {', '.join(known[:12])}" + (" and more" if len(known) > 12 else "")


def _belongs(key: str, family: Option) -> bool:
    prefix = family.key[:-1]
    pattern = _ENVIRONMENT_KEY if prefix == "environment." else _FREE_KEY
    return key.startswith(prefix) and re.fullmatch(pattern, key[len(prefix) :], re.ASCII) is not None


def merge(current: Config, wanted: Mapping[str, Any], replace: bool) -> dict[str, Any]:
    """current with wanted laid over it: None removes a key; replace drops what wanted does not list."""
    merged = {} if replace else dict(current)
    for key, value in wanted.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = value
    return merged


def take_shorthands(
    table: OptionTable, params: Mapping[str, Any], config: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """config with the table's shorthands from params added; giving both for one key is InvalidRequest."""
    merged = dict(config)
    for option in table:
        if option.shorthand is None or params.get(option.shorthand) is None:
            continue
        if option.key in config:
            raise InvalidRequest(
                f"{where}: {option.shorthand} and config option {option.key} are the same: give only one of them"
            )
        merged[option.key] = params[option.shorthand]
    return merged


def shorthand_arguments(table: OptionTable) -> dict[str, Any]:
    """Module options for the shorthands of a table; raw, since the table's own types parse them."""
    return {option.shorthand: {"type": "raw"} for option in table if option.shorthand is not None}
