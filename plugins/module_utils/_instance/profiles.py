# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Profiles, named sets of config and devices: model, plan and resource together, since a profile is one record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from .._core.names import require_name
from .._core.options import Config, merge
from .._core.plan import HIDDEN, Change, Plan, compare
from .._core.resource import NO_PROSPECTS, Noun, Prospects, leave_out_empty
from .._host.paths import Paths
from .._spec.instance import INSTANCE
from .model import Profile, parse_devices
from .record import render_devices
from .show import show_profile
from .store import all_records, profile_names, read_profile, remove_profile, write_profile


@dataclass(frozen=True)
class DesiredProfile:
    """What a task asks for; None means unmanaged."""

    name: str
    is_absent: bool = False
    description: str | None = None
    config: Config = field(default_factory=dict)
    replace_config: bool = False
    devices: Mapping[str, Any] = field(default_factory=dict)
    replace_devices: bool = False


@dataclass(frozen=True)
class CurrentProfile:
    profile: Profile | None
    used_by: tuple[str, ...]


class ProfileHost(Protocol):
    def write(self, profile: Profile) -> None: ...
    def remove(self, name: str) -> None: ...


@dataclass(frozen=True)
class WriteProfile:
    profile: Profile

    def describe(self) -> str:
        return f"record profile {self.profile.name}"

    def run(self, host: ProfileHost) -> None:
        host.write(self.profile)


@dataclass(frozen=True)
class RemoveProfile:
    name: str

    def describe(self) -> str:
        return f"delete profile {self.name}"

    def run(self, host: ProfileHost) -> None:
        host.remove(self.name)


def wanted_profile(desired: DesiredProfile, current: Profile | None) -> Profile:
    """The profile the task asks for."""
    base = current or Profile(desired.name)
    devices = {} if desired.replace_devices else base.devices
    return Profile(
        name=desired.name,
        config=merge(base.config, desired.config, desired.replace_config),
        devices=parse_devices(desired.devices, devices, f"profile {desired.name}", None),
        description=base.description if desired.description is None else desired.description,
    )


def plan_profile(desired: DesiredProfile, current: CurrentProfile) -> Plan[ProfileHost]:
    """One write or one removal; a profile in use stands in the way of its removal."""
    profile = current.profile
    if desired.is_absent:
        if profile is None:
            return Plan()
        users = ", ".join(current.used_by)
        obstacles = (f"profile {desired.name} is used by {users}: remove it there first",) if users else ()
        return Plan((Change("state", "present", "absent"),), (RemoveProfile(desired.name),), obstacles=obstacles)
    wanted = wanted_profile(desired, profile)
    changes = [] if profile is not None else [Change("state", "absent", "present")]
    before = profile or Profile(desired.name)
    changes += [_redact(change) for change in compare("config", _render(before), _render(wanted))]
    changes += compare("devices", render_devices(before.devices), render_devices(wanted.devices))
    if before.description != wanted.description:
        changes.append(Change("description", before.description, wanted.description))
    return Plan(tuple(changes), (WriteProfile(wanted),) if changes else ())


def _render(profile: Profile) -> dict[str, str]:
    return INSTANCE.render(profile.config)


def _redact(change: Change) -> Change:
    if not INSTANCE.require(change.path.partition("/")[2], "profile").secret:
        return change
    return Change(change.path, change.before and HIDDEN, change.after and f"{HIDDEN[:-1]}, changed)")


class StoredProfiles:
    """ProfileHost on disk."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def write(self, profile: Profile) -> None:
        write_profile(self.paths, profile)

    def remove(self, name: str) -> None:
        remove_profile(self.paths, name)


class ProfileResource:
    """One desired profile; see _core/resource.py."""

    noun = "profile"
    waits = False

    def __init__(self, desired: DesiredProfile, paths: Paths) -> None:
        self.desired = desired
        self.name = desired.name
        self.host = StoredProfiles(paths)
        self.locks = (("host", "all", not desired.is_absent), ("profile", desired.name, False))
        self._prospects = NO_PROSPECTS

    def waits_in_turn(self, current: CurrentProfile) -> bool:
        return False

    def expect(self, prospects: Prospects) -> None:
        self._prospects = prospects

    def foretell(self, current: CurrentProfile) -> Profile:
        return wanted_profile(self.desired, current.profile)

    def identity(self, current: CurrentProfile) -> str:
        return ""  # a profile is what it says, whoever wrote it

    def prepare(self) -> None:
        return

    def observe(self) -> CurrentProfile:
        profile = read_profile(self.host.paths, self.name)
        used_by = find_users(self.host.paths, self.name) if self.desired.is_absent and profile else ()
        return CurrentProfile(profile, self._prospects.holding(used_by))

    def is_busy(self, current: CurrentProfile) -> bool:
        return False  # a profile is one atomic write

    def plan(self, current: CurrentProfile) -> Plan[ProfileHost]:
        return plan_profile(self.desired, current)

    def plan_again(self, current: CurrentProfile) -> Plan[ProfileHost]:
        return self.plan(current)

    def plan_undo(self, current: CurrentProfile) -> Plan[ProfileHost]:
        return Plan()

    def wait(self, current: CurrentProfile) -> CurrentProfile:
        return current

    def describe(self, current: CurrentProfile) -> dict[str, Any]:
        return show_profile(current.profile) if current.profile is not None else {}

    def predict(self, current: CurrentProfile) -> dict[str, Any]:
        return {} if self.desired.is_absent else show_profile(wanted_profile(self.desired, current.profile))

    def state(self, current: CurrentProfile) -> str:
        return "absent" if current.profile is None else "present"


def find_users(paths: Paths, name: str) -> tuple[str, ...]:
    """Instances that list the profile."""
    return tuple(f"instance {record.name}" for record in all_records(paths) if name in record.profiles)


def build_profile(params: Mapping[str, Any], paths: Paths) -> ProfileResource:
    """The resource a task describes; InvalidRequest for what can be seen from the parameters alone."""
    name = require_name("profile", params["name"])
    desired = DesiredProfile(
        name=name,
        is_absent=params["state"] == "absent",
        description=params["description"],
        config=INSTANCE.parse(params["config"] or {}, f"profile {name}"),
        replace_config=params["config_mode"] == "replace",
        devices=params["devices"] or {},
        replace_devices=params["devices_mode"] == "replace",
    )

    return ProfileResource(desired, paths)


def gather_profiles(params: Mapping[str, Any], paths: Paths) -> dict[str, Any]:
    """All profiles, or the named one, with the instances that use each."""
    names = profile_names(paths) if params["name"] is None else [require_name("profile", params["name"])]
    profiles = [profile for profile in (read_profile(paths, name) for name in names) if profile is not None]
    shown = [{**show_profile(profile), "used_by": list(find_users(paths, profile.name))} for profile in profiles]
    return {"profiles": shown}


def profile_options(paths: Paths, name: str) -> dict[str, Any] | None:
    """Noun.options of profiles."""
    profile = read_profile(paths, require_name("profile", name))
    if profile is None:
        return None
    return leave_out_empty(
        {
            "name": name,
            "description": profile.description,
            "config": _render(profile),
            "devices": render_devices(profile.devices),
        }
    )


PROFILE_NOUN = Noun(
    "profile",
    "profiles",
    {
        "name": {"type": "str", "required": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        "description": {"type": "str"},
        "config": {"type": "dict"},
        "config_mode": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
        "devices": {"type": "dict"},
        "devices_mode": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
    },
    build_profile,
    table=INSTANCE,
    names=profile_names,
    options=profile_options,
)
