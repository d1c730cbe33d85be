# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What the collection costs against the same work by hand, in the same run on the same machine.

Prints a table with medians and spreads and writes it as JSON (--json). Works below a state root of its own and
removes it. A figure is ours minus an ansible.builtin.ping task in the same play, so that Ansible's own share
is not counted; 'by hand' is what a person's script would run.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..integration.runner import BIN, CHECKOUT
from .by_hand import HandMadeContainer, HandMadeMachine

ROOT = Path("/var/lib/tandem-bench")
NETWORK = "tdbench0"
IMAGE = "debian/12"


@dataclass(frozen=True)
class Row:
    """One comparison, in milliseconds."""

    what: str
    ours: float
    ours_spread: tuple[float, float]
    by_hand: float
    by_hand_spread: tuple[float, float]
    wanted: str
    figure: str
    holds: bool


def median(values: Sequence[float]) -> float:
    return statistics.median(values) * 1000


def spread(values: Sequence[float]) -> tuple[float, float]:
    return min(values) * 1000, max(values) * 1000


class Bench:
    """Runs playbooks and reads what each task took."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def durations(self, tasks: Sequence[dict[str, Any]]) -> list[tuple[str, float]]:
        """Name and seconds of each task of a play on localhost."""
        play = {
            "hosts": "localhost",
            "gather_facts": False,
            "module_defaults": {"group/tandem.machines.all": {"root": str(ROOT)}},
            "tasks": list(tasks),
        }
        playbook = self._directory / "playbook.json"
        playbook.write_text(json.dumps([play]))
        output = self._directory / "durations.jsonl"
        output.unlink(missing_ok=True)
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")},
            "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".build"),
            "ANSIBLE_CALLBACK_PLUGINS": str(Path(__file__).with_name("callbacks")),
            "ANSIBLE_CALLBACKS_ENABLED": "durations",
            "ANSIBLE_LIBRARY": str(Path(__file__).with_name("library")),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "TANDEM_DURATIONS": str(output),
        }
        done = subprocess.run(
            [str(BIN / "ansible-playbook"), str(playbook)], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            sys.exit(done.stdout + done.stderr)
        lines = [json.loads(line) for line in output.read_text().splitlines()]
        return [(line["name"], line["seconds"]) for line in lines]

    def alternate(self, rounds: int, **named: dict[str, Any]) -> dict[str, list[float]]:
        """Seconds of each named task, all of them in turn, rounds times; the first round warms up."""
        tasks = [{"name": name, **task} for _unused in range(rounds + 1) for name, task in named.items()]
        found: dict[str, list[float]] = {name: [] for name in named}
        for name, seconds in self.durations(tasks):
            found[name].append(seconds)
        return {name: values[1:] for name, values in found.items()}


def instance(**options: Any) -> dict[str, Any]:
    return {"tandem.machines.instance": options}


PING: dict[str, Any] = {"ansible.builtin.ping": {}}


HOST_VARIABLES = {
    "host_root": str(ROOT),
    "host_storage_pool": {"name": "default", "driver": "btrfs", "config": {"size": "20GiB"}},
    "host_network": {"name": NETWORK, "config": {"ipv4.address": "auto", "ipv4.nat": True}},
    "host_profile": {
        "name": "default",
        "devices": {
            "root": {"type": "disk", "path": "/", "pool": "default"},
            "eth0": {"type": "nic", "network": NETWORK},
        },
    },
}


def host_role(**more: str) -> dict[str, Any]:
    return {"ansible.builtin.include_role": {"name": "tandem.machines.host", **more}, "vars": HOST_VARIABLES}


def prepare(bench: Bench) -> None:
    source = {"type": "build", "distribution": "debian", "release": "bookworm"}
    bench.durations(
        [
            host_role(),
            {"tandem.machines.image": {"name": IMAGE, "source": source}},
            # What is made once for an image belongs to the image.
            instance(name="warm-c", image=IMAGE, state="present"),
            instance(name="warm-v", image=IMAGE, type="virtual-machine", state="present"),
        ]
    )


def clean(bench: Bench) -> None:
    bench.durations([host_role(tasks_from="remove")])


def nothing_to_do(bench: Bench, rounds: int) -> list[Row]:
    """One task with nothing to do against one ping."""
    bench.durations(
        [instance(name="bench-c", image=IMAGE), instance(name="bench-v", image=IMAGE, type="virtual-machine")]
    )
    rows = []
    for name, what in (("bench-c", "container"), ("bench-v", "virtual machine")):
        found = bench.alternate(rounds, ping=PING, ours=instance(name=name, image=IMAGE))
        ratio = median(found["ours"]) / median(found["ping"])
        rows.append(
            row(f"{what}: nothing to do, against ping", found["ours"], found["ping"], "at most 1.5 times", ratio, 1.5)
        )
    bench.durations([instance(name=name, state="absent", force_stop=True) for name in ("bench-c", "bench-v")])
    return rows


def container_launch(bench: Bench, rounds: int) -> list[Row]:
    """Created and started from a cached image, against snapshot, configuration and lxc-start by hand.

    The second row is no aim: it shows what is left of the aim for any module, however little it does.
    """
    hand = HandMadeContainer(ROOT, NETWORK)
    by_hand = [timed(hand.launch, hand.remove) for _unused in range(rounds + 1)][1:]
    bare = bare_launch(bench, hand, rounds)
    found = bench.alternate(
        rounds,
        ping=PING,
        ours=instance(name="bench-c", image=IMAGE),
        remove=instance(name="bench-c", state="absent", force_stop=True),
    )
    ours = less_ping(found)
    ratio = median(ours) / median(by_hand)
    return [
        row("container: launch from a cached image", ours, by_hand, "at most 1.5 times", ratio, 1.5),
        row("container: by a module without a purpose", bare, by_hand, "any", median(bare) / median(by_hand), math.inf),
    ]


def bare_launch(bench: Bench, hand: HandMadeContainer, rounds: int) -> list[float]:
    """Seconds that the same commands take inside an Ansible module, less a ping."""
    found: dict[str, list[float]] = {"ping": [], "ours": []}
    for _unused in range(rounds + 1):
        for (_name, seconds), key in zip(bench.durations([PING, {"bare_launch": hand.arguments}]), found):
            found[key].append(seconds)
        hand.remove()
    return less_ping({key: values[1:] for key, values in found.items()})


def machine_start(bench: Bench, rounds: int) -> Row:
    """A defined machine started until QEMU runs, against its command line by hand until the monitor says so."""
    bench.durations([instance(name="bench-v", image=IMAGE, type="virtual-machine", state="present")])
    hand = HandMadeMachine(ROOT, "bench-v")
    by_hand = [timed(hand.start, hand.stop) for _unused in range(rounds + 1)][1:]
    found = bench.alternate(
        rounds,
        ping=PING,
        ours=instance(name="bench-v"),
        stop=instance(name="bench-v", state="stopped", stop_timeout=0.1, force_stop=True),
    )
    ours = less_ping(found)
    more = median(ours) - median(by_hand)
    return row("virtual machine: QEMU up", ours, by_hand, "at most 150 ms more", more, 150, unit=" ms more")


def less_ping(found: dict[str, list[float]]) -> list[float]:
    ping = statistics.median(found["ping"])
    return [seconds - ping for seconds in found["ours"]]


def timed(act: Callable[[], None], undo: Callable[[], None]) -> float:
    started = time.monotonic()
    act()
    seconds = time.monotonic() - started
    undo()
    return seconds


def row(
    what: str, ours: list[float], by_hand: list[float], wanted: str, figure: float, limit: float, unit: str = " times"
) -> Row:
    text = f"{figure:.2f}{unit}" if unit == " times" else f"{figure:.0f}{unit}"
    return Row(what, median(ours), spread(ours), median(by_hand), spread(by_hand), wanted, text, figure <= limit)


def show(rows: Sequence[Row]) -> None:
    print(f"{'what':45} {'ours':>22} {'by hand':>22}  figure (wanted)")
    for entry in rows:
        ours = f"{entry.ours:.0f} ms ({entry.ours_spread[0]:.0f}-{entry.ours_spread[1]:.0f})"
        hand = f"{entry.by_hand:.0f} ms ({entry.by_hand_spread[0]:.0f}-{entry.by_hand_spread[1]:.0f})"
        verdict = "" if entry.holds else "  MISSED"
        print(f"{entry.what:45} {ours:>22} {hand:>22}  {entry.figure} ({entry.wanted}){verdict}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="write the rows there")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("needs root: it works on this machine's kernel, disks and networks")
    # The command line of a machine names descriptors by number: those of whoever started this are in the way.
    os.closerange(3, 256)
    with TemporaryDirectory(prefix="tandem-bench-") as directory:
        bench = Bench(Path(directory))
        try:
            prepare(bench)
            rows = [*nothing_to_do(bench, arguments.rounds), *container_launch(bench, arguments.rounds)]
            rows.append(machine_start(bench, arguments.rounds))
        finally:
            clean(bench)
    show(rows)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(entry) for entry in rows], indent=2) + "\n")


if __name__ == "__main__":
    main()
