# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Times one act of a task's connection plugin (exec, put or fetch) without a module around it."""

from __future__ import annotations

import time

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        arguments = self._task.args
        started = time.monotonic()
        if "exec" in arguments:
            status, _out, err = self._connection.exec_command(arguments["exec"], sudoable=False)
            if status != 0:
                raise AnsibleActionFail(f"exit status {status}: {err}")
        elif "put" in arguments:
            self._connection.put_file(arguments["put"], arguments["to"])
        else:
            self._connection.fetch_file(arguments["fetch"], arguments["to"])
        return {"changed": False, "counted_seconds": time.monotonic() - started}
