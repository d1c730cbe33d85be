# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Rows about one container: launch, nothing to do, start, stop, restart, commands and files inside."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .by_hand import HandMadeContainers
from .host import CONTAINER, MACHINE, ROOT, Host, instance
from .measure import AWAIT_BOOT, Missing, Peer, Row, Sample, at_most_times, merge, pick, sample, timed, wait_until_idle
from .plays import PING, Task
from .sizes import TRANSFER_BYTES

NOTHING_AIM = at_most_times(1.3)
_NAME = "bench-one"


def nothing_to_do(host: Host, peer: Peer) -> Iterator[Row]:
    """One task with nothing to do against one ping, for both types; both run."""
    names = {CONTAINER: "container", MACHINE: "virtual machine"}
    types = {CONTAINER: {}, MACHINE: {"type": "virtual-machine"}}
    host.plays.run(*(instance(name, **types[name]) for name in names))
    # An emulated machine that boots keeps a processor busy for long.
    wait_until_idle()
    for name, what in names.items():
        found = host.plays.alternate(host.rounds, ping=PING, ours=instance(name))
        what = f"{what}: nothing to do (few instances on the host)"
        yield Row("nothing to do", what, found["ours"], "ping", found["ping"], NOTHING_AIM)
        if name == CONTAINER:
            theirs = pick(peer, "lxd_container nothing 1")
            yield Row("nothing to do", what, found["ours"], "lxd_container", theirs)
    host.plays.run(*(instance(name, state="stopped", stop_timeout=0.1, force_stop=True) for name in names))


def launch(host: Host, peer: Peer) -> Iterator[Row]:
    """Created and started from a cached image; a task without the ping.

    The second row is no aim: it shows what is left of the aim for any module, however little it does.
    """
    hand = HandMadeContainers(ROOT, CONTAINER)
    try:
        by_hand = sample(host.rounds, hand.launch, hand.remove)
        bare = _bare_launch(host, hand)
    finally:
        hand.remove()
    remove = instance(_NAME, state="absent", force_stop=True)
    found = host.plays.alternate(host.rounds, ping=PING, ours=instance(_NAME), remove=remove)
    ours = found["ours"].less(found["ping"])
    what = "container: launch from a cached image, less a ping"
    yield Row("launch", what, ours, "by hand", by_hand, at_most_times(1.5))
    yield Row("launch", "container: launch by a module without a purpose, less a ping", bare, "by hand", by_hand)
    yield Row("launch", what, ours, "lxc launch", pick(peer, "lxc launch"))
    yield Row("removal", "container: removal, less a ping", found["remove"].less(found["ping"]))


def _bare_launch(host: Host, hand: HandMadeContainers) -> Sample:
    """The same commands inside an Ansible module."""
    bare: Task = {"bare_launch": hand.bare_launch_arguments()}
    remove: Task = {"ansible.builtin.shell": {"cmd": hand.removal_script()}}
    found = host.plays.alternate(host.rounds, ping=PING, bare=bare, remove=remove)
    return found["bare"].less(found["ping"])


def power(host: Host, peer: Peer) -> Iterator[Row]:
    """Start, stop and restart of a container that has booted; guests are asked to shut down."""
    hand = HandMadeContainers(ROOT, CONTAINER)
    try:
        hand.launch()
        by_hand = merge([_power_by_hand(hand) for _unused in range(host.few_rounds)])
    finally:
        hand.remove()
    found = host.plays.alternate(
        host.few_rounds,
        ping=PING,
        start=instance(_NAME),
        booted=_await_boot(_NAME),
        restart=instance(_NAME, state="restarted"),
        booted_again=_await_boot(_NAME),
        stop=instance(_NAME, state="stopped"),
    )
    host.plays.run(instance(_NAME, state="absent", force_stop=True))
    for act in ("start", "stop", "restart"):
        what, ours = f"container: {act}, less a ping", found[act].less(found["ping"])
        yield Row("power", what, ours, "by hand", by_hand[act])
        yield Row("power", what, ours, f"lxc {act}", pick(peer, f"lxc {act}"))


def _power_by_hand(hand: HandMadeContainers) -> dict[str, float]:
    hand.await_boot()
    stop, start = timed(hand.stop), timed(hand.start)
    hand.await_boot()
    return {"stop": stop, "start": start, "restart": timed(hand.restart)}


def _await_boot(name: str) -> Task:
    lxcpath = ROOT / "instances"
    argv = ["lxc-attach", "-P", str(lxcpath), "-n", name, "--clear-env", "--", *AWAIT_BOOT]
    return {"ansible.builtin.command": {"argv": argv}, "changed_when": False}


def inside(host: Host, peer: Peer) -> Iterator[Row]:
    """Commands and files through the connection plugin: what it takes, without Ansible around it."""
    hand = HandMadeContainers(ROOT, CONTAINER)
    size = f"{TRANSFER_BYTES >> 20} MiB"
    whats = {"exec": "a command in a container", "put": f"{size} into a container", "fetch": f"{size} out of it"}
    with tempfile.TemporaryDirectory(dir=host.plays.directory) as directory:
        sent, fetched = Path(directory) / "sent", Path(directory) / "fetched"
        sent.write_bytes(os.urandom(TRANSFER_BYTES))
        try:
            by_hand = _inside_by_hand(host, hand, sent, fetched)
        finally:
            hand.remove()
        host.plays.run(instance(_NAME), _await_boot(_NAME))
        wait_until_idle()
        ours = {
            **host.plays.alternate(host.rounds, exec=_through(_NAME, exec="true")),
            **host.plays.alternate(
                host.few_rounds,
                put=_through(_NAME, put=str(sent), to="/root/sent"),
                fetch=_through(_NAME, fetch="/root/sent", to=str(fetched)),
            ),
        }
        if fetched.read_bytes() != sent.read_bytes():
            raise RuntimeError("what came out of the container is not what was sent into it")
    host.plays.run(instance(_NAME, state="absent", force_stop=True))
    peers = {"exec": "lxc exec", "put": "lxc push", "fetch": "lxc pull"}
    for act, what in whats.items():
        yield Row("inside", what, ours[act], "lxc-attach", by_hand[act])
        yield Row("inside", what, ours[act], peers[act], pick(peer, peers[act]))


def _inside_by_hand(host: Host, hand: HandMadeContainers, sent: Path, fetched: Path) -> dict[str, Sample]:
    hand.launch()
    hand.await_boot()
    wait_until_idle()
    return {
        "exec": sample(host.rounds, lambda: hand.execute("true")),
        "put": sample(host.few_rounds, lambda: hand.execute("sh", "-c", "cat >/root/sent", stdin=sent)),
        "fetch": sample(host.few_rounds, lambda: hand.execute("cat", "/root/sent", stdout=fetched)),
    }


def _through(name: str, **act: str) -> Task:
    variables: dict[str, Any] = {
        "ansible_connection": "tandem.machines.instance",
        "ansible_tandem_instance": name,
        "ansible_tandem_root": str(ROOT),
    }
    return {"through_connection": act, "vars": variables}


def copy_row() -> Row:
    return Row("copy", "container: copy", Missing("tandem.machines has no copy of instances yet"))
