# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a benchmark consists of: samples of several rounds, aims, and rows that compare two samples."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Below this share of busy processors a machine counts as idle, and as much time it must stay so.
_IDLE_SHARE = 0.08
_IDLE_SECONDS = 0.4


# Run in a guest: until systemd, which at first does not answer at all, has nothing left to do. How well that went is
# not our concern. Before, a guest does not hear that it is to shut down.
AWAIT_BOOT = (
    "sh",
    "-c",
    "until systemctl is-system-running --wait 2>/dev/null | grep -qE 'running|degraded'; do sleep 0.1; done",
)


@dataclass(frozen=True)
class Sample:
    """One thing measured in several rounds; values in seconds, or in bytes where a row says so."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def less(self, other: Sample) -> Sample:
        """Each value without the median of the other: what a task takes beyond a ping."""
        return Sample(tuple(value - other.median for value in self.values))

    def show(self, scale: float) -> dict[str, Any]:
        rounded = [round(value * scale, 1) for value in self.values]
        low, high = min(rounded), max(rounded)
        return {"median": round(self.median * scale, 1), "low": low, "high": high, "rounds": len(rounded)}


@dataclass(frozen=True)
class Missing:
    """Why there is no sample."""

    reason: str


Found = Sample | Missing
# What was measured of a peer, by name, or why nothing was.
Peer = Mapping[str, Sample] | Missing


@dataclass(frozen=True)
class Aim:
    """What a row is to show. figure takes both medians, ours first; format renders what it gives."""

    wanted: str
    figure: Callable[[float, float], float]
    format: str
    is_held: Callable[[float], bool]


def at_most_times(limit: float) -> Aim:
    return Aim(f"at most {limit:g} times", _times, "{:.2f} times", lambda figure: figure <= limit)


def faster(limit: float) -> Aim:
    return Aim(f"at least {limit:g} times faster", _times_faster, "{:.1f} times faster", lambda figure: figure >= limit)


def at_most_more(limit_seconds: float) -> Aim:
    wanted = f"at most {limit_seconds * 1000:g} ms more"
    return Aim(wanted, lambda ours, theirs: ours - theirs, "{:+.3f} s", lambda figure: figure <= limit_seconds)


def at_most_each(limit_seconds: float, count: int) -> Aim:
    """The difference, shared among count objects."""
    wanted = f"at most {limit_seconds * 1000:g} ms more for each"
    return Aim(
        wanted,
        lambda ours, theirs: (ours - theirs) / count * 1000,
        "{:.2f} ms more for each",
        lambda figure: figure <= limit_seconds * 1000,
    )


def at_most(limit_seconds: float) -> Aim:
    """Ours alone."""
    wanted = f"at most {limit_seconds:g} s"
    return Aim(wanted, lambda ours, _theirs: ours, "{:.2f} s", lambda figure: figure <= limit_seconds)


def _times(ours: float, theirs: float) -> float:
    return ours / theirs


def _times_faster(ours: float, theirs: float) -> float:
    # What is left beyond a ping can be nothing at all.
    return theirs / max(ours, 0.001)


ANY = Aim("", _times, "{:.2f} times", lambda _figure: True)


@dataclass(frozen=True)
class Row:
    """One comparison. theirs is what the peer took, or why it is not known; None where there is no peer."""

    topic: str
    what: str
    ours: Found
    peer: str = ""
    theirs: Found | None = None
    aim: Aim = ANY
    unit: str = "ms"

    def show(self) -> dict[str, Any]:
        """The row as JSON; times in ms, sizes in KiB. figure and holds are null where nothing is to be judged."""
        scale = 1000.0 if self.unit == "ms" else 1 / 1024
        figure = self._figure()
        return {
            "topic": self.topic,
            "what": self.what,
            "unit": self.unit,
            "ours": self.ours.show(scale) if isinstance(self.ours, Sample) else None,
            "peer": self.peer,
            "theirs": self.theirs.show(scale) if isinstance(self.theirs, Sample) else None,
            "figure": None if figure is None else self.aim.format.format(figure),
            "wanted": self.aim.wanted,
            "holds": self.aim.is_held(figure) if figure is not None and self.aim.wanted else None,
            "missing": "; ".join(found.reason for found in (self.ours, self.theirs) if isinstance(found, Missing)),
        }

    def _figure(self) -> float | None:
        if not isinstance(self.ours, Sample) or isinstance(self.theirs, Missing):
            return None
        if self.theirs is None:
            return self.aim.figure(self.ours.median, 0) if self.aim.wanted else None
        return self.aim.figure(self.ours.median, self.theirs.median)


def pick(found: Peer, key: str) -> Found:
    """One of a peer's samples, or why there are none."""
    if isinstance(found, Missing):
        return found
    return found.get(key, Missing("not measured"))


def less(found: Found, other: Sample) -> Found:
    return found.less(other) if isinstance(found, Sample) else found


def sample(rounds: int, act: Callable[[], object], undo: Callable[[], object] = lambda: None) -> Sample:
    """Seconds of act, undone after each round; the first round warms up."""
    return Sample(tuple([timed(act, undo) for _unused in range(rounds + 1)][1:]))


def timed(act: Callable[[], object], undo: Callable[[], object] = lambda: None) -> float:
    started = time.monotonic()
    act()
    seconds = time.monotonic() - started
    undo()
    return seconds


def wait_until_idle(limit_seconds: float = 90) -> None:
    """Until what was started has booted: guests that still boot would slow down whatever is measured next.

    The kernel has no event for that, so its counters are read every now and then. Goes on when the time is up.
    """
    deadline = time.monotonic() + limit_seconds
    while time.monotonic() < deadline:
        before = _processor_ticks()
        time.sleep(_IDLE_SECONDS)
        busy, total = (after - earlier for after, earlier in zip(_processor_ticks(), before))
        if total and busy / total < _IDLE_SHARE:
            return


def _processor_ticks() -> tuple[int, int]:
    """Busy and all ticks since boot, see proc_stat(5)."""
    ticks = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    idle = ticks[3] + ticks[4]
    return sum(ticks) - idle, sum(ticks)


def merge(parts: Sequence[Mapping[str, float]]) -> dict[str, Sample]:
    """Samples out of rounds that each give a value for the same keys."""
    return {key: Sample(tuple(part[key] for part in parts)) for key in parts[0]}
