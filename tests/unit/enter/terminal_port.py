# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A terminal in raw mode in place of a virtio-serial port: both are character devices that carry every byte."""

from __future__ import annotations

import os
import tty


class TerminalPort:
    """The host's end, with what a socket has; path is the guest's end."""

    def __init__(self) -> None:
        self._master, guest = os.openpty()
        tty.setraw(guest)
        self.path = os.ttyname(guest)
        # Kept open, so that the terminal does not hang up before the guest opens it.
        self._guest = guest

    def fileno(self) -> int:
        return self._master

    def setblocking(self, is_blocking: bool) -> None:
        os.set_blocking(self._master, is_blocking)

    def recv(self, size: int) -> bytes:
        try:
            return os.read(self._master, size)
        except OSError:
            return b""

    def send(self, data: bytes) -> int:
        # A terminal takes less at once than it is given, and has no place for more than 4 KiB.
        return os.write(self._master, data[:1024])

    def close(self) -> None:
        os.close(self._guest)
        os.close(self._master)
