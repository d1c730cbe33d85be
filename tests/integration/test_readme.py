# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The README, done by somebody who does just what it says: all commands and all YAML, in order, from a fresh clone."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.tandem.machines.tests.integration.runner import CHECKOUT

DEFAULT_ROOT = Path("/var/lib/tandem")
# This very test is part of it.
RUNS_THIS_TEST = "make test"
QUICKSTART = "make quickstart"
CLEAN = "make quickstart-clean"

BLOCK = re.compile(
    r"^(?:<!-- (?:file: (?P<file>\S+)|(?P<printed>printed)) -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of the README; file is the name under which the text says to save it.

    is_printed: the commands above print these lines, among others.
    """

    language: str
    text: str
    file: str | None
    is_printed: bool


def readme_blocks() -> list[Block]:
    text = (CHECKOUT / "README.md").read_text(encoding="utf-8")
    return [
        Block(found["language"], found["text"], found["file"], found["printed"] is not None)
        for found in BLOCK.finditer(text)
    ]


@pytest.fixture
def fresh_clone(tmp_path: Path) -> Path:
    """The files of this checkout, without what was built in it."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=CHECKOUT, check=True, capture_output=True).stdout
    clone = tmp_path / "machines"
    clone.mkdir()
    present = b"\0".join(name for name in names.split(b"\0") if name and (CHECKOUT / os.fsdecode(name)).exists())
    archive = subprocess.run(
        ["tar", "--create", "--null", "--files-from=-"], cwd=CHECKOUT, input=present, check=True, capture_output=True
    )
    subprocess.run(["tar", "--extract", "--directory", str(clone)], input=archive.stdout, check=True)
    return clone


@pytest.fixture
def untouched_machine() -> None:
    if DEFAULT_ROOT.exists():
        pytest.fail(f"{DEFAULT_ROOT} exists and would be removed by this test: run `{CLEAN}` first")


def shell(clone: Path, script: str) -> str:
    """Output of a script that a person would type in the clone; must succeed."""
    ours = ("ANSIBLE_", "VIRTUAL_ENV", "PYTHON", "MAKE", "MFLAGS")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    process = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=clone,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert process.returncode == 0, f"{script}\n{process.stdout}"
    return process.stdout


def recap(output: str) -> Iterator[dict[str, int]]:
    """The counts that ansible-playbook prints for each host at its end."""
    for line in output.partition("PLAY RECAP")[2].splitlines():
        counts = dict(re.findall(r"(\w+)=(\d+)", line))
        if counts:
            yield {name: int(count) for name, count in counts.items()}


def test_all_blocks_are_of_a_kind_that_is_tested() -> None:
    blocks = readme_blocks()
    assert {block.language for block in blocks} <= {"sh", "yaml", "text"}
    assert [block.text for block in blocks if block.language == "yaml" and block.file is None] == []
    commands = [block.text.strip() for block in blocks if block.language == "sh"]
    assert commands[0] == QUICKSTART and commands[-1] == CLEAN and RUNS_THIS_TEST in commands


@pytest.mark.vm
def test_readme_works_as_written(fresh_clone: Path, untouched_machine: None) -> None:
    try:
        follow_readme(fresh_clone)
    except BaseException:
        shell(fresh_clone, CLEAN)
        raise
    # The last thing that the README says is to remove it all.
    assert not DEFAULT_ROOT.exists()


def follow_readme(clone: Path) -> None:
    printed = ""
    for block in readme_blocks():
        if block.file is not None:
            (clone / block.file).write_text(block.text, encoding="utf-8")
        elif block.is_printed:
            assert block.text in printed, printed
        elif block.language == "sh" and block.text.strip() != RUNS_THIS_TEST:
            printed = shell(clone, block.text)
            if block.text.strip() == QUICKSTART:
                quickstart_again(clone)


def quickstart_again(clone: Path) -> None:
    output = shell(clone, QUICKSTART)
    assert [counts["changed"] for counts in recap(output)] == [0, 0, 0], output
    assert "hello-container" in output and "hello-vm" in output
