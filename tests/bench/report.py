# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a benchmark found, as JSON, as a table for a terminal and as a page. The last two are made from the first."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .measure import Row

SCHEMA = 1
_COLUMNS = ("what", "ours", "peer", "theirs", "figure", "wanted", "")
_TOPICS = {
    "launch": "Launch",
    "nothing to do": "Nothing to do",
    "power": "Start, stop, restart",
    "removal": "Removal",
    "copy": "Copy",
    "inside": "Commands and files inside",
    "information": "Information",
    "virtual machines": "Virtual machines",
    "modules": "What each module costs before it does anything",
}
_INTRODUCTION = """\
<!-- Written by `make bench PAGE=docs/performance.md`; not to be edited by hand. -->

# Performance

Each row compares ours with a peer that did the same work in the same run on the same machine: medians, and in
parentheses the fastest and the slowest round. All containers are made from one image, on a btrfs loop file each for
ours and for LXD.

* **Ours** is what Ansible counts for one task. *Less a ping* is without what an `ansible.builtin.ping` takes beside
  it, where the peer is no Ansible task and has no such share.
* **By hand** is a script with the plain commands: `btrfs subvolume snapshot`, a configuration file and `lxc-start`, one
  container after the other; for virtual machines the QEMU command line that ours runs, without anything around it.
* **lxc** and **lxd-benchmark** are the commands of LXD, with as many threads as there are processors;
  **lxd_container** is the module of community.general, driven by a loop in a playbook. LXD runs only while it is
  measured itself. It has no rows about virtual machines, which it refuses to run without KVM.
* **Figure** is ours divided by theirs, unless it says otherwise; smaller is better then. Where something is wanted of a
  figure, the last column says whether it holds.
"""


def describe(rows: Sequence[Row], lxd_version: str, seconds: float) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "minutes": round(seconds / 60, 1),
        "machine": _machine(),
        "versions": {**_versions(), "LXD": lxd_version},
        "rows": [row.show() for row in rows],
    }


def _machine() -> dict[str, Any]:
    memory = re.findall(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)[0]
    models = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    release = re.findall(r'^PRETTY_NAME="?([^"\n]+)', Path("/etc/os-release").read_text(), re.MULTILINE)
    return {
        "processor": models[0] if models else platform.machine(),
        "processors": os.cpu_count(),
        "memory_gib": round(int(memory) / (1 << 20), 1),
        "kernel": platform.release(),
        "distribution": release[0] if release else "unknown",
        "virtual_machines": "KVM" if _has_kvm() else "emulated (TCG)",
    }


def _has_kvm() -> bool:
    flags = re.findall(r"^flags\s*:(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return os.access("/dev/kvm", os.R_OK | os.W_OK) and bool(flags and re.search(r" (vmx|svm)\b", flags[0]))


def _versions() -> dict[str, str]:
    return {
        "ansible-core": version("ansible-core"),
        "Python": platform.python_version(),
        "liblxc": _first_number("lxc-start", "--version"),
        "QEMU": _first_number("qemu-system-x86_64", "--version"),
    }


def _first_number(*argv: str) -> str:
    try:
        said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        return "none"
    number = re.search(r"\d+\.[\d.]*\d", said)
    return number.group() if number is not None else "unknown"


def terminal_table(found: Mapping[str, Any]) -> str:
    """All rows under each other, and how many of the aims are missed."""
    lines = [_COLUMNS, *(_cells(row) for row in found["rows"])]
    widths = [max(len(line[column]) for line in lines) for column in range(len(_COLUMNS))]
    text = "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
    return f"{text}\n{_verdict(found['rows'])}"


def _verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    judged = [row for row in rows if row["wanted"]]
    missed = sum(row["holds"] is False for row in judged)
    unknown = sum(row["holds"] is None for row in judged)
    return f"{len(judged) - missed - unknown} of {len(judged)} aims hold, {missed} missed, {unknown} not measured"


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    theirs = _cell(row["theirs"], row["unit"])
    verdict = {True: "holds", False: "MISSED", None: ""}[row["holds"]]
    if row["missing"]:
        verdict = f"not measured: {row['missing']}"
    return (
        row["what"],
        _cell(row["ours"], row["unit"]),
        row["peer"],
        theirs,
        row["figure"] or "",
        row["wanted"],
        verdict,
    )


def _cell(found: Mapping[str, Any] | None, unit: str) -> str:
    if found is None:
        return ""
    median, low, high = (_number(found[key], unit) for key in ("median", "low", "high"))
    return f"{median} {unit}" if found["rounds"] == 1 else f"{median} {unit} ({low}-{high})"


def _number(value: float, unit: str) -> str:
    return f"{value:.1f}" if unit == "ms" and abs(value) < 100 else f"{value:.0f}"


def page(found: Mapping[str, Any]) -> str:
    """The page in Markdown."""
    return "\n".join(_page_lines(found)) + "\n"


def _page_lines(found: Mapping[str, Any]) -> Iterator[str]:
    machine = found["machine"]
    yield _INTRODUCTION
    yield (
        f"Measured on {found['date']}: {machine['processors']} processors ({machine['processor']}), "
        f"{machine['memory_gib']:g} GiB of memory, {machine['distribution']}, Linux {machine['kernel']}; virtual "
        f"machines: {machine['virtual_machines']}. "
        f"Versions: {', '.join(f'{name} {number}' for name, number in found['versions'].items())}."
    )
    yield ""
    yield f"{_verdict(found['rows'])}."
    # One that failed goes by its own name.
    for topic in dict.fromkeys([*_TOPICS, *(row["topic"] for row in found["rows"])]):
        rows = [row for row in found["rows"] if row["topic"] == topic]
        if rows:
            yield from ("", f"## {_TOPICS.get(topic, topic)}", "")
            yield from _markdown(rows)


def _markdown(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A table with only those columns that have anything in them."""
    lines = [_cells(row) for row in rows]
    used = [column for column in range(len(_COLUMNS)) if any(line[column] for line in lines)]
    yield f"| {' | '.join(_COLUMNS[column] for column in used)} |"
    yield f"|{' --- |' * len(used)}"
    for line in lines:
        yield f"| {' | '.join(line[column] for column in used)} |"
