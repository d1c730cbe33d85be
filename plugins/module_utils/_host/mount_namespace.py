# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Make private mounts: for a process between fork and exec, or as the program that systemd starts first."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from . import namespaces
from .private_mounts import PrivateMounts, not_needed


@dataclass(frozen=True, eq=False, repr=False)
class MountLauncher:
    """Launcher of a unit whose main process has private mounts. program is the argv of what carries out wrap()."""

    mounts: PrivateMounts
    program: tuple[str, ...]

    def wrap(self, command: tuple[str, ...]) -> tuple[str, ...]:
        return (*self.program, json.dumps({"mounts": asdict(self.mounts), "command": list(command)}))

    @contextmanager
    def prepared(self) -> Iterator[Callable[[], None]]:
        trees = open_trees(self.mounts)
        try:
            yield lambda: _enter_or_say_why(self.mounts, trees)
        finally:
            close_trees(trees)


def execute_wrapped(argument: str) -> None:
    """Become the command that wrap() was given, with its mounts; OSError."""
    description = json.loads(argument)
    mounts = PrivateMounts(**description["mounts"])
    command = list(description["command"])
    enter(mounts, open_trees(mounts))
    os.execv(command[0], command)


def open_trees(mounts: PrivateMounts) -> dict[str, int]:
    """The detached mounts as descriptors by name; OSError where kernel or file system cannot."""
    user_namespace = namespaces.create_user_namespace(mounts.base, mounts.count)
    trees: dict[str, int] = {}
    try:
        for sources, mapping in ((mounts.mapped, user_namespace), (mounts.plain, None)):
            for name, path in sources.items():
                trees[name] = namespaces.clone_mount(path, mapping, 0)
    except OSError:
        close_trees(trees)
        raise
    finally:
        os.close(user_namespace)
    return trees


def close_trees(trees: Mapping[str, int]) -> None:
    for tree in trees.values():
        os.close(tree)


def enter(mounts: PrivateMounts, trees: Mapping[str, int]) -> None:
    """Give this process a mount namespace of its own with the trees in their places; OSError."""
    namespaces.unshare(namespaces.CLONE_NEWNS)
    # What the host unmounts from now on goes here too, as far as the host shares its mounts.
    namespaces.mount("none", "/", "", namespaces.MS_REC | namespaces.MS_SLAVE)
    with open("/proc/self/mountinfo") as stream:
        table = stream.read()
    for path in not_needed(table, (*mounts.keep, mounts.directory)):
        with contextlib.suppress(OSError):
            namespaces.detach(path)
    # The way to it must be open to the guest's root, who is nobody special on the host.
    namespaces.mount(
        "none", mounts.directory, "tmpfs", namespaces.MS_NOSUID | namespaces.MS_NODEV, "mode=0711,size=64k"
    )
    for name, tree in trees.items():
        target = mounts.path(name)
        os.mkdir(target)
        namespaces.attach_mount(tree, target)


def _enter_or_say_why(mounts: PrivateMounts, trees: Mapping[str, int]) -> None:
    """Runs between fork and exec, where the text of an exception would be lost."""
    try:
        enter(mounts, trees)
    except BaseException as error:
        os.write(2, str(error).encode())
        os._exit(127)
