# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The instance module as a bare process, without Ansible around it: to be killed, or raced, at a chosen moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .runner import BIN, CHECKOUT

TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Finished:
    """What the module printed, and how long the process took."""

    result: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class ModuleProcess:
    """Runs one module of the collection on this host with a state root of its own."""

    module: str
    root: Path
    directory: Path

    def start(self, options: Mapping[str, Any]) -> subprocess.Popen[str]:
        arguments = self.directory / "arguments.json"
        arguments.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": {"root": str(self.root), **options}}))
        return subprocess.Popen(
            [
                str(BIN / "python"),
                "-m",
                f"ansible_collections.tandem.machines.plugins.modules.{self.module}",
                arguments,
            ],
            env={**os.environ, "PYTHONPATH": str(CHECKOUT / ".build")},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self, options: Mapping[str, Any]) -> Finished:
        """Run to the end; the module must succeed."""
        started = time.monotonic()
        process = self.start(options)
        output, errors = process.communicate(timeout=TIMEOUT_SECONDS)
        seconds = time.monotonic() - started
        assert process.returncode == 0, f"{options}: {output}{errors}"
        return Finished(json.loads(output), seconds)

    def kill_after(self, options: Mapping[str, Any], seconds: float) -> bool:
        """SIGKILL the module that long after its start; whether it was still at work."""
        process = self.start(options)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_SECONDS)
        return process.returncode == -signal.SIGKILL
