# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""A socket that answers like a guest agent, or like something worse."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Answer = Callable[[Mapping[str, Any]], bytes]


def returns(value: Any) -> bytes:
    return json.dumps({"return": value}).encode() + b"\n"


def well_behaved(request: Mapping[str, Any]) -> bytes:
    if request["execute"] == "guest-sync-delimited":
        return b"\xff" + returns(request["arguments"]["id"])
    return returns({})


@contextmanager
def agent_socket(directory: Path, answer: Answer, stale: bytes = b"") -> Iterator[tuple[str, list[str]]]:
    """The socket's path and the commands asked so far. answer makes the reply to each; stale is said on connecting.

    A reply that ends in a NUL is sent without it, and then the connection is closed.
    """
    path = directory / "qga.sock"
    asked: list[str] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            try:
                client, _unused = server.accept()
            except OSError:
                return
            with client:
                talk(client)

    def talk(client: socket.socket) -> None:
        client.sendall(stale)
        for line in client.makefile("rb"):
            request = json.loads(line.lstrip(b"\xff"))
            asked.append(request["execute"])
            reply = answer(request)
            try:
                client.sendall(reply.rstrip(b"\0"))
            except OSError:
                return
            if reply.endswith(b"\0"):
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield str(path), asked
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(5)
