# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The effects that steps of a storage pool have. Observing is in observe.py, what is done inside a pool in pool.py."""

from __future__ import annotations

from .._core.errors import Conflict
from .._host.files import TEMPORARY_PREFIX, ensure_directory, sync_directory
from .._host.paths import Paths
from .._host.supervisor import open_supervisor
from . import backing, layout, mounts
from .layout import AREA_MODES, layout_of
from .observe import pool_unit
from .plan import users_message
from .pool import driver_of, open_pool
from .record import Backing, Presence, Recorded
from .users import users_in


class Host:
    """See steps.PoolHost."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def write_record(self, recorded: Recorded) -> None:
        layout.write_record(self._paths, recorded)

    def require_unused(self, recorded: Recorded) -> None:
        """Conflict naming the users; a pool whose file or device is gone has none."""
        if not backing.is_backing_there(recorded, layout_of(self._paths, recorded.name)):
            return
        users = users_in(open_pool(self._paths, recorded.name).list_contents())
        if users:
            raise Conflict(users_message(recorded.name, users))

    def make_backing(self, recorded: Recorded) -> None:
        place = layout_of(self._paths, recorded.name)
        backing.make_backing(recorded, place, driver_of(recorded, place.volumes))

    def mount(self, recorded: Recorded) -> None:
        """After a reboot nobody works in the pool yet: the moment to finish what was cut off."""
        place = layout_of(self._paths, recorded.name)
        if layout.observe_presence(place, recorded) is Presence.UNMOUNTED:
            mounts.mount(recorded, place)
        if recorded.backing is Backing.LOOP:
            backing.fit_filesystem(recorded, place)
        if layout.observe_presence(place, recorded) is Presence.MOUNTED:
            open_pool(self._paths, recorded.name).remove_leftovers()

    def lay_out(self, recorded: Recorded) -> None:
        """Directories of a new pool, and last its marker: from then on it can be used."""
        place = layout_of(self._paths, recorded.name)
        place.volumes.chmod(0o711)
        for area, mode in AREA_MODES.items():
            ensure_directory(place.volumes / area, mode)
        driver_of(recorded, place.volumes).prepare()
        layout.write_marker(place.volumes, recorded)

    def install_unit(self, recorded: Recorded) -> None:
        open_supervisor(self._paths).install(pool_unit(recorded, layout_of(self._paths, recorded.name)))

    def grow(self, recorded: Recorded) -> None:
        backing.grow_loop_file(recorded, layout_of(self._paths, recorded.name))

    def remount(self, recorded: Recorded) -> None:
        mounts.remount(recorded, layout_of(self._paths, recorded.name))

    def clear(self, recorded: Recorded) -> None:
        place = layout_of(self._paths, recorded.name)
        if recorded.backing is not Backing.PLAIN:
            supervisor, unit = open_supervisor(self._paths), pool_unit(recorded, place)
            supervisor.stop(unit, unit.stop_timeout_seconds)
            supervisor.remove(unit)
            mounts.unmount(recorded.name, place)
        backing.remove_backing(recorded, place, lambda volumes: driver_of(recorded, volumes))
        if place.volumes.is_dir():
            backing.remove_if_empty(recorded, place.volumes)
        for file in (place.fstab, place.directory / f"{TEMPORARY_PREFIX}{place.fstab.name}"):
            file.unlink(missing_ok=True)
        place.record.unlink()
        sync_directory(place.directory)
        self.remove_empty_directory(recorded.name)

    def remove_empty_directory(self, name: str) -> None:
        place = layout_of(self._paths, name)
        (place.directory / f"{TEMPORARY_PREFIX}{place.record.name}").unlink(missing_ok=True)
        place.directory.rmdir()
        sync_directory(self._paths.pools)
