# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What a person sees while a benchmark runs, on stderr."""

from __future__ import annotations

import subprocess
import sys
import time

from .plays import PlayFailed

# Of programs and playbooks alike; one of them costs rows, not the whole run.
FAILURES = (PlayFailed, RuntimeError, subprocess.SubprocessError)


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


def explain(failure: BaseException) -> str:
    """Of a failed program its name and what it said, if that was kept."""
    if not isinstance(failure, (subprocess.CalledProcessError, subprocess.TimeoutExpired)):
        return str(failure)
    program = failure.cmd if isinstance(failure.cmd, str) else " ".join(map(str, failure.cmd[:4]))
    said = failure.stderr or b""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return f"{type(failure).__name__}: {program}: {text.strip()}"
