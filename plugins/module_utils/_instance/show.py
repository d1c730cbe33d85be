# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Instances and profiles as modules return them."""

from __future__ import annotations

from typing import Any

from .._core.plan import HIDDEN
from .._spec.instance import INSTANCE
from .model import Address, Profile, Record
from .record import render_devices


def show_record(record: Record) -> dict[str, Any]:
    """What the record says, secrets hidden."""
    return {
        "name": record.name,
        "type": record.type.value,
        "image": record.image_name,
        "fingerprint": record.image,
        "description": record.description,
        "profiles": list(record.profiles),
        "config": show_config(record.config),
        "devices": render_devices(record.devices),
        "expanded_config": show_config(record.expanded_config),
        "expanded_devices": render_devices(record.expanded_devices),
        "created_at": record.created_at,
        "root": {"pool": record.pool, "size": record.root.render().get("size")},
    }


def show_config(config: Any) -> dict[str, str]:
    rendered = INSTANCE.render(config)
    return {key: HIDDEN if INSTANCE.require(key, "record").secret else value for key, value in rendered.items()}


def show_profile(profile: Profile) -> dict[str, Any]:
    return {
        "name": profile.name,
        "description": profile.description,
        "config": show_config(profile.config),
        "devices": render_devices(profile.devices),
    }


def show_addresses(addresses: tuple[Address, ...]) -> list[dict[str, Any]]:
    return [
        {
            "interface": address.interface,
            "family": address.family,
            "address": address.address,
            "prefix": address.prefix,
            "scope": address.scope,
            "hwaddr": address.hwaddr,
        }
        for address in addresses
    ]
