# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Both ways of speaking QMP, against servers that behave and servers that do not."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import (
    EngineError,
    MissingDependency,
    QmpError,
    TimedOut,
)
from ansible_collections.tandem.machines.plugins.module_utils._instance.qemu import qmp

GREETING = {"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}
Script = Callable[[Any], None]


class Line:
    """The server's end of one connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._decoder = json.JSONDecoder()
        self._text = ""

    def say(self, message: object) -> None:
        self.raw(json.dumps(message).encode() + b"\r\n")

    def raw(self, data: bytes) -> None:
        self._connection.sendall(data)

    def hear(self) -> dict[str, Any]:
        """The next command; QMP clients need not end them with a line break."""
        while True:
            try:
                message, end = self._decoder.raw_decode(self._text.lstrip())
            except ValueError:
                data = self._connection.recv(4096)
                if not data:
                    raise EOFError from None
                self._text += data.decode()
                continue
            self._text = self._text.lstrip()[end:]
            return dict(message)

    def answer(self, value: object, kind: str = "return") -> str:
        command = self.hear()
        self.say({kind: value, **({"id": command["id"]} if "id" in command else {})})
        return str(command["execute"])

    def greet(self) -> None:
        self.say(GREETING)
        assert self.answer({}) == "qmp_capabilities"

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Script], Path]]:
    """Start a server that plays a script to its one client; the socket's path is longer than sun_path."""
    directory = tmp_path / ("long" * 25)
    directory.mkdir()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    threads = []

    def start(script: Script) -> Path:
        here = os.open(directory, os.O_PATH)
        listener.bind(f"/proc/self/fd/{here}/qmp.sock")
        os.close(here)
        listener.listen(1)
        thread = threading.Thread(target=play, args=(script,), daemon=True)
        threads.append(thread)
        thread.start()
        return directory / "qmp.sock"

    def play(script: Script) -> None:
        # A client that gives up at once may be gone before it is accepted.
        with contextlib.suppress(EOFError, OSError):
            connection, _unused = listener.accept()
            with connection:
                script(Line(connection))

    yield start
    listener.close()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def status(line: Line) -> None:
    line.greet()
    line.say({"event": "RESUME", "timestamp": {"seconds": 1, "microseconds": 1}})
    line.answer({"status": "paused", "running": False})


def test_the_state_is_asked_without_any_library(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise AssertionError("imported")

    monkeypatch.setattr(qmp, "_import_qmp", fail)
    assert qmp.query_status(serve(status), os.getpid()) == "paused"


def test_a_greeting_is_enough_to_be_ready(serve: Any) -> None:
    qmp.await_greeting(serve(lambda line: line.say(GREETING)), timeout_seconds=5)


def test_a_socket_of_another_process_is_not_spoken_to(serve: Any) -> None:
    with pytest.raises(QmpError, match=f"belongs to process {os.getpid()}, not to 1"):
        qmp.query_status(serve(status), 1)


def test_no_socket_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(QmpError, match="No such file"):
        qmp.query_status(tmp_path / "qmp.sock")


@pytest.mark.parametrize(
    ("script", "error", "text"),
    [
        (lambda line: line.hear(), TimedOut, "busy with another client"),
        (lambda line: line.close(), QmpError, "closed the connection"),
        (lambda line: line.raw(b'{"QMP": '), QmpError, "closed the connection"),
        (lambda line: line.raw(b"\xff\xfe\n"), QmpError, "not its protocol"),
        (lambda line: line.raw(b"[1]\n"), QmpError, "not its protocol"),
        (lambda line: line.raw(b"x" * 200_000), QmpError, "bytes in one line"),
        (
            lambda line: (line.greet(), line.answer({"class": "GenericError", "desc": "no"}, "error")),
            QmpError,
            r"QEMU refused query-status: no \(GenericError\)",
        ),
    ],
)
def test_bad_servers_give_one_clear_error(serve: Any, script: Script, error: type[EngineError], text: str) -> None:
    with pytest.raises(error, match=text):
        qmp.query_status(serve(script), timeout_seconds=0.5)


def test_a_host_without_the_library_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise MissingDependency("qemu.qmp is not installed")

    monkeypatch.setattr(qmp, "_import_qmp", fail)
    with pytest.raises(MissingDependency):
        qmp.Qmp(tmp_path / "qmp.sock")


class TestSession:
    """Through qemu.qmp."""

    @pytest.fixture(autouse=True)
    def _library(self) -> None:
        pytest.importorskip("qemu.qmp")

    def test_commands_are_answered(self, serve: Any) -> None:
        def script(line: Line) -> None:
            line.greet()
            command = line.hear()
            line.say({"return": command["arguments"], "id": command["id"]})

        with qmp.Qmp(serve(script), os.getpid()) as monitor:
            assert monitor.execute("echo", {"a": [1]}) == {"a": [1]}

    def test_a_refusal_carries_class_and_description(self, serve: Any) -> None:
        def script(line: Line) -> None:
            line.greet()
            line.answer({"class": "DeviceNotFound", "desc": "no device"}, "error")

        with qmp.Qmp(serve(script)) as monitor, pytest.raises(QmpError) as caught:
            monitor.execute("device_del", {"id": "x"})
        assert (caught.value.command, caught.value.error_class) == ("device_del", "DeviceNotFound")
        assert "no device" in str(caught.value)

    def test_events_are_waited_for_by_name_and_data(self, serve: Any) -> None:
        def script(line: Line) -> None:
            line.greet()
            stamp = {"timestamp": {"seconds": 1, "microseconds": 1}}
            for device in ("other", "mine"):
                line.say({"event": "DEVICE_DELETED", "data": {"device": device}, **stamp})
            line.hear()

        with qmp.Qmp(serve(script)) as monitor:
            assert monitor.wait_for("DEVICE_DELETED", 5, device="mine") == {"device": "mine"}
            with pytest.raises(TimedOut, match="SHUTDOWN"):
                monitor.wait_for("SHUTDOWN", 0.1)

    def test_a_machine_that_ends_meanwhile_is_an_error(self, serve: Any) -> None:
        def script(line: Line) -> None:
            line.greet()
            line.hear()
            line.close()

        with qmp.Qmp(serve(script)) as monitor, pytest.raises(QmpError, match="system_reset"):
            monitor.execute("system_reset")

    def test_a_busy_machine_is_not_waited_for_forever(self, serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(qmp, "GREETING_SECONDS", 0.2)
        with pytest.raises(TimedOut, match="to connect"), qmp.Qmp(serve(lambda line: line.hear())):
            pass
