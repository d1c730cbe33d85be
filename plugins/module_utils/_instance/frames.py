# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What goes through a virtual machine's port: frames in, frames and raw stdout out (see script._STREAM).

Shipped to hosts as text (see enter.py): imports the standard library and _core.errors.
"""

from __future__ import annotations

import os
import socket

from .._core.errors import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

QUIT = b"q\n"
_END_OF_INPUT = b"0\n"
_BLOCK_BYTES = 1024 * 1024
_WAITING_LIMIT_BYTES = 32 * 1024 * 1024
_SEND_BYTES = 256 * 1024
_HEADER_LIMIT_BYTES = 32


class Parser:
    """Takes apart what comes out of the port; see script._STREAM for the frames. Bytes of earlier commands are dropped.

    sink is called with 1 or 2 and bytes, on_taken when a frame of input was taken. After that: started, pid, status and
    ended say what was seen.
    """

    def __init__(
        self, token: str, sink: Callable[[int, bytes], None], on_taken: Callable[[], None] = lambda: None
    ) -> None:
        self.started = False
        self.pid: int | None = None
        self.status: int | None = None
        self.ended = False
        self._token = token.encode()
        self._sink = sink
        self._on_taken = on_taken
        self._buffer = bytearray()
        self._stderr_left = 0

    def feed(self, data: bytes) -> None:
        self._buffer += data
        while not self.ended and self._step():
            pass

    def _step(self) -> bool:
        """Take one piece off the buffer; False if more bytes are needed first."""
        if self._stderr_left:
            return self._take_stderr()
        at = self._buffer.find(self._token)
        if at < 0:
            self._emit(len(self._buffer) - self._undecided())
            return False
        if at:
            self._emit(at)
        end = self._buffer.find(b"\n", 0, len(self._token) + _HEADER_LIMIT_BYTES)
        if end >= 0:
            self._take_frame(bytes(self._buffer[len(self._token) : end]))
            del self._buffer[: end + 1]
            return True
        if len(self._buffer) < len(self._token) + _HEADER_LIMIT_BYTES:
            return False
        raise EngineError("the guest's answer is not well formed: its port tandem.stream is used by something else")

    def _take_stderr(self) -> bool:
        piece = bytes(self._buffer[: self._stderr_left])
        if not piece:
            return False
        del self._buffer[: len(piece)]
        self._stderr_left -= len(piece)
        self._sink(2, piece)
        return True

    def _emit(self, count: int) -> None:
        if count and self.started:
            self._sink(1, bytes(self._buffer[:count]))
        del self._buffer[:count]

    def _undecided(self) -> int:
        """How many bytes at the end may be the beginning of a token."""
        longest = min(len(self._token) - 1, len(self._buffer))
        return next((size for size in range(longest, 0, -1) if self._buffer.endswith(self._token[:size])), 0)

    def _take_frame(self, header: bytes) -> None:
        kind, _unused, number = header.strip().partition(b" ")
        if not number.isdigit():
            raise EngineError("the guest's answer is not well formed: its port tandem.stream is used by something else")
        value = int(number)
        if kind == b"H":
            self.started = True
        elif kind == b"P":
            self.pid = value
        elif kind == b"R":
            self._stderr_left = value
        elif kind == b"K":
            self._on_taken()
        elif kind == b"S":
            self.status = value
        elif kind == b"E":
            self.ended = True


class Input:
    """What the command reads on stdin, as frames for the port: bytes at hand, a descriptor to follow, or both.

    A frame costs the guest the start of a program, so the next one is sent only when the guest has taken the one
    before; what arrives in between makes it larger.
    """

    def __init__(self, data: bytes = b"", descriptor: int | None = None) -> None:
        self.descriptor = descriptor
        self._data = bytearray(data)
        self._frame = memoryview(b"")
        self._is_taken = True
        self._is_ended = False

    @property
    def wants_more(self) -> bool:
        """Whether the descriptor should be read."""
        return self.descriptor is not None and len(self._data) < _WAITING_LIMIT_BYTES

    def read_more(self) -> None:
        if not (self.descriptor is not None):
            raise AssertionError()
        piece = os.read(self.descriptor, _BLOCK_BYTES)
        self._data += piece
        if not piece:
            self.descriptor = None

    def taken(self) -> None:
        """The guest has taken the latest frame."""
        self._is_taken = True

    def has_frame(self) -> bool:
        """Whether something is to be sent now."""
        if not self._frame and self._is_taken:
            self._frame = memoryview(self._next_frame())
            self._is_taken = not self._frame
        return bool(self._frame)

    def send_some(self, port: socket.socket) -> None:
        try:
            sent = port.send(self._frame[:_SEND_BYTES])
        except BlockingIOError:
            return
        self._frame = self._frame[sent:]

    def _next_frame(self) -> bytes:
        """Blocks for dd: one of any size, or many of the largest."""
        size = min(len(self._data), _BLOCK_BYTES)
        if size:
            count = len(self._data) // size
            piece = bytes(self._data[: size * count])
            del self._data[: size * count]
            return b"%d %d\n" % (size, count) + piece
        if self.descriptor is None and not self._is_ended:
            self._is_ended = True
            return _END_OF_INPUT
        return b""
