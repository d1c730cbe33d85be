# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Stands in for the get-pip.py that ansible-test wants: installs pip from what Python brings along.

Copied by run.py to where ansible-test looks; run there as a module whose arguments are those of pip install.
"""

from __future__ import annotations

import subprocess
import sys

# Understood by get-pip.py, not by pip.
_NOT_FOR_PIP = ("--no-setuptools", "--no-wheel")

# A process of its own: it turns off the user's pip settings for the process it runs in.
subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
arguments = [argument for argument in sys.argv[1:] if argument not in _NOT_FOR_PIP]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "--quiet", *arguments]))
