# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Rows about many containers in one task of module stack: launched, nothing to do, removed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .by_hand import HandMadeContainers
from .host import CONTAINER, ROOT, Host, numbered, stack
from .measure import (
    Peer,
    Row,
    Sample,
    at_most_each,
    at_most_times,
    faster,
    less,
    merge,
    pick,
    timed,
    wait_until_idle,
)
from .plays import PING
from .sizes import HUNDRED, MANY

_EACH_SECONDS = 0.005


@dataclass(frozen=True)
class _Ours:
    """Whole tasks, and the pings beside them."""

    launch: Sample
    launch_ping: Sample
    nothing: Sample
    nothing_ping: Sample
    remove: Sample
    remove_ping: Sample


def twenty(host: Host, peer: Peer) -> Iterator[Row]:
    ours, by_hand = _measure(host, MANY), _by_hand(host)
    yield from _launch_rows(ours, by_hand, peer)
    yield from _nothing_rows(ours, peer)
    yield from _removal_rows(ours, by_hand, peer)


def hundred(host: Host) -> Iterator[Row]:
    names = numbered(HUNDRED)
    host.plays.run(stack(names))
    wait_until_idle()
    found = host.plays.alternate(host.rounds, ping=PING, nothing=stack(names))
    host.plays.run(stack(names, state="absent", force_stop=True))
    aim = at_most_each(_EACH_SECONDS, HUNDRED)
    yield Row("nothing to do", f"{HUNDRED} containers: nothing to do", found["nothing"], "ping", found["ping"], aim)


def _measure(host: Host, count: int) -> _Ours:
    names = numbered(count)

    def once() -> dict[str, float]:
        launched = host.plays.once(launch=stack(names))
        wait_until_idle()
        again = host.plays.alternate(1, ping=PING, nothing=stack(names))
        removed = host.plays.once(remove=stack(names, state="absent", force_stop=True))
        wait_until_idle()
        return {
            "launch": launched["launch"],
            "launch_ping": launched["ping"],
            "nothing": again["nothing"].median,
            "nothing_ping": again["ping"].median,
            "remove": removed["remove"],
            "remove_ping": removed["ping"],
        }

    return _Ours(**merge([once() for _unused in range(host.few_rounds)]))


def _by_hand(host: Host) -> dict[str, Sample]:
    hand = HandMadeContainers(ROOT, CONTAINER, MANY)

    def once() -> dict[str, float]:
        launch = timed(hand.launch)
        wait_until_idle()
        remove = timed(hand.remove)
        wait_until_idle()
        return {"launch": launch, "remove": remove}

    try:
        return merge([once() for _unused in range(host.few_rounds)])
    finally:
        hand.remove()


def _launch_rows(ours: _Ours, by_hand: Mapping[str, Sample], peer: Peer) -> Iterator[Row]:
    what = f"{MANY} containers: launch from a cached image"
    less_ping = ours.launch.less(ours.launch_ping)
    yield Row("launch", f"{what}, less a ping", less_ping, "by hand", by_hand["launch"], at_most_times(1.5))
    theirs = pick(peer, "lxd_container launch")
    yield Row("launch", what, ours.launch, "lxd_container loop", theirs, faster(5))
    yield Row("launch", what, ours.launch, "lxd-benchmark", pick(peer, "lxd-benchmark launch"), faster(3))


def _nothing_rows(ours: _Ours, peer: Peer) -> Iterator[Row]:
    what = f"{MANY} containers: nothing to do"
    yield Row("nothing to do", what, ours.nothing, "ping", ours.nothing_ping, at_most_each(_EACH_SECONDS, MANY))
    less_ping = ours.nothing.less(ours.nothing_ping)
    ping = pick(peer, "lxd_container ping")
    theirs = pick(peer, "lxd_container nothing")
    if isinstance(ping, Sample):
        theirs = less(theirs, ping)
    yield Row("nothing to do", f"{what}, less a ping", less_ping, "lxd_container loop", theirs, faster(30))


def _removal_rows(ours: _Ours, by_hand: Mapping[str, Sample], peer: Peer) -> Iterator[Row]:
    what = f"{MANY} running containers: removal"
    theirs = pick(peer, "lxd-benchmark delete")
    yield Row("removal", what, ours.remove, "lxd-benchmark", theirs, at_most_times(0.5))
    yield Row("removal", what, ours.remove, "lxd_container loop", pick(peer, "lxd_container remove"))
    less_ping = ours.remove.less(ours.remove_ping)
    yield Row("removal", f"{what}, less a ping", less_ping, "by hand", by_hand["remove"])
