# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Run a command in a virtual machine: the agent starts it, the second virtio-serial port carries its data.

Nothing is polled: this side blocks on the port's socket. Shipped to hosts as text (see enter.py): imports the
standard library, _core.errors and its neighbours script and agent.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import os
import select
import socket
import time

from .._core.errors import Conflict, EngineError, Locked, TimedOut
from .agent import Agent, AgentError, connect
from .frames import QUIT, Input, Parser
from .script import render_work, require_command, stream_program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType
    from typing import Any

# A guest that restarts leaves its socket open and silent: after this long without data, ask whether the command lives.
_QUIET_SECONDS = 15
_ALIVE_SECONDS = 10
_HELLO_SECONDS = 20
_LOOK_SECONDS = 2
_KILL_SECONDS = 5


class PortLock:
    """The one right to use an instance's port: an flock on a file beside it, freed by the kernel if we die.

    The file names the holder, and on its second line the agent's pid of the latest command, whose exit status
    the agent keeps until somebody asks for it.
    """

    def __init__(self, path: str, guest: str, timeout_seconds: float) -> None:
        self._path = path
        self._guest = guest
        self._timeout_seconds = timeout_seconds

    def __enter__(self) -> PortLock:
        try:
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            raise Conflict(f"instance {self._guest} is not running: start it first") from None
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait()
        latest = self._read().partition("\n")[2]
        self.latest_pid = int(latest) if latest.isdigit() else None
        self.note(self.latest_pid)
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def note(self, latest_pid: int | None) -> None:
        os.ftruncate(self._descriptor, 0)
        text = f"pid {os.getpid()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n{latest_pid or ''}"
        os.pwrite(self._descriptor, text.encode(), 0)

    def _read(self) -> str:
        return os.pread(self._descriptor, 200, 0).decode("utf-8", "replace")

    def _wait(self) -> None:
        """Block in the kernel in a thread of its own: flock has no deadline, and a library must not take SIGALRM."""
        import threading

        descriptor = self._descriptor
        is_ours = threading.Event()
        guard = threading.Lock()
        given_up: list[bool] = []

        def acquire() -> None:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with guard:
                if given_up:
                    os.close(descriptor)
                is_ours.set()

        threading.Thread(target=acquire, daemon=True).start()
        if is_ours.wait(self._timeout_seconds):
            return
        with guard:
            if is_ours.is_set():
                return
            given_up.append(True)
        holder = self._read().partition("\n")[0] or "an unknown process"
        raise Locked(
            f"instance {self._guest} runs another command for {holder}, and a virtual machine takes one at a time; "
            f"gave up after {self._timeout_seconds:g} s"
        )


class Guest:
    """A virtual machine to run commands in; sockets is the directory with qga.sock and stream.sock."""

    def __init__(self, name: str, sockets: str, agent_timeout_seconds: float, lock_timeout_seconds: float) -> None:
        self.name = name
        self._sockets = sockets
        self._agent_timeout_seconds = agent_timeout_seconds
        self._lock_timeout_seconds = lock_timeout_seconds

    def agent(self, timeout_seconds: float | None = None) -> Agent:
        return Agent(f"{self._sockets}/qga.sock", self.name, timeout_seconds or self._agent_timeout_seconds)

    def lock(self) -> PortLock:
        return PortLock(f"{self._sockets}/stream.lock", self.name, self._lock_timeout_seconds)

    def connect(self) -> socket.socket:
        return connect(f"{self._sockets}/stream.sock", self.name)


class Run:
    """One command in a virtual machine."""

    def __init__(
        self,
        guest: Guest,
        command: Sequence[str],
        *,
        given: Input | None,
        sink: Callable[[int, bytes], None],
        on_entered: Callable[[], None] = lambda: None,
        user: str = "root",
        directory: str = "",
        environment: Mapping[str, str] | None = None,
        is_live: bool = False,
        mark: str = "tandem-enter",
        timeout_seconds: float | None = None,
    ) -> None:
        require_command(command)
        self._guest = guest
        self._given = given
        self._on_entered = on_entered
        # No hexadecimal digit first, so that data before a token cannot seem to be its beginning.
        self._token = "t" + os.urandom(16).hex()
        self._name = f"tandem-enter.{os.urandom(16).hex()}"
        self._parser = Parser(self._token, sink, given.taken if given else lambda: None)
        self._timeout_seconds = timeout_seconds
        self._deadline: float | None = None
        self._work = render_work(
            command,
            token=self._token,
            mark=mark,
            environment=environment or {},
            user=user,
            directory=directory,
            has_input=given is not None,
            is_live=is_live,
        )

    def finish(self) -> int:
        """Run the command to its end and return its exit status (128 + n after signal n).

        Raises Conflict if the guest does not run or stops, Locked while somebody else's command runs,
        TimedOut if the agent does not answer or the command's own time is up (it is killed then).
        """
        with self._guest.lock() as lock, self._guest.connect() as port:
            port.setblocking(False)
            self._start(lock)
            self._wait_for_hello(port)
            self._on_entered()
            self._exchange(port)
        if self._parser.status is None:
            raise EngineError(f"instance {self._guest.name} did not say how the command ended")
        return self._parser.status

    def _start(self, lock: PortLock) -> None:
        shell = ["/bin/sh", "-c", 'eval "$TANDEM_SCRIPT"', self._name]
        # The agent logs arguments and any user of the guest can list them, hence the environment.
        variables = [f"TANDEM_SCRIPT={stream_program()}", f"TANDEM_WORK={self._work}"]
        with self._guest.agent() as agent:
            if lock.latest_pid is not None:
                agent.forget(lock.latest_pid)
            try:
                # A session of its own, apart from the agent's.
                started = self._execute(agent, ["setsid", *shell], variables)
            except AgentError as error:
                if error.error_class == "CommandNotFound":
                    raise
                started = self._execute(agent, shell, variables)
        self._agent_pid = int(started["pid"])
        lock.note(self._agent_pid)

    @staticmethod
    def _execute(agent: Agent, command: list[str], variables: list[str]) -> Any:
        arguments = {"path": command[0], "arg": command[1:], "env": variables, "capture-output": True}
        return agent.call("guest-exec", **arguments)

    def _wait_for_hello(self, port: socket.socket) -> None:
        deadline = time.monotonic() + _HELLO_SECONDS
        while not self._parser.started:
            if _wait(port, select.POLLIN, min(deadline, time.monotonic() + _LOOK_SECONDS)):
                self._receive(port)
                continue
            self._require_started()
            if time.monotonic() >= deadline:
                raise TimedOut(f"port tandem.stream of instance {self._guest.name}", _HELLO_SECONDS)

    def _require_started(self) -> None:
        """EngineError with its last words if our shell in the guest has ended before it said hello."""
        with self._guest.agent() as agent:
            state = agent.call("guest-exec-status", pid=self._agent_pid)
        if state.get("exited"):
            text = base64.b64decode(state.get("err-data", "")).decode("utf-8", "replace").strip()
            raise EngineError(f"instance {self._guest.name}: {text.partition(' error ')[2] or text or state}")

    def _exchange(self, port: socket.socket) -> None:
        quiet_since = time.monotonic()
        while not self._parser.ended:
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._kill(port)
            if self._move(port, self._next_stop(quiet_since)):
                quiet_since = time.monotonic()
            elif time.monotonic() >= quiet_since + _QUIET_SECONDS:
                self._require_alive(port)
                quiet_since = time.monotonic()
        # The guest sees the end of the connection, too.
        with contextlib.suppress(OSError):
            port.send(QUIT)

    def _next_stop(self, quiet_since: float) -> float:
        stop = quiet_since + _QUIET_SECONDS
        return stop if self._deadline is None else min(stop, self._deadline)

    def _move(self, port: socket.socket, deadline: float) -> bool:
        """Move what can be moved, both ways; False if nothing could until deadline."""
        given = self._given
        poller = select.poll()
        sending = given is not None and given.has_frame()
        poller.register(port, select.POLLIN | (select.POLLOUT if sending else 0))
        if given is not None and given.wants_more and given.descriptor is not None:
            poller.register(given.descriptor, select.POLLIN)
        ready = dict(poller.poll(max(0, (deadline - time.monotonic()) * 1000)))
        events = ready.pop(port.fileno(), 0)
        if given is not None and ready:
            given.read_more()
        if given is not None and events & select.POLLOUT:
            given.send_some(port)
        if events & ~select.POLLOUT:
            self._receive(port)
        return bool(events or ready)

    def _receive(self, port: socket.socket) -> None:
        try:
            data = port.recv(256 * 1024)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            raise Conflict(f"instance {self._guest.name} stopped while the command ran in it")
        self._parser.feed(data)
        # The command's time begins when it does: a busy guest may take long to start it.
        if self._parser.pid is not None and self._deadline is None and self._timeout_seconds is not None:
            self._deadline = time.monotonic() + self._timeout_seconds

    def _require_alive(self, port: socket.socket) -> None:
        """EngineError if our shell in the guest is gone without a word: the guest has restarted, or somebody
        killed it. A mute agent proves nothing."""
        try:
            with self._guest.agent(_ALIVE_SECONDS) as agent:
                shown = agent.read_start(f"/proc/{self._agent_pid}/cmdline", 4096) or b""
        except TimedOut:
            return
        if self._name.encode() not in shown and not _wait(port, select.POLLIN, time.monotonic() + 2):
            raise EngineError(f"instance {self._guest.name} restarted or ended the session while the command ran in it")

    def _kill(self, port: socket.socket) -> None:
        """Kill the command and what it started, take its last words, and report the timeout."""
        arguments = ["-c", 'kill -KILL "-$0" || kill -KILL "$0"', str(self._parser.pid)]
        with self._guest.agent() as agent:
            agent.call("guest-exec", path="/bin/sh", arg=arguments)
        end = time.monotonic() + _KILL_SECONDS
        while not self._parser.ended and time.monotonic() < end:
            self._move(port, end)
        raise TimedOut(f"the command in instance {self._guest.name}", self._timeout_seconds or 0, "it was killed")


def _wait(port: socket.socket, events: int, deadline: float) -> bool:
    poller = select.poll()
    poller.register(port, events)
    return bool(poller.poll(max(0, (deadline - time.monotonic()) * 1000)))
