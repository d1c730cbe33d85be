# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""QMP, QEMU's monitor protocol: the only import of qemu.qmp.

A session with events is Qmp. The greeting and the one question an idle task asks, the run state, are
read by hand: with asyncio and qemu.qmp that takes 45 ms instead of 1, a sixth of such a task.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Awaitable, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from ..._core.errors import QmpError, TimedOut

GREETING_SECONDS = 10
ANSWER_SECONDS = 30
# qemu.qmp limits a line to 10 MiB by itself; run states are short.
_STATUS_LIMIT_BYTES = 64 * 1024
_T = TypeVar("_T")


def _import_qmp() -> Any:
    """The package qemu.qmp; MissingDependency if the host has none. Tests may replace this function."""
    from ..._host.distribution import import_distribution_module

    return import_distribution_module("qemu.qmp", "qemu.qmp from PyPI")


def connect(path: Path, pid: int | None, timeout_seconds: float) -> socket.socket:
    """A connection to QEMU's monitor; QmpError if nobody listens or it is not process pid.

    The directory goes through a descriptor, since a socket's own path ends at 107 bytes.
    """
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout_seconds)
    try:
        directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            client.connect(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)
    except OSError as error:
        client.close()
        raise QmpError("to connect", "NotConnected", f"{path}: {error.strerror or error}") from None
    # The listener was made by the process that became QEMU, so the kernel vouches for its pid.
    (peer,) = struct.unpack_from("i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if pid is not None and peer != pid:
        client.close()
        raise QmpError("to connect", "NotConnected", f"{path} belongs to process {peer}, not to {pid}")
    return client


def await_greeting(path: Path, pid: int | None = None, timeout_seconds: float = GREETING_SECONDS) -> None:
    """Return when QEMU has set up the machine; QmpError if it ends instead, TimedOut."""
    with _Exchange(path, pid, timeout_seconds) as exchange:
        exchange.read()


def query_status(path: Path, pid: int | None = None, timeout_seconds: float = GREETING_SECONDS) -> str:
    """QEMU's run state, such as running, paused or guest-panicked (RunState of its QMP reference)."""
    with _Exchange(path, pid, timeout_seconds) as exchange:
        exchange.read()
        exchange.ask("qmp_capabilities")
        return str(exchange.ask("query-status")["status"])


class _Exchange:
    """Lines of JSON, one question at a time, over within timeout_seconds. Events are passed over."""

    def __init__(self, path: Path, pid: int | None, timeout_seconds: float) -> None:
        self._deadline = time.monotonic() + timeout_seconds
        self._timeout_seconds = timeout_seconds
        self._socket = connect(path, pid, timeout_seconds)
        self._buffer = b""

    def __enter__(self) -> _Exchange:
        return self

    def __exit__(self, kind: Any, value: Any, traceback: TracebackType | None) -> None:
        self._socket.close()

    def ask(self, command: str) -> Any:
        self._socket.sendall(json.dumps({"execute": command}).encode())
        while True:
            answer = self.read()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise QmpError(command, str(answer["error"].get("class")), str(answer["error"].get("desc")))

    def read(self) -> dict[str, Any]:
        while b"\n" not in self._buffer:
            self._receive()
        line, _unused, self._buffer = self._buffer.partition(b"\n")
        try:
            message = json.loads(line)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise QmpError("to answer", "Garbage", "what came is not its protocol")
        return message

    def _receive(self) -> None:
        remaining = self._deadline - time.monotonic()
        self._socket.settimeout(max(remaining, 0.001))
        try:
            data = self._socket.recv(65536)
        except socket.timeout:
            raise TimedOut("QEMU's monitor", self._timeout_seconds, "it is busy with another client or hangs") from None
        except OSError as error:
            raise QmpError("to answer", "Disconnected", error.strerror or str(error)) from None
        if not data:
            raise QmpError("to answer", "Disconnected", "it closed the connection")
        self._buffer += data
        if len(self._buffer) > _STATUS_LIMIT_BYTES:
            raise QmpError("to answer", "Garbage", f"more than {_STATUS_LIMIT_BYTES} bytes in one line")


class Qmp:
    """A session with one machine; QEMU serves one at a time, so keep it short.

    Entering connects: QmpError if the machine does not run, TimedOut without a greeting.
    """

    def __init__(self, path: Path, pid: int | None = None) -> None:
        self._package = _import_qmp()
        # Comes with qemu.qmp and costs as much as all of it.
        self._asyncio = import_module("asyncio")
        self._path = path
        self._pid = pid

    def __enter__(self) -> Qmp:
        self._loop = self._asyncio.new_event_loop()
        self._client = self._package.QMPClient()
        try:
            stream = connect(self._path, self._pid, GREETING_SECONDS)
            stream.setblocking(False)
            with self._reported("to connect", GREETING_SECONDS):
                self._run(self._client.connect(stream), GREETING_SECONDS)
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(self, kind: Any, value: Any, traceback: TracebackType | None) -> None:
        try:
            self._run(self._client.disconnect(), ANSWER_SECONDS)
        except (OSError, EOFError, self._package.QMPError, self._asyncio.TimeoutError):
            # QEMU has gone first, which after quit is the plan.
            pass
        finally:
            self._loop.close()

    def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> Any:
        """QEMU's answer; QmpError if it refuses or ends meanwhile, TimedOut if it does not answer."""
        with self._reported(command, ANSWER_SECONDS):
            return self._run(self._client.execute(command, dict(arguments or {})), ANSWER_SECONDS)

    def wait_for(self, event: str, timeout_seconds: float, **data: object) -> Mapping[str, Any]:
        """The data of the first event of that name whose data holds the given values; TimedOut.

        Events that came since the session began count, each once.
        """
        deadline = time.monotonic() + timeout_seconds
        seen = "no event"
        while True:
            try:
                message = self._run(self._client.events.get(), max(deadline - time.monotonic(), 0))
            except self._asyncio.TimeoutError:
                raise TimedOut(f"QEMU's event {event}", timeout_seconds, seen) from None
            seen = str(message["event"])
            found: Mapping[str, Any] = message.get("data", {})
            if seen == event and data.items() <= found.items():
                return found

    def _run(self, awaitable: Awaitable[_T], timeout_seconds: float) -> _T:
        result: _T = self._loop.run_until_complete(self._asyncio.wait_for(awaitable, timeout_seconds))
        return result

    @contextmanager
    def _reported(self, command: str, timeout_seconds: float) -> Any:
        """Failures of the library as ours."""
        try:
            yield
        except self._asyncio.TimeoutError:
            raise TimedOut(f"QEMU to answer {command}", timeout_seconds) from None
        except self._package.ExecuteError as error:
            raise QmpError(command, error.error_class, str(error)) from None
        except (self._package.QMPError, OSError, EOFError) as error:
            raise QmpError(command, "Disconnected", str(error) or type(error).__name__) from None
