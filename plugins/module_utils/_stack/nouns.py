# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The kinds of objects that a stack can hold. A new one needs its line here, and nothing else."""

from __future__ import annotations

from .._core.resource import Noun
from .._image.resource import IMAGE_NOUN
from .._instance.profiles import PROFILE_NOUN
from .._instance.resource import INSTANCE_NOUN
from .._network.resource import NETWORK_NOUN
from .._storage.resource import STORAGE_POOL_NOUN

# Nouns of one level do not know each other, those of a later one refer to those before.
LEVELS: tuple[tuple[Noun, ...], ...] = (
    (STORAGE_POOL_NOUN, NETWORK_NOUN, IMAGE_NOUN),
    (PROFILE_NOUN,),
    (INSTANCE_NOUN,),
)
NOUNS: tuple[Noun, ...] = tuple(noun for level in LEVELS for noun in level)
