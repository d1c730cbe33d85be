# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The guest agent's client against agents that are slow, confused or hostile."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import Conflict, EngineError, TimedOut
from ansible_collections.tandem.machines.plugins.module_utils._instance import agent
from ansible_collections.tandem.machines.tests.unit.enter.agent_socket import agent_socket, returns, well_behaved

INTERFACES = [
    {"name": "lo", "ip-addresses": [{"ip-address-type": "ipv4", "ip-address": "127.0.0.1", "prefix": 8}]},
    {
        "name": "enp1s0",
        "hardware-address": "00:16:3e:00:00:01",
        "ip-addresses": [
            {"ip-address-type": "ipv4", "ip-address": "10.0.0.2", "prefix": 24},
            {"ip-address-type": "ipv6", "ip-address": "fd00::2", "prefix": 64},
        ],
    },
    {"name": "enp2s0", "hardware-address": "00:16:3e:00:00:02"},
]


def test_what_earlier_clients_left_is_dropped(tmp_path: Path) -> None:
    def answer(request: Mapping[str, Any]) -> bytes:
        if request["execute"] == "guest-sync-delimited":
            return b'{"return": 3}\n\xff{"return": 4}\nhalf a line \xff' + returns(request["arguments"]["id"])
        return returns("mine")

    stale = b'\xff{"return": 1}\n{"return": {"pid": 2}}\n\x00\xfe'
    with agent_socket(tmp_path, answer, stale) as (path, asked):
        with agent.Agent(path, "v1", 5) as client:
            assert client.call("guest-info") == "mine"
        assert asked == ["guest-sync-delimited", "guest-info"]


def test_addresses(tmp_path: Path) -> None:
    def answer(request: Mapping[str, Any]) -> bytes:
        return returns(INTERFACES) if "network" in request["execute"] else well_behaved(request)

    with agent_socket(tmp_path, answer) as (path, _unused):
        assert agent.observe_addresses(path, "v1")[1:] == [
            {
                "name": "enp1s0",
                "hwaddr": "00:16:3e:00:00:01",
                "addresses": [
                    {"family": "inet", "address": "10.0.0.2", "prefix": 24},
                    {"family": "inet6", "address": "fd00::2", "prefix": 64},
                ],
            },
            {"name": "enp2s0", "hwaddr": "00:16:3e:00:00:02", "addresses": []},
        ]


def test_shutting_down_does_not_wait_for_an_answer(tmp_path: Path) -> None:
    def answer(request: Mapping[str, Any]) -> bytes:
        return b"" if request["execute"] == "guest-shutdown" else well_behaved(request)

    with agent_socket(tmp_path, answer) as (path, asked):
        agent.shut_down(path, "v1", timeout_seconds=5)
        end = time.monotonic() + 5
        while "guest-shutdown" not in asked and time.monotonic() < end:
            time.sleep(0.01)
        assert asked[-1] == "guest-shutdown"


def test_a_silent_agent_is_waited_for_and_no_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the kernel is told to wait is looked at: how long it takes us then is up to the machine."""
    told: list[float | None] = []

    class Socket(socket.socket):
        def settimeout(self, value: float | None) -> None:
            told.append(value)
            super().settimeout(value)

    with agent_socket(tmp_path, lambda request: b"") as (path, _unused):
        monkeypatch.setattr(socket, "socket", Socket)
        started = time.monotonic()
        with pytest.raises(TimedOut, match=r"0\.3 s .* agent of instance v1.*does not answer"):
            agent.ping(path, "v1", 0.3)
        assert time.monotonic() - started >= 0.3
    assert all(seconds is not None and seconds <= 0.3 for seconds in told)


def test_a_trickle_does_not_extend_the_deadline(tmp_path: Path) -> None:
    def answer(request: Mapping[str, Any]) -> bytes:
        time.sleep(0.2)
        return b'\xff{"return": 0}\n'

    with agent_socket(tmp_path, answer) as (path, _unused), pytest.raises(TimedOut):
        agent.ping(path, "v1", 0.3)


@pytest.mark.parametrize("reply", [b"\0", b"\xff\0", b'\xff{"ret\0'])
def test_a_guest_that_stops_meanwhile(tmp_path: Path, reply: bytes) -> None:
    with agent_socket(tmp_path, lambda request: reply) as (path, _unused), pytest.raises(Conflict, match="v1 stopped"):
        agent.ping(path, "v1", 5)


@pytest.mark.parametrize("reply", [b"\xffnonsense\n", b"\xff[1]\n", b"\xff\xc3\x28\n"])
def test_nonsense_is_refused(tmp_path: Path, reply: bytes) -> None:
    with agent_socket(tmp_path, lambda request: reply) as (path, _unused), pytest.raises(EngineError, match="protocol"):
        agent.ping(path, "v1", 5)


def test_answers_have_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent, "_ANSWER_LIMIT_BYTES", 100_000)
    with (
        agent_socket(tmp_path, lambda request: b"\xff" + b"x" * 1_000_000) as (path, _unused),
        pytest.raises(EngineError, match="more than 100000 bytes"),
    ):
        agent.ping(path, "v1", 5)


def test_refusals_are_told_and_explained(tmp_path: Path) -> None:
    refusal = b'{"error": {"class": "CommandNotFound", "desc": "guest-exec has been disabled"}}\n'

    def answer(request: Mapping[str, Any]) -> bytes:
        return refusal if request["execute"] == "guest-exec" else well_behaved(request)

    with agent_socket(tmp_path, answer) as served, agent.Agent(served[0], "v1", 5) as client:
        with pytest.raises(agent.AgentError, match=r"v1 refused guest-exec: .*disabled; allow this command"):
            client.call("guest-exec", path="/bin/true")
        assert client.call("guest-ping") == {}
        client.forget(12)


def test_a_guest_that_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "qga.sock"
    with pytest.raises(Conflict, match="v1 is not running: start it"):
        agent.ping(str(path), "v1", 5)
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    with pytest.raises(Conflict, match="v1 is not running: start it"):
        agent.ping(str(path), "v1", 5)


def test_directories_may_be_longer_than_a_socket_address(tmp_path: Path) -> None:
    with agent_socket(tmp_path, well_behaved) as (path, _unused):
        deep = tmp_path / ("d" * 100) / ("e" * 100)
        deep.mkdir(parents=True)
        (deep / "qga.sock").symlink_to(path)
        agent.ping(str(deep / "qga.sock"), "v1", 5)
