# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The closed sets of the vocabulary, as enums whose values are the words users write."""

from __future__ import annotations

from enum import Enum


class InstanceType(str, Enum):
    CONTAINER = "container"
    VIRTUAL_MACHINE = "virtual-machine"


class State(str, Enum):
    """What a task asks of an instance."""

    PRESENT = "present"
    STARTED = "started"
    STOPPED = "stopped"
    RESTARTED = "restarted"
    FROZEN = "frozen"
    ABSENT = "absent"


class Power(str, Enum):
    """What an existing instance does."""

    STOPPED = "stopped"
    RUNNING = "running"
    FROZEN = "frozen"


class Apply(str, Enum):
    """When a changed option takes effect."""

    LIVE = "live"
    RESTART = "restart"
    CREATE = "create"
    NONE = "none"


class Work(str, Enum):
    """What a record says is under way; only an interrupted run leaves one behind.

    With recreate the object is being made anew: unlike with create, its definition is somebody's and must be kept.
    """

    CREATE = "create"
    RECREATE = "recreate"
    UPDATE = "update"
    POWER = "power"
    DELETE = "delete"


LIVE = Apply.LIVE
RESTART = Apply.RESTART
CREATE = Apply.CREATE
NONE = Apply.NONE
