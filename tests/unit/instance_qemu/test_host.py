# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""KVM is used where it truly works, and QEMU is asked what it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import MissingDependency, NotSupported
from ansible_collections.tandem.machines.plugins.module_utils._host.run import Result
from ansible_collections.tandem.machines.plugins.module_utils._instance.qemu import accelerator, console, program

WITH_VMX = "processor\t: 0\nflags\t\t: fpu vmx sse\nbugs\t:\n\nprocessor\t: 1\nflags\t\t: fpu\n"


def test_an_open_device_is_not_enough() -> None:
    problem = accelerator._find_problem("/dev/null", "x86_64", "flags\t\t: fpu vmxish sse svm_lock\n")
    assert problem == "the processor offers neither vmx nor svm to this host"


@pytest.mark.parametrize("flag", ["vmx", "svm"])
def test_the_device_must_answer_as_kvm(flag: str) -> None:
    problem = accelerator._find_problem("/dev/null", "x86_64", WITH_VMX.replace("vmx", flag))
    assert problem == "/dev/null cannot create a machine: Inappropriate ioctl for device"


def test_a_missing_device_is_named(tmp_path: Path) -> None:
    problem = accelerator._find_problem(str(tmp_path / "kvm"), "x86_64", WITH_VMX)
    assert problem.endswith("kvm cannot be opened: No such file or directory")


@pytest.mark.parametrize(("version", "problem"), [(12, ""), (11, "/dev/kvm speaks version 11, not 12")])
def test_its_version_must_be_the_stable_one(version: int, problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(descriptor: int, request: int, argument: int) -> int:
        return version if request == accelerator._KVM_GET_API_VERSION else os.open("/dev/null", os.O_RDONLY)

    monkeypatch.setattr(accelerator.fcntl, "ioctl", answer)
    assert accelerator._try_kvm("/dev/kvm", -1) == problem


def test_the_answer_for_this_host_has_a_reason() -> None:
    name, reason = accelerator.find_accelerator()
    assert name in ("kvm", "tcg")
    assert reason


def answers(major: int, minor: int) -> Result:
    version = {"qemu": {"major": major, "minor": minor, "micro": 0}, "package": ""}
    machines = [{"name": "pc-i440fx-9.9"}, {"name": f"pc-q35-{major}.{minor}", "alias": "q35"}]
    lines = [{"QMP": {}}, {"return": {}}, {"return": version}, {"return": machines}, {"return": {}}, {"event": "X"}]
    return Result(0, "\r\n".join(map(json.dumps, lines)).encode(), b"")


def test_the_machine_type_is_versioned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "run", lambda *_, **__: answers(9, 1))
    assert program.ask_program() == ((9, 1), "pc-q35-9.1")


def test_an_old_qemu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "run", lambda *_, **__: answers(6, 2))
    with pytest.raises(MissingDependency, match=r"QEMU 6\.2 is too old"):
        program.ask_program()


def test_an_unknown_processor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    other = os.uname_result(("Linux", "host", "6.1", "#1", "riscv64"))
    monkeypatch.setattr(program.os, "uname", lambda: other)
    with pytest.raises(NotSupported, match="riscv64"):
        program.program_name()


def test_the_console_log_is_moved_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "_KEPT_BYTES", 10)
    live, kept = tmp_path / "live", tmp_path / "console.log"
    for text, expected in (("one ", "one "), ("", "one "), ("two three", " two three")):
        live.write_text(text)
        descriptor = os.open(live, os.O_RDWR)
        console.move_log(descriptor, kept)
        os.close(descriptor)
        assert kept.read_text() == expected
        assert live.read_text() == ""


def test_a_process_without_a_console_has_no_log() -> None:
    assert console.open_live_log(os.getpid()) is None
    assert console.open_live_log(2**22 + 1) is None
