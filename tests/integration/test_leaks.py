# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The leak check sees what it is there to see, and nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.tandem.machines.tests.integration.fixtures import require_root
from ansible_collections.tandem.machines.tests.integration.leaks import compare, observe

PLACE = Path("/run/tandem-test-leaks")
LINK = "tdtestleak"
TABLE = "tandem-tdtestleak"
UNIFIED = Path("/sys/fs/cgroup/unified")
CGROUP = f"{UNIFIED if UNIFIED.is_dir() else UNIFIED.parent}/tandem-test-leak"

# Area to the commands that leave something there and take it away.
ACTS = {
    "link": (["ip", "link", "add", LINK, "type", "bridge"], ["ip", "link", "del", LINK]),
    "mount": (["mount", "-t", "tmpfs", "tdtestleak", str(PLACE)], ["umount", str(PLACE)]),
    "file": (["touch", f"{PLACE}/.new-record.json"], ["rm", f"{PLACE}/.new-record.json"]),
    "firewall": (["nft", "add", "table", "inet", TABLE], ["nft", "delete", "table", "inet", TABLE]),
    "cgroup": (["mkdir", CGROUP], ["rmdir", CGROUP]),
}


@pytest.fixture
def place() -> Iterator[Path]:
    require_root()
    PLACE.mkdir(exist_ok=True)
    yield PLACE
    PLACE.rmdir()


def do(argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True)


@pytest.mark.parametrize("area", ACTS)
def test_what_is_left_behind_is_seen(area: str, place: Path) -> None:
    leave, take_away = ACTS[area]
    before = observe()
    do(leave)
    try:
        seen = {(leak.sign, leak.area) for leak in compare(before, observe())}
    finally:
        do(take_away)
    assert ("+", area) in seen
    assert ("-", area) not in seen


def test_a_process_of_ours_is_seen(place: Path) -> None:
    before = observe()
    with subprocess.Popen(["tail", "--follow", "/dev/null", "/run/tandem"], stderr=subprocess.DEVNULL) as process:
        leaks = compare(before, observe())
        process.kill()
    assert [leak for leak in leaks if leak.area == "process" and leak.line.startswith(f"{process.pid} tail")]


def test_looking_twice_shows_no_difference() -> None:
    require_root()
    assert compare(observe(), observe()) == []
