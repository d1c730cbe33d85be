# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Writes how long each task took, as Ansible sees it, to the file named by TANDEM_DURATIONS: one JSON line a task.

A task that returns counted_seconds has measured itself what of it counts.
"""

from __future__ import annotations

import json
import os
import time

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: durations
type: aggregate
short_description: Writes the duration of each task
description: One JSON line with name and seconds for each task that ended.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "durations"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_task_start(self, task, is_conditional):
        self._started = time.monotonic()

    def v2_runner_on_ok(self, result):
        seconds = result._result.get("counted_seconds", time.monotonic() - self._started)
        line = {"name": result._task.get_name(), "seconds": seconds}
        with open(os.environ["TANDEM_DURATIONS"], "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
