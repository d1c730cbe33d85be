# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The instance record as JSON, both directions. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .._core.errors import Conflict
from .._core.kinds import InstanceType, Work
from .._spec.devices import DEVICES
from .._spec.instance import INSTANCE
from .model import SCHEMA, Device, Devices, Profile, Record


def render_devices(devices: Devices) -> dict[str, dict[str, str]]:
    return {name: device.render() for name, device in sorted(devices.items())}


def parse_recorded_devices(given: Mapping[str, Mapping[str, str]], where: str) -> dict[str, Device]:
    """Devices of a record; trusted to be complete, but each value goes through its type again."""
    devices = {}
    for name, options in given.items():
        type_name = options["type"]
        rest = {key: value for key, value in options.items() if key != "type"}
        devices[name] = Device(type_name, DEVICES[type_name].parse(rest, where))
    return devices


def render_record(record: Record) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": "instance",
        "name": record.name,
        "uuid": record.uuid,
        "type": record.type.value,
        "image": record.image,
        "image_name": record.image_name,
        "pool": record.pool,
        "profiles": list(record.profiles),
        "description": record.description,
        "config": INSTANCE.render(record.config),
        "devices": render_devices(record.devices),
        "expanded_config": INSTANCE.render(record.expanded_config),
        "expanded_devices": render_devices(record.expanded_devices),
        "volatile": dict(sorted(record.volatile.items())),
        "created_at": record.created_at,
        "work": record.work.value if record.work else None,
    }


def parse_record(data: Mapping[str, Any]) -> Record:
    """A record from its JSON; Conflict if a newer version of the collection wrote it or a field is damaged."""
    name = data.get("name", "?")
    if data.get("schema") != SCHEMA:
        raise Conflict(
            f"instance {name}: its record has schema {data.get('schema')!r}, this collection reads {SCHEMA}: upgrade it"
        )
    where = f"record of instance {name}"
    try:
        return Record(
            name=data["name"],
            uuid=data["uuid"],
            type=InstanceType(data["type"]),
            image=data["image"],
            image_name=data["image_name"],
            pool=data["pool"],
            profiles=tuple(data["profiles"]),
            description=data["description"],
            config=INSTANCE.parse(data["config"], where),
            devices=parse_recorded_devices(data["devices"], where),
            expanded_config=INSTANCE.parse(data["expanded_config"], where),
            expanded_devices=parse_recorded_devices(data["expanded_devices"], where),
            volatile=dict(data["volatile"]),
            created_at=data["created_at"],
            work=Work(data["work"]) if data["work"] else None,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Conflict(f"{where} is damaged ({error!r}): restore it or move it away") from None


def render_profile(profile: Profile) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "kind": "profile",
        "name": profile.name,
        "description": profile.description,
        "config": INSTANCE.render(profile.config),
        "devices": render_devices(profile.devices),
    }


def parse_profile(data: Mapping[str, Any]) -> Profile:
    """A profile from its JSON; Conflict if it is damaged or newer."""
    name = data.get("name", "?")
    where = f"record of profile {name}"
    if data.get("schema") != SCHEMA:
        raise Conflict(f"{where} has schema {data.get('schema')!r}, this collection reads {SCHEMA}: upgrade it")
    try:
        return Profile(
            data["name"],
            INSTANCE.parse(data["config"], where),
            parse_recorded_devices(data["devices"], where),
            data["description"],
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise Conflict(f"{where} is damaged ({error!r}): restore it or move it away") from None
