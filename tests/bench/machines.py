# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Rows about virtual machines, against the same QEMU command line by hand. No other peer runs one everywhere."""

from __future__ import annotations

from collections.abc import Iterator

from .host import MACHINE, NETWORK, ROOT, Host, instance
from .measure import Row, Sample, at_most_more, merge, sample, timed, wait_until_idle
from .plays import PING
from .qemu_by_hand import HandMadeMachine

_NAME = "bench-vm"
_WAIT_SECONDS = 300


def start(host: Host) -> Iterator[Row]:
    """Until QEMU's monitor says that the guest runs: of a new machine, and of a defined one."""
    hand = HandMadeMachine(ROOT, MACHINE, NETWORK)
    try:
        launched = sample(host.rounds, hand.launch, hand.remove)
        hand.create()
        started = sample(host.rounds, hand.start, hand.end)
    finally:
        hand.remove()
    found = host.plays.alternate(
        host.rounds,
        ping=PING,
        launch=instance(_NAME, type="virtual-machine"),
        stop=instance(_NAME, state="stopped", stop_timeout=0.1, force_stop=True),
        start=instance(_NAME),
        remove=instance(_NAME, state="absent", force_stop=True),
    )
    aim = at_most_more(0.150)
    what = "virtual machine: created and QEMU up, less a ping"
    yield Row("virtual machines", what, found["launch"].less(found["ping"]), "by hand", launched, aim)
    what = "virtual machine: QEMU up, less a ping"
    yield Row("virtual machines", what, found["start"].less(found["ping"]), "by hand", started, aim)


def boot(host: Host) -> Iterator[Row]:
    """A new machine until its agent answers, and its orderly end. By turns, for emulation is uneven."""
    wait_until_idle()
    rounds = [{**_boot_ours(host), **_boot_by_hand()} for _unused in range(host.few_rounds)]
    found = merge(rounds)

    def less_ping(key: str) -> Sample:
        return found[key].less(found["ping"])

    what = "virtual machine: created and agent ready, less a ping"
    yield Row("virtual machines", what, less_ping("ready"), "by hand", found["ready by hand"], at_most_more(0.2))
    what = "virtual machine: asked to shut down, less a ping"
    yield Row("virtual machines", what, less_ping("stop"), "by hand", found["stop by hand"])


def _boot_ours(host: Host) -> dict[str, float]:
    new = instance(_NAME, type="virtual-machine", wait_for=["agent"], wait_timeout=_WAIT_SECONDS)
    ready = host.plays.once(ready=new)
    # The agent answers before the guest has booted.
    wait_until_idle()
    stopped = host.plays.once(stop=instance(_NAME, state="stopped", stop_timeout=60))
    host.plays.run(instance(_NAME, state="absent", force_stop=True))
    return {**ready, "stop": stopped["stop"]}


def _boot_by_hand() -> dict[str, float]:
    hand = HandMadeMachine(ROOT, MACHINE, NETWORK)

    def become_ready() -> None:
        hand.launch()
        hand.await_agent()

    try:
        ready = timed(become_ready)
        wait_until_idle()
        return {"ready by hand": ready, "stop by hand": timed(hand.stop)}
    finally:
        hand.remove()
