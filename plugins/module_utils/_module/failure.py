# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Failures in one line, as people read them, wherever they end up: a task's message or one of many results."""

from __future__ import annotations

from .._core.errors import EngineError


def explain(error: Exception) -> str | None:
    """What went wrong and what to do; None for a defect of ours, which deserves a traceback."""
    if isinstance(error, EngineError):
        return str(error)
    if isinstance(error, PermissionError):
        return f"{error.strerror}: {error.filename}; this module needs root: set become: true"
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {error.filename or 'the host'}"
    return None
