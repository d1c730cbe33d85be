# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The kinds of objects that a stack can hold. A new one needs its row and its two loaders here, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .._core.description import Description
from .._core.resource import Noun


@dataclass(frozen=True, eq=False, repr=False)
class Kind:
    """A kind of object by its noun's name and plural. load imports the noun, which only stacks with one of it need,
    describe what writes down the objects of a host.

    Kinds of one level do not know each other, those of a higher one refer to those below.
    """

    name: str
    plural: str
    level: int
    load: Callable[[], Noun]
    describe: Callable[[], Description]


def _storage_pool() -> Noun:
    from .._storage.resource import STORAGE_POOL_NOUN

    return STORAGE_POOL_NOUN


def _describe_storage_pool() -> Description:
    from .._storage.document import STORAGE_POOL_DESCRIPTION

    return STORAGE_POOL_DESCRIPTION


def _network() -> Noun:
    from .._network.resource import NETWORK_NOUN

    return NETWORK_NOUN


def _describe_network() -> Description:
    from .._network.document import NETWORK_DESCRIPTION

    return NETWORK_DESCRIPTION


def _image() -> Noun:
    from .._image.resource import IMAGE_NOUN

    return IMAGE_NOUN


def _describe_image() -> Description:
    from .._image.document import IMAGE_DESCRIPTION

    return IMAGE_DESCRIPTION


def _profile() -> Noun:
    from .._instance.profiles import PROFILE_NOUN

    return PROFILE_NOUN


def _describe_profile() -> Description:
    from .._instance.document import PROFILE_DESCRIPTION

    return PROFILE_DESCRIPTION


def _instance() -> Noun:
    from .._instance.resource import INSTANCE_NOUN

    return INSTANCE_NOUN


def _describe_instance() -> Description:
    from .._instance.document import INSTANCE_DESCRIPTION

    return INSTANCE_DESCRIPTION


KINDS = (
    Kind("storage_pool", "storage_pools", 0, _storage_pool, _describe_storage_pool),
    Kind("network", "networks", 0, _network, _describe_network),
    Kind("image", "images", 0, _image, _describe_image),
    Kind("profile", "profiles", 1, _profile, _describe_profile),
    Kind("instance", "instances", 2, _instance, _describe_instance),
)
TOP_LEVEL = max(kind.level for kind in KINDS)
