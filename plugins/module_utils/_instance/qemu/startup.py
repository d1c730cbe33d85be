# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The module's side of a start: it hears from the launch program why it failed, or that it became QEMU."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..._core.errors import TimedOut
from ..._host.process import Process

# Must equal NOTIFY_SOCKET in launch.py, which is not imported: compiling it costs more than this handshake.
NOTIFY_SOCKET = "notify.sock"
_MESSAGE_LIMIT_BYTES = 4096


@contextmanager
def listening(run_directory: Path) -> Iterator[socket.socket]:
    """The socket the launch program connects to; gone afterwards."""
    path = run_directory / NOTIFY_SOCKET
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # By way of the directory's descriptor, since a socket's own path ends at 107 bytes.
    directory = os.open(run_directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener.bind(f"/proc/self/fd/{directory}/{NOTIFY_SOCKET}")
        listener.listen(1)
        yield listener
    finally:
        os.close(directory)
        listener.close()
        path.unlink(missing_ok=True)


def await_launch(listener: socket.socket, process: Process | None, timeout_seconds: float) -> str:
    """Block until the launch program has executed QEMU or has ended; its complaint, empty if it had none.

    process is the one to follow, None if it has ended already. A program that ends without a word
    left its reason in its log. Raises TimedOut.
    """
    if not _is_connected(listener, process, timeout_seconds):
        return ""
    client, _unused = listener.accept()
    with client:
        client.settimeout(timeout_seconds)
        message = b""
        try:
            while data := client.recv(_MESSAGE_LIMIT_BYTES):
                message = (message + data)[:_MESSAGE_LIMIT_BYTES]
        except socket.timeout:
            raise TimedOut("the launch program to execute QEMU", timeout_seconds) from None
    return message.decode("utf-8", "replace")


def _is_connected(listener: socket.socket, process: Process | None, timeout_seconds: float) -> bool:
    """Whether the program got as far as to connect; False when it ended before that."""
    descriptor = _open(process)
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    if descriptor is not None:
        poll.register(descriptor, select.POLLIN)
    try:
        ready = poll.poll(0 if descriptor is None else timeout_seconds * 1000)
    finally:
        if descriptor is not None:
            os.close(descriptor)
    if not ready and descriptor is not None:
        raise TimedOut("the launch program to begin", timeout_seconds)
    return any(number == listener.fileno() for number, _unused in ready)


def _open(process: Process | None) -> int | None:
    try:
        return os.pidfd_open(process.pid) if process is not None else None
    except ProcessLookupError:
        return None
