# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""From a definition to the machine: ports that do not move, ids QEMU takes, sizes it likes."""

from __future__ import annotations

import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import MissingDependency
from ansible_collections.tandem.machines.plugins.module_utils._core.kinds import InstanceType
from ansible_collections.tandem.machines.plugins.module_utils._core.values import Cpus
from ansible_collections.tandem.machines.plugins.module_utils._instance import resource
from ansible_collections.tandem.machines.plugins.module_utils._instance.model import (
    DiskDefinition,
    InstanceDefinition,
    NicDefinition,
    Record,
)
from ansible_collections.tandem.machines.plugins.module_utils._instance.qemu import driver, launch, startup
from ansible_collections.tandem.machines.plugins.module_utils._instance.qemu.command import render_command
from ansible_collections.tandem.machines.plugins.module_utils._instance.qemu.description import (
    SCHEMA,
    memory_limit,
    render_description,
)
from ansible_collections.tandem.machines.plugins.module_utils._instance.qemu.spec import (
    DirectBoot,
    Nic,
    VmHost,
    VmSpec,
    device_id,
    disk_port,
    nic_port,
    render_spec,
    round_memory,
)
from hypothesis import given
from hypothesis import strategies as st

MIB = 1024**2
BOOT = DirectBoot("/image/vmlinuz", "/image/initrd.img", "root=/dev/vda1")
HOST = VmHost("tcg", "/usr/bin/qemu-system-x86_64", virtiofsd="/usr/libexec/virtiofsd")
DEFINITION = InstanceDefinition(
    record=Record(
        name="web1",
        uuid="0a3b0a5e-1111-4222-8333-444455556666",
        type=InstanceType.VIRTUAL_MACHINE,
        image="0f" * 32,
        image_name="debian/12",
        pool="default",
        volatile={"qemu.uid": "2000007", "qemu.machine": "pc-q35-7.2"},
    ),
    directory="/state/web1",
    run_directory="/run/web1",
    root="/pool/root.qcow2",
    backing="/image/disk.qcow2",
)


def nic(name: str) -> NicDefinition:
    return NicDefinition(name, "tdbr0", f"tv-{name}", "00:16:3e:00:00:01", "eth0")


def share(name: str) -> DiskDefinition:
    return DiskDefinition(name, "/srv/data", "/data")


def spec(definition: InstanceDefinition = DEFINITION, seed: str = "") -> VmSpec:
    return render_spec(definition, HOST, BOOT, seed)


def test_defaults_are_lxds() -> None:
    vm = spec()
    assert (vm.cpus, vm.memory_bytes, vm.uid, vm.machine) == (1, 1024 * MIB, 2000007, "pc-q35-7.2")
    assert [layer.path for layer in vm.devices[0].layers] == ["/pool/root.qcow2", "/image/disk.qcow2"]  # type: ignore[union-attr]


def test_limits_reach_the_machine() -> None:
    record = replace(DEFINITION.record, expanded_config={"limits.cpu": Cpus(2, (1, 3))})
    vm = spec(replace(DEFINITION, record=record, memory_bytes=700 * MIB + 1))
    assert (vm.cpus, vm.pinned_cpus, vm.memory_bytes) == (2, (1, 3), 701 * MIB)
    assert render_description(vm, {})["limits"]["cpus"] == [1, 3]


def test_an_image_without_backing_file_is_one_layer() -> None:
    (root,) = spec(replace(DEFINITION, backing="")).devices
    assert [layer.path for layer in root.layers] == ["/pool/root.qcow2"]  # type: ignore[union-attr]


def test_nics_stay_where_they_are_when_disks_come() -> None:
    def ports(definition: InstanceDefinition, seed: str) -> list[int]:
        return [device.port for device in spec(definition, seed).devices if isinstance(device, Nic)]

    few = replace(DEFINITION, nics=(nic("eth0"), nic("eth1")))
    many = replace(few, disks=tuple(share(f"data{index}") for index in range(9)))
    assert ports(few, "") == ports(many, "/state/web1/seed.img") == [7, 6]


@given(st.integers(0, 59), st.integers(0, 59))
def test_no_two_devices_share_a_port(disk: int, interface: int) -> None:
    assert disk_port(disk) != nic_port(interface)
    assert disk_port(disk) != disk_port(disk + 1)
    assert nic_port(interface) != nic_port(interface + 1)


@pytest.mark.parametrize(("nics", "shares"), [(0, 0), (1, 0), (3, 2), (4, 0), (0, 3), (5, 9)])
def test_every_device_has_its_port_and_one_of_each_kind_is_spare(nics: int, shares: int) -> None:
    definition = replace(
        DEFINITION,
        nics=tuple(nic(f"eth{index}") for index in range(nics)),
        disks=tuple(share(f"data{index}") for index in range(shares)),
    )
    vm = spec(definition)
    text = "\n".join(render_command(vm)[0])
    for port in (*(device.port for device in vm.devices), disk_port(shares + 1), nic_port(nics)):
        assert f'"id":"port{port}"' in text


@given(st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-_.", min_size=1, max_size=63))
def test_ids_suit_qemu(name: str) -> None:
    identifier = device_id("disk", name)
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", identifier)
    # The longest node made of it: its backing file's protocol node.
    assert len(f"{identifier}-1-file") <= 31


def test_ids_of_long_names_differ() -> None:
    assert device_id("disk", "a" * 40) != device_id("disk", "a" * 41)


@given(st.integers(1, 1 << 45))
def test_memory_is_rounded_up_to_whole_mebibytes(size_bytes: int) -> None:
    assert 0 <= round_memory(size_bytes) - size_bytes < MIB
    assert round_memory(size_bytes) % MIB == 0


def test_a_share_needs_its_server() -> None:
    with pytest.raises(MissingDependency, match="instance web1: device data: virtiofsd is not installed"):
        render_spec(replace(DEFINITION, disks=(share("data"),)), replace(HOST, virtiofsd=None), BOOT, "")


def test_a_machine_whose_host_lost_what_it_needs_is_not_defined_but_can_be_looked_at() -> None:
    def miss(definition: InstanceDefinition) -> bool:
        raise MissingDependency("virtiofsd is not installed")

    host = SimpleNamespace(driver=lambda record: SimpleNamespace(is_defined_current=miss))
    assert not resource._is_defined(host, DEFINITION)  # type: ignore[arg-type]


def test_control_group_limits_leave_room_for_qemu_itself() -> None:
    vm = spec()
    assert memory_limit(vm) - vm.memory_bytes > 512 * MIB
    groups = render_description(vm, {})["cgroups"]
    assert groups["path"] == DEFINITION.cgroup
    assert groups["v1"]["devices"][0] == ["devices.deny", "a"]
    assert not any("10:232" in rule for _unused, rule in groups["v1"]["devices"])
    assert ["memory.max", str(memory_limit(vm))] in groups["v2"]


def test_only_kvm_machines_get_kvm() -> None:
    description = render_description(replace(spec(), accelerator="kvm"), {})
    assert description["kvm"] is True
    assert ["devices.allow", "c 10:232 rwm"] in description["cgroups"]["v1"]["devices"]


def test_the_launch_program_reads_what_we_write_and_we_what_it_writes() -> None:
    assert driver.STARTED == launch.STARTED
    assert startup.NOTIFY_SOCKET == launch.NOTIFY_SOCKET
    assert SCHEMA == launch.SCHEMA == render_description(spec(), {})["schema"]
