# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What the collection costs against its peers, in the same run on the same machine: liblxc and QEMU by hand, and LXD by
lxc, lxd-benchmark and the module lxd_container.

Prints a table with medians and spreads, writes it as JSON (--json) and as a page (--page). Works below state roots of
its own and removes them, also when it fails or is interrupted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..integration.leaks import compare, observe
from ..integration.runner import CHECKOUT
from . import defined, lxd, machines, many_containers, one_container, payload, report
from .host import Host, open_host
from .interruption import interruptible, uninterrupted
from .lxd_peers import LxdPeers
from .measure import Missing, Peer, Row
from .progress import FAILURES, explain, say

_BUILD = CHECKOUT / ".build"


def topics(host: Host, peer: Peer) -> Mapping[str, Callable[[], Iterable[Row]]]:
    """Each can be run alone, by name."""
    return {
        "launch": lambda: one_container.launch(host, peer),
        "many": lambda: many_containers.twenty(host, peer),
        "nothing": lambda: one_container.nothing_to_do(host, peer),
        "hundred": lambda: many_containers.hundred(host),
        "power": lambda: one_container.power(host, peer),
        "inside": lambda: one_container.inside(host, peer),
        "copy": lambda: [one_container.copy_row()],
        "crowd": lambda: defined.crowded(host, peer),
        "start": lambda: machines.start(host),
        "boot": lambda: machines.boot(host),
        "modules": lambda: payload.module_rows(host.rounds),
    }


def measure(arguments: argparse.Namespace, rows: list[Row]) -> None:
    """Adds to rows, which so survive an interruption."""
    with TemporaryDirectory(prefix="tandem-bench-") as directory, ExitStack() as stack:
        host = open_host(Path(directory), arguments.rounds, arguments.few_rounds)
        stack.callback(clean, host)
        say("host and image")
        host.prepare()
        peer: Peer = Missing("LXD was not asked for")
        if not arguments.without_lxd:
            say("LXD")
            peer = LxdPeers(_BUILD, host.unpacked_image, host.plays.directory, host.rounds, host.few_rounds).measure()
        for name, act in topics(host, peer).items():
            if not arguments.topics or name in arguments.topics:
                say(name)
                rows.extend(attempt(name, act))
        say("cleaning up")


def attempt(name: str, act: Callable[[], Iterable[Row]]) -> Iterator[Row]:
    """The rows of a topic; one that fails does not take away what the others found."""
    try:
        yield from act()
    except FAILURES as failure:
        say(explain(failure))
        yield Row(name, f"{name}: what comes next", Missing("failed"))


def clean(host: Host) -> None:
    with uninterrupted():
        host.clean()


def write_page(found: Mapping[str, Any], path: Path | None) -> None:
    if path is not None:
        path.write_text(report.page(found), encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topics", nargs="*", help="only these")
    parser.add_argument("--rounds", type=int, default=7, help="of what takes little time (default: %(default)s)")
    parser.add_argument("--few-rounds", type=int, default=3, help="of what takes longer (default: %(default)s)")
    parser.add_argument("--without-lxd", action="store_true", help="leave out the rows about LXD")
    parser.add_argument("--json", type=Path, help="write the rows there")
    parser.add_argument("--page", type=Path, help="write the page about them there")
    parser.add_argument("--found", type=Path, help="measure nothing, but show what an earlier run wrote as JSON")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    if arguments.found:
        found = json.loads(arguments.found.read_text(encoding="utf-8"))
        print(report.terminal_table(found))
        write_page(found, arguments.page)
        return
    if os.geteuid() != 0:
        sys.exit("needs root: it works on this machine's kernel, disks and networks")
    # The command line of a machine names descriptors by number: those of whoever started this are in the way.
    os.closerange(3, 256)
    started = time.monotonic()
    before = observe()
    rows: list[Row] = []
    try:
        with interruptible():
            measure(arguments, rows)
    except FAILURES as failure:
        sys.exit(explain(failure))
    finally:
        found = report.describe(rows, lxd.version(_BUILD / "lxd"), time.monotonic() - started)
        if arguments.json:
            arguments.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(report.terminal_table(found))
    # Half of a run makes no page.
    write_page(found, arguments.page)
    leaks = compare(before, observe())
    if leaks:
        sys.exit("left on the machine by this run:\n" + "\n".join(map(str, leaks)))


if __name__ == "__main__":
    main()
