# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Generated files say what their sources say now."""

from __future__ import annotations

import pytest
from ansible_collections.tandem.machines.tools.generate import GENERATED, is_current


@pytest.mark.parametrize("name", GENERATED)
def test_generated_file_is_current(name: str) -> None:
    assert is_current(name), "run `make generate`"
