# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Records of instances and profiles on disk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from .._core.names import require_name
from .._host.files import TEMPORARY_PREFIX, ensure_directory, read_json, sync_directory, write_json
from .._host.paths import Paths
from .model import Profile, Record
from .record import parse_profile, parse_record, render_profile, render_record


def read_record(paths: Paths, name: str) -> Record | None:
    """The record of an instance, None if there is none; Conflict if it is damaged."""
    data = read_json(paths.instance(name) / "instance.json")
    return parse_record(data) if data is not None else None


def write_record(paths: Paths, record: Record) -> None:
    ensure_directory(paths.root, 0o711)
    ensure_directory(paths.instances, 0o711)
    ensure_directory(paths.instance(record.name), 0o700)
    write_json(paths.instance(record.name) / "instance.json", render_record(record))


def instance_names(paths: Paths) -> list[str]:
    if not paths.instances.is_dir():
        return []
    return sorted(path.name for path in paths.instances.iterdir() if (path / "instance.json").exists())


def all_records(paths: Paths) -> Iterator[Record]:
    for name in instance_names(paths):
        record = read_record(paths, name)
        if record is not None:
            yield record


def used_numbers(paths: Paths, key: str, but: str) -> set[int]:
    """The values that a volatile key has in the records of all instances but one; Conflict if a record is damaged.

    Creations ask this with everybody else waiting, so nothing else of the records is looked at.
    """
    used = set()
    for name in instance_names(paths):
        data = read_json(paths.instance(name) / "instance.json") if name != but else None
        if data is not None and key in data.get("volatile", {}):
            used.add(int(data["volatile"][key]))
    return used


def read_profile(paths: Paths, name: str) -> Profile | None:
    data = read_json(paths.profile(name))
    return parse_profile(data) if data is not None else None


def write_profile(paths: Paths, profile: Profile) -> None:
    ensure_directory(paths.root, 0o711)
    ensure_directory(paths.profiles)
    write_json(paths.profile(profile.name), render_profile(profile))


def remove_profile(paths: Paths, name: str) -> None:
    paths.profile(name).unlink(missing_ok=True)
    sync_directory(paths.profiles)


def profile_names(paths: Paths) -> list[str]:
    if not paths.profiles.is_dir():
        return []
    # A run that was killed may have left the temporary file of a record beside it.
    names = (path.stem for path in paths.profiles.glob("*.json"))
    return sorted(name for name in names if not name.startswith(TEMPORARY_PREFIX))


def read_profiles(paths: Paths, names: Iterable[str]) -> dict[str, Profile]:
    """Those of the named profiles that exist."""
    found = {}
    for name in names:
        profile = read_profile(paths, require_name("profile", name))
        if profile is not None:
            found[name] = profile
    return found
