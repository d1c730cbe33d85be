# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What belongs to a named stack, remembered on the host: only that may be pruned.

One record for each stack, below stacks/ in the state root, written before the first effect on what it names.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from .._core.errors import Conflict
from .._host.files import ensure_directory, read_json, sync_directory, write_json
from .._host.locks import Lock, hold
from .._host.paths import Paths

SCHEMA = 1
_LOCK_SECONDS = 60

# Noun and name to the identity of the object, '' while it is not known.
Members = Mapping[tuple[str, str], str]


def read_members(paths: Paths, stack: str) -> dict[tuple[str, str], str]:
    """The members of a stack, none if there is no such stack; Conflict if its record is damaged."""
    return _parse(read_json(_path(paths, stack)), stack)


def write_members(paths: Paths, stack: str, members: Members) -> None:
    """Record the members; a stack without any is forgotten, and nothing of the last one is left."""
    path = _path(paths, stack)
    # The directory comes and goes with the stacks of everybody.
    with hold(paths, [Lock("allocation")], _LOCK_SECONDS):
        if members:
            ensure_directory(paths.root, 0o711)
            ensure_directory(path.parent)
            listed = [{"kind": kind, "name": name, "identity": members[kind, name]} for kind, name in sorted(members)]
            write_json(path, {"schema": SCHEMA, "kind": "stack", "name": stack, "members": listed})
        elif path.exists():
            path.unlink()
            sync_directory(path.parent)
            with suppress(OSError):
                path.parent.rmdir()


def other_stacks(paths: Paths, stack: str, key: tuple[str, str]) -> list[str]:
    """Names of the other stacks that an object belongs to."""
    return sorted(name for name in _names(paths) if name != stack and key in read_members(paths, name))


def kept_members(before: Members, applied: Mapping[tuple[str, str], str], gone: Iterable[tuple[str, str]]) -> Members:
    """The members after a run: those of before, with what was applied, without what is gone."""
    members = {**before, **{key: identity or before.get(key, "") for key, identity in applied.items()}}
    for key in gone:
        members.pop(key, None)
    return members


def _names(paths: Paths) -> Iterator[str]:
    return (path.stem for path in paths.stacks.glob("*.json"))


def _path(paths: Paths, stack: str) -> Path:
    return paths.stacks / f"{stack}.json"


def _parse(data: Mapping[str, Any] | None, stack: str) -> dict[tuple[str, str], str]:
    if data is None:
        return {}
    if data.get("schema") != SCHEMA:
        raise Conflict(
            f"stack {stack}: its record has schema {data.get('schema')!r}, this collection reads {SCHEMA}: upgrade it"
        )
    try:
        return {(member["kind"], member["name"]): member["identity"] for member in data["members"]}
    except (KeyError, TypeError) as error:
        raise Conflict(f"record of stack {stack} is damaged ({error!r}): restore it or move it away") from None
