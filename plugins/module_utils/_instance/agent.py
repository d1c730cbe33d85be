# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The client of qemu-guest-agent, over the socket of its virtio-serial port.

Shipped to hosts as text (see enter.py): imports the standard library and _core.errors, and of the library
only what starts fast.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import time

from .._core.errors import Conflict, EngineError, TimedOut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

_ANSWER_LIMIT_BYTES = 16 * 1024 * 1024
# Resets the agent's parser on the way in and precedes the answer on the way out: what an earlier client
# left half said or unread lies before it (qemu-ga reference, guest-sync-delimited).
_SENTINEL = b"\xff"


class AgentError(EngineError):
    """The guest agent answered a command with an error."""

    def __init__(self, guest: str, command: str, error_class: str, description: str) -> None:
        self.error_class = error_class
        hint = ""
        if error_class == "CommandNotFound":
            hint = "; allow this command in the configuration of qemu-guest-agent inside the guest"
        super().__init__(f"the guest agent of instance {guest} refused {command}: {description}{hint}")


def connect(path: str, guest: str) -> socket.socket:
    """A connection to one of the guest's sockets; Conflict if the guest does not run.

    Goes through a descriptor of the directory, since a socket's own path may have only 107 bytes.
    """
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
        try:
            stream.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
        finally:
            os.close(directory)
    except (FileNotFoundError, ConnectionRefusedError):
        stream.close()
        raise Conflict(f"instance {guest} is not running: start it first") from None
    except BaseException:
        stream.close()
        raise
    return stream


class Agent:
    """A conversation with a guest's agent that must be over within timeout_seconds.

    QEMU serves one client at a time and keeps what is sent until the agent opens its port, so entering
    blocks until the agent runs and nobody else talks to it. Raises Conflict if the guest does not run,
    TimedOut at the deadline.
    """

    def __init__(self, path: str, guest: str, timeout_seconds: float) -> None:
        self._path = path
        self._guest = guest
        self._timeout_seconds = timeout_seconds
        self._buffer = b""

    def __enter__(self) -> Agent:
        self._deadline = time.monotonic() + self._timeout_seconds
        self._socket = connect(self._path, self._guest)
        try:
            self._synchronize()
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def call(self, command: str, **arguments: Any) -> Any:
        """The agent's return value for one command; AgentError if it refuses."""
        self._send(command, arguments)
        answer = self._read_answer()
        if "error" in answer:
            error = answer["error"]
            raise AgentError(self._guest, command, str(error.get("class")), str(error.get("desc")))
        return answer.get("return")

    def send(self, command: str, **arguments: Any) -> None:
        """For the one command that does not answer when it succeeds."""
        self._send(command, arguments)

    def forget(self, pid: int) -> None:
        """Let the agent drop what it keeps of an ended command; no harm if it does not know it."""
        with contextlib.suppress(AgentError):
            self.call("guest-exec-status", pid=pid)

    def read_start(self, path: str, limit_bytes: int) -> bytes | None:
        """The first bytes of a file of the guest; None if it cannot be opened."""
        try:
            handle = self.call("guest-file-open", path=path, mode="r")
        except AgentError:
            return None
        answer = self.call("guest-file-read", handle=handle, count=limit_bytes)
        self.call("guest-file-close", handle=handle)
        return base64.b64decode(answer["buf-b64"])

    def _synchronize(self) -> None:
        number = int.from_bytes(os.urandom(4), "big")
        self._send("guest-sync-delimited", {"id": number}, prefix=_SENTINEL)
        while True:
            self._read_until(_SENTINEL)
            if self._read_answer().get("return") == number:
                return

    def _send(self, command: str, arguments: dict[str, Any], prefix: bytes = b"") -> None:
        message = json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n"
        self._arm(command)
        try:
            self._socket.sendall(prefix + message)
        except socket.timeout:
            raise self._timed_out() from None
        except BrokenPipeError:
            raise Conflict(f"instance {self._guest} stopped while its agent was asked for {command}") from None

    def _read_answer(self) -> dict[str, Any]:
        line = self._read_until(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise EngineError(f"the guest agent of instance {self._guest} sent something that is not its protocol")
        return answer

    def _read_until(self, delimiter: bytes) -> bytes:
        """What comes before delimiter, which is dropped."""
        searched = 0
        while (end := self._buffer.find(delimiter, searched)) < 0:
            searched = len(self._buffer)
            if searched > _ANSWER_LIMIT_BYTES:
                raise EngineError(
                    f"the guest agent of instance {self._guest} sent an answer of more than {_ANSWER_LIMIT_BYTES} bytes"
                )
            self._buffer += self._receive()
        found, self._buffer = self._buffer[:end], self._buffer[end + 1 :]
        return found

    def _receive(self) -> bytes:
        self._arm("")
        try:
            data = self._socket.recv(65536)
        except socket.timeout:
            raise self._timed_out() from None
        except ConnectionResetError:
            data = b""
        if not data:
            raise Conflict(f"instance {self._guest} stopped while its agent was asked")
        return data

    def _arm(self, command: str) -> None:
        remaining = self._deadline - time.monotonic()
        if remaining <= 0:
            raise self._timed_out()
        self._socket.settimeout(remaining)

    def _timed_out(self) -> TimedOut:
        return TimedOut(
            f"the guest agent of instance {self._guest}",
            self._timeout_seconds,
            "the virtual machine runs, qemu-guest-agent in it does not answer (not started yet, not installed or busy)",
        )


def ping(path: str, guest: str, timeout_seconds: float) -> None:
    """Return once the agent answers; TimedOut if it does not in time, Conflict if the guest does not run."""
    with Agent(path, guest, timeout_seconds):
        pass


def observe_addresses(path: str, guest: str, timeout_seconds: float = 5) -> list[dict[str, Any]]:
    """The guest's network interfaces: name, hwaddr, addresses as {family, address, prefix} (family inet or inet6)."""
    with Agent(path, guest, timeout_seconds) as agent:
        interfaces = agent.call("guest-network-get-interfaces")
    return [_interface(entry) for entry in interfaces]


def _interface(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": str(entry.get("name", "")),
        "hwaddr": str(entry.get("hardware-address", "")),
        "addresses": [
            {
                "family": "inet6" if address.get("ip-address-type") == "ipv6" else "inet",
                "address": str(address.get("ip-address", "")),
                "prefix": int(address.get("prefix", 0)),
            }
            for address in entry.get("ip-addresses", ())
        ],
    }


def shut_down(path: str, guest: str, mode: str = "powerdown", timeout_seconds: float = 5) -> None:
    """Ask the guest to end by itself; mode is powerdown, reboot or halt. Returns when asked, not when done."""
    with Agent(path, guest, timeout_seconds) as agent:
        agent.send("guest-shutdown", mode=mode)
