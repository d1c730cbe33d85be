# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Rows about hosts with many defined instances: what instance_info takes, and a task about another instance."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping

from .host import CONTAINER, Host, instance, numbered, stack
from .measure import Peer, Row, Sample, at_most, at_most_times, pick, sample, wait_until_idle
from .one_container import NOTHING_AIM
from .plays import PING, Task
from .sizes import CROWD, DEFINED, DEFINED_WITH_LXD

_INFO: Task = {"tandem.machines.instance_info": {}}
_SECONDS_FOR_ALL = 1.0


def crowded(host: Host, peer: Peer) -> Iterator[Row]:
    """Ever more instances, all of them removed in the end."""
    tasks: dict[int, Sample] = {}
    modules: dict[int, Sample] = {}
    defined = 2
    names = numbered(max(DEFINED) - defined, "crowd")
    try:
        for number in sorted({*DEFINED, CROWD}):
            host.plays.run(stack(names[defined - 2 : number - 2], state="present"))
            defined = number
            wait_until_idle()
            if number in DEFINED:
                found = host.plays.alternate(host.rounds, ping=PING, info=_INFO)
                tasks[number] = found["info"].less(found["ping"])
                modules[number] = _module_alone(host, _INFO)
            if number == CROWD:
                yield _nothing_row(host)
    finally:
        host.plays.run(stack(names[: defined - 2], state="absent"))
    yield from _info_rows(tasks, modules, peer)


def _module_alone(host: Host, task: Task) -> Sample:
    """The program that Ansible would run on the host, without Ansible: from its start to its end."""
    program = host.plays.module_file(task)
    interpreter = program.read_text().partition("\n")[0].removeprefix("#!").strip()

    def run() -> None:
        subprocess.run([interpreter, program], stdin=subprocess.DEVNULL, capture_output=True, check=True)

    return sample(host.rounds, run)


def _nothing_row(host: Host) -> Row:
    host.plays.run(instance(CONTAINER))
    found = host.plays.alternate(host.rounds, ping=PING, ours=instance(CONTAINER))
    host.plays.run(instance(CONTAINER, state="stopped", stop_timeout=0.1, force_stop=True))
    what = f"container: nothing to do ({CROWD} instances on the host)"
    return Row("nothing to do", what, found["ours"], "ping", found["ping"], NOTHING_AIM)


def _info_rows(tasks: Mapping[int, Sample], modules: Mapping[int, Sample], peer: Peer) -> Iterator[Row]:
    for number in DEFINED:
        what = f"instance_info: {number} defined"
        ours = tasks[number]
        if number in DEFINED_WITH_LXD:
            yield Row("information", f"{what}, less a ping", ours, "lxc list", pick(peer, f"lxc list {number}"))
        else:
            yield Row("information", f"{what}, less a ping", ours)
    few, many = DEFINED[-2:]
    what = f"instance_info: {many} defined, the module alone"
    yield Row("information", what, modules[many], aim=at_most(_SECONDS_FOR_ALL))
    yield Row("information", what, modules[many], f"{few} defined", modules[few], at_most_times(many // few))
