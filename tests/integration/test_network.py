# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Networks for real: bridges, leases, names, NAT, filters, damage, kills, rivals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import Conflict, InvalidRequest
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._host.run import find_tool
from ansible_collections.tandem.machines.plugins.module_utils._network.hosts import remove_host_entry, write_host_entry
from ansible_collections.tandem.machines.plugins.module_utils._network.leases import find_lease
from ansible_collections.tandem.machines.plugins.module_utils._network.lookup import open_network, require_bridge
from ansible_collections.tandem.machines.tests.integration.moments import fractions
from ansible_collections.tandem.machines.tests.integration.network_lab import (
    GUEST,
    HOST,
    HOST_ADDRESS,
    METADATA_ADDRESS,
    OUTSIDE,
    OUTSIDE_ADDRESS,
    Lab,
    finish,
    open_lab,
)
from ansible_collections.tandem.machines.tests.integration.runner import (
    Ansible,
    FourRuns,
    four_times,
    require_kept_promise,
)

# Guests' addresses are given by a process without rights, which must be able to reach its files.
LAB_ROOT = Path("/var/lib/tandem-test-network")
NAT = {"ipv4.address": "10.93.0.1/24", "ipv4.nat": True}
MAC, OTHER_MAC = "00:16:3e:93:00:01", "00:16:3e:93:00:02"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with open_lab(LAB_ROOT, tmp_path) as opened:
        yield opened


@pytest.fixture
def client(lab: Lab) -> Lab:
    if find_tool("udhcpc") is None:
        pytest.skip("needs a DHCP client: install package udhcpc")
    return lab


def in_lab(code: str) -> Any:
    """Run our own functions in the lab's host, where bridges of the lab are seen; the JSON they print."""
    prefix = "ansible_collections.tandem.machines.plugins.module_utils"
    program = (
        f"import json; from pathlib import Path; from {prefix}._host.paths import Paths\n"
        f"from {prefix}._network import hosts, leases, lookup\n"
        f"paths = Paths(Path({str(LAB_ROOT)!r}))\n{code}\n"
    )
    process = subprocess.run(
        ["ip", "netns", "exec", HOST, sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout or "null")


# --- On the machine itself, through Ansible ---


@pytest.fixture
def network(ansible: Ansible) -> Iterator[str]:
    yield "tdn0"
    ansible.task("network", name="tdn0", state="absent")


def test_check_apply_check_apply(ansible: Ansible, network: str) -> None:
    def four(**options: Any) -> list[Any]:
        return four_times({"tandem.machines.network": {"name": network, **options}})

    info = {"tandem.machines.network_info": {"name": network}}
    results = ansible.tasks(
        *four(config=NAT, description="laboratory"),
        *four(config={"ipv4.address": "10.93.1.1/24", "dns.domain": "lab.example.org", "bridge.mtu": 1400}),
        *four(config={"ipv4.nat": None, "bridge.mtu": None}, description=""),
        *four(config={"ipv4.address": "none"}),
        *four(config={"ipv4.address": "auto"}, config_mode="replace"),
        info,
        *four(state="absent"),
        info,
    )
    found, nothing = results.pop(20), results.pop()
    runs = [require_kept_promise(FourRuns(*results[begin : begin + 4])) for begin in range(0, len(results), 4)]
    created, _changed, _removed, plain, automatic, gone = runs
    shown = created.apply["network"]
    assert shown["addresses"] == ["10.93.0.1/24"] and shown["state"] == "up" and shown["drift"] == []
    assert created.check["network"].items() <= shown.items()
    assert plain.apply["network"]["addresses"] == []
    assert automatic.apply["network"]["config"] == {"ipv4.address": "auto", "ipv4.nat": "true"}
    assert found["networks"] == [automatic.apply_again["network"]]
    assert gone.apply["network"] == {} and gone.apply["previous_state"] == "present"
    assert nothing["networks"] == []


def test_bad_input_gets_one_line_and_changes_nothing(ansible: Ansible) -> None:
    bad: list[tuple[dict[str, Any], list[str]]] = [
        ({"name": "Big"}, ["network name 'Big'", "1 to 15"]),
        ({"config": {"ipv4.adress": "auto"}}, ["network tdn0", "ipv4.adress", "did you mean ipv4.address"]),
        ({"config": {"ipv4.address": "10.93.0.1"}}, ["network tdn0", "ipv4.address", "prefix length"]),
        ({"config": {"ipv4.address": "fd00::1/64"}}, ["ipv4.address", "fd00::1/64"]),
        ({"config": {"ipv6.address": "auto"}}, ["ipv6.address", "write none"]),
        ({"config": {"ipv4.nat": "perhaps"}}, ["ipv4.nat", "true or false"]),
        ({"config": {"ipv4.address": "127.0.0.1/8"}}, ["127.0.0.1/8", "unicast"]),
        ({"config": {"dns.domain": "a\nserver=10.0.0.1"}}, ["dns.domain"]),
        ({"config": {**NAT, "ipv4.dhcp.ranges": "10.94.0.1-10.94.0.2"}}, ["ipv4.dhcp.ranges", "10.93.0.0/24"]),
        ({"name": "lo"}, ["interface lo exists that is not ours"]),
    ]
    tasks = [{"name": "tdn0", **options} for options, _unused in bad]
    for refused, (_unused, words) in zip(ansible.failures("network", *tasks), bad):
        assert all(word in refused.message for word in words), refused.message
    assert not (ansible.root / "networks" / "tdn0").exists()


# --- In the lab ---


def test_a_network_of_each_kind_leaves_nothing(lab: Lab) -> None:
    for options in ({"config": NAT}, {"config": {"ipv4.address": "none"}}, {"type": "none"}, {}):
        assert lab.run(name="tdn0", **options)["changed"]
        assert not lab.run(name="tdn0", **options)["changed"]
        assert lab.forwards() == (options in ({"config": NAT}, {}))
        assert lab.run(name="tdn0", state="absent")["changed"]
        assert lab.traces() == []
    assert not lab.run(name="tdn0", state="absent")["changed"]


def test_a_guest_gets_address_name_and_options(client: Lab) -> None:
    config = {**NAT, "bridge.mtu": 1400, "dns.domain": "lab.example.org", "dns.search": "a.example,b.example"}
    client.run(name="tdn0", config={**config, "ipv4.dhcp.expiry": "10m"})
    client.join("tdn0", MAC)
    in_lab(f"hosts.write_host_entry(paths, 'tdn0', 'web1', 'eth0', {MAC!r}, None)")
    lease = client.lease(hostname="impostor")
    assert lease["router"] == lease["dns"] == lease["serverid"] == "10.93.0.1"
    assert (lease["mtu"], lease["lease"], lease["domain"]) == ("1400", "600", "lab.example.org")
    assert lease["search"] == "a.example b.example"
    assert client.ask("web1.lab.example.org", "10.93.0.1") == lease["ip"]
    assert client.ask("_gateway.lab.example.org", "10.93.0.1") == "10.93.0.1"
    assert client.ask("impostor.lab.example.org", "10.93.0.1") == "no answer, status 3"
    shown = client.run("network_info")["networks"][0]["leases"]
    assert [(entry["address"], entry["hwaddr"], entry["hostname"]) for entry in shown] == [(lease["ip"], MAC, "web1")]


def test_fixed_addresses_follow_their_entries(client: Lab) -> None:
    client.run(name="tdn0", config={**NAT, "ipv4.dhcp.ranges": "10.93.0.100-10.93.0.101"})
    client.join("tdn0", MAC)
    in_lab(f"hosts.write_host_entry(paths, 'tdn0', 'web1', 'eth0', {MAC!r}, '10.93.0.7')")
    assert client.lease()["ip"] == "10.93.0.7"
    assert in_lab(f"print(json.dumps(leases.find_lease(paths, 'tdn0', {MAC!r})))") == "10.93.0.7"
    assert client.ask("web1.tandem", "10.93.0.1") == "10.93.0.7"
    in_lab(f"hosts.write_host_entry(paths, 'tdn0', 'web1', 'eth0', {MAC!r}, '10.93.0.8')")
    wait_until(lambda: client.lease().get("ip") == "10.93.0.8")
    assert client.ask("web1.tandem", "10.93.0.1") == "10.93.0.8"
    in_lab(f"leases.release_lease(paths, 'tdn0', {MAC!r}); hosts.remove_host_entry(paths, 'tdn0', 'web1', 'eth0')")
    wait_until(lambda: find_lease(Paths(LAB_ROOT), "tdn0", MAC) is None)
    assert client.ask("web1.tandem", "10.93.0.1") == "no answer, status 3"
    assert client.lease()["ip"] in ("10.93.0.100", "10.93.0.101")


def wait_until(condition: Any) -> None:
    """dnsmasq works through its messages by itself; there is nothing to wait on but the result."""
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_names_follow_the_mode(client: Lab) -> None:
    client.run(name="tdn0", config=NAT)
    client.join("tdn0", MAC)
    in_lab(f"hosts.write_host_entry(paths, 'tdn0', 'web1', 'eth0', {MAC!r}, '10.93.0.7')")
    client.run(name="tdn0", config={"dns.mode": "dynamic"})
    assert client.lease(hostname="chosen")["ip"] == "10.93.0.7"
    assert client.ask("chosen.tandem", "10.93.0.1") == "10.93.0.7"
    client.lease(hostname="wpad")
    assert client.ask("wpad.tandem", "10.93.0.1") == "no answer, status 3"
    client.run(name="tdn0", config={"dns.mode": "none"})
    client.lease(hostname="chosen")
    assert "10.93" not in client.ask("chosen.tandem", "10.93.0.1")
    client.run(name="tdn0", config={"dns.mode": "managed"})
    client.lease(hostname="chosen")
    assert client.ask("web1.tandem", "10.93.0.1") == "10.93.0.7"


def test_entries_are_checked() -> None:
    with pytest.raises(Conflict, match="network tdn8 does not exist: create it"):
        open_network(Paths(LAB_ROOT), "tdn8")
    with pytest.raises(Conflict, match="bridge tdn8 does not exist"):
        require_bridge("tdn8")
    with pytest.raises(InvalidRequest):
        remove_host_entry(Paths(LAB_ROOT), "tdn8", "../../x", "eth0")
    write_host_entry(Paths(LAB_ROOT), "tdn8", "web1", "eth0", MAC, "10.0.0.1")
    assert not (LAB_ROOT / "networks").exists()


def test_entries_of_two_guests_cannot_collide(lab: Lab) -> None:
    lab.run(name="tdn0", config=NAT)
    paths = Paths(LAB_ROOT)
    write_host_entry(paths, "tdn0", "web1", "eth0", MAC, "10.93.0.7")
    write_host_entry(paths, "tdn0", "web1", "eth0", MAC, "10.93.0.7")
    with pytest.raises(Conflict, match=r"instance web2: device eth0: ipv4.address 10.93.0.7 is taken .* instance web1"):
        write_host_entry(paths, "tdn0", "web2", "eth0", OTHER_MAC, "10.93.0.7")
    with pytest.raises(Conflict, match="hwaddr"):
        write_host_entry(paths, "tdn0", "web2", "eth0", MAC, None)
    for address in ("10.94.0.7", "10.93.0.1", "10.93.0.255", "10.93.0.0"):
        with pytest.raises(InvalidRequest, match="choose another"):
            write_host_entry(paths, "tdn0", "web2", "eth0", OTHER_MAC, address)
    assert in_lab("print(json.dumps(lookup.open_network(paths, 'tdn0').subnet))") == "10.93.0.0/24"
    assert in_lab("print(json.dumps(lookup.require_bridge('tdn0').mtu))") == 1500


def test_nat_hides_guests_and_lets_only_answers_in(client: Lab) -> None:
    client.run(name="tdn0", config=NAT)
    client.join("tdn0", MAC)
    guest = client.lease()["ip"]
    outcome, peer = client.connect(GUEST, OUTSIDE, OUTSIDE_ADDRESS, port=100)
    assert outcome == "connected" and peer[0] == HOST_ADDRESS and peer[1] >= 1024
    assert client.connect(OUTSIDE, GUEST, guest)[0] == "TimeoutError"
    assert client.connect(GUEST, OUTSIDE, METADATA_ADDRESS)[0] == "TimeoutError"
    assert client.ask("_gateway.tandem", "10.93.0.1", namespace=OUTSIDE) == "TimeoutError"
    client.run(name="tdn0", config={"ipv4.firewall": False})
    assert client.connect(OUTSIDE, GUEST, guest)[0] == "connected"
    assert client.connect(GUEST, OUTSIDE, METADATA_ADDRESS)[0] == "connected"
    client.run(name="tdn0", config={"ipv4.firewall": True, "ipv4.nat": False})
    outcome, peer = client.connect(GUEST, OUTSIDE, OUTSIDE_ADDRESS, port=100)
    assert (outcome, peer) == ("connected", [guest, 100])
    assert client.connect(OUTSIDE, GUEST, guest)[0] == "connected"
    client.run(name="tdn0", config={"ipv4.routing": False})
    assert client.connect(GUEST, OUTSIDE, OUTSIDE_ADDRESS)[0] != "connected"
    assert client.connect(GUEST, HOST, "10.93.0.1")[0] == "connected"


def test_dnsmasq_has_no_rights_to_lose(lab: Lab) -> None:
    lab.run(name="tdn0", config=NAT)
    (pid,) = lab.processes()
    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"1900000000"}
    assert status["Groups"].strip() == "" and status["NoNewPrivs"] == "1"
    net_bind_service, net_admin = 10, 12
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << net_bind_service | 1 << net_admin
    sockets = lab.command("ss", "-H", "-lntu")
    assert {line.split()[4] for line in sockets.splitlines()} == {"10.93.0.1:53", "0.0.0.0%tdn0:67"}


DAMAGE = {
    "bridge": ("ip", "link", "delete", "tdn0"),
    "bridge/up": ("ip", "link", "set", "tdn0", "down"),
    "bridge/mtu": ("ip", "link", "set", "tdn0", "mtu", "1400"),
    "bridge/alias": ("ip", "link", "set", "tdn0", "alias", ""),
    "bridge/addresses": ("ip", "address", "add", "10.93.9.9/32", "dev", "tdn0"),
    "bridge/ipv6": ("sysctl", "-q", "-w", "net.ipv6.conf.tdn0.disable_ipv6=0"),
    "forwarding": ("sysctl", "-q", "-w", "net.ipv4.ip_forward=0"),
    "files/link.batch": ("rm", str(LAB_ROOT / "networks/tdn0/link.batch")),
}
RULE_DAMAGE = (
    ("flush", "ruleset"),
    ("flush", "chain", "inet", "tandem-tdn0", "forward"),
    ("add", "rule", "inet", "tandem-tdn0", "forward", "drop"),
    ("delete", "chain", "inet", "tandem-tdn0", "postrouting"),
    ("add", "chain", "inet", "tandem-tdn0", "forward", "{ policy drop; }"),
)


def test_damage_by_hand_is_named_and_mended(client: Lab) -> None:
    client.run(name="tdn0", config=NAT)

    def mended(path: str) -> None:
        result = client.run(name="tdn0", config=NAT)
        assert result["changed"] and result["network"]["drift"] == []
        assert list(paths_of(result["diff"]["after"])) == [path]

    for path, argv in DAMAGE.items():
        client.command(*argv)
        mended(path)
    for words in RULE_DAMAGE:
        client.command("nft", *words)
        mended("nftables")
    for number in (signal.SIGTERM, signal.SIGKILL):
        (pid,) = client.processes()
        os.kill(pid, number)
        wait_until(lambda: not client.processes())
        mended("dnsmasq")
    client.command("nft", "flush", "ruleset")
    client.command("ip", "link", "set", "tdn0", "down")
    assert client.run("network_info")["networks"][0]["drift"] == ["bridge: up", "nftables"]
    client.run(name="tdn0")
    client.join("tdn0", MAC)
    assert client.lease()


def paths_of(tree: Any) -> Iterator[str]:
    """The paths of the leaves of a diff."""
    for key, value in tree.items():
        yield from (f"{key}/{path}" for path in paths_of(value)) if isinstance(value, dict) else (key,)


def test_others_things_are_refused_and_stay(lab: Lab) -> None:
    lab.command("ip", "link", "add", "tdn0", "type", "bridge")
    lab.command("nft", "add", "table", "inet", "tandem-tdn1")
    before = lab.traces()
    assert "interface tdn0 exists that is not ours" in lab.refuse(name="tdn0", config=NAT)
    assert "table tandem-tdn1 exists that is not ours" in lab.refuse(name="tdn1", config=NAT)
    for address in ("10.93.200.9/24", "10.93.0.1/16", "169.254.0.1/16"):
        assert address in lab.refuse(name="tdn2", config={"ipv4.address": address})
    assert not lab.run(name="tdn0", state="absent")["changed"]
    assert lab.traces() == before
    shown = lab.run("network_info", unmanaged=True)["networks"]
    assert [(bridge["name"], bridge["managed"]) for bridge in shown] == [("tdn0", False)]


def test_a_root_that_dnsmasq_cannot_enter_is_refused(lab: Lab, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    root = tmp_path / "state"
    message = lab.refuse(name="tdn0", config=NAT, root=str(root))
    shutil.rmtree(Paths(root).run)
    assert "run chmod o+x" in message
    assert [path.name for path in root.rglob("*")] == ["networks"]
    assert lab.traces() == []


def test_a_taken_port_is_named_and_the_creation_taken_back(lab: Lab) -> None:
    argv = ["ip", "netns", "exec", HOST, "python3", "-c", "import socket, time\ns = socket.create_server(('', 53))\n"]
    argv[-1] += "print('ready', flush=True); time.sleep(60)"
    holder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "ready\n"
    try:
        assert f"port 53 of 10.93.0.1 is taken by python3 (pid {holder.pid})" in lab.refuse(name="tdn0", config=NAT)
        assert holder.poll() is None
        assert lab.traces() == []
    finally:
        holder.kill()
        holder.communicate()


def test_networks_with_the_same_subnet_are_refused(lab: Lab) -> None:
    lab.run(name="tdn0", config=NAT)
    lab.command("ip", "link", "set", "tdn0", "down")
    message = lab.refuse(name="tdn1", config={"ipv4.address": "10.93.0.129/25"})
    assert "overlaps 10.93.0.0/24 of network tdn0" in message
    lab.run(name="tdn1", config={"ipv4.address": "10.93.1.1/24"})
    assert "overlaps" in lab.refuse(name="tdn1", config={"ipv4.address": "10.93.0.1/16"})
    assert lab.forwards()
    lab.run(name="tdn0", state="absent")
    assert lab.forwards()
    lab.run(name="tdn1", state="absent")
    assert lab.traces() == []


def test_a_network_in_use_is_not_removed(lab: Lab) -> None:
    lab.run(name="tdn0", config=NAT)
    instance = LAB_ROOT / "instances" / "web1"
    instance.mkdir(parents=True)
    record = {"expanded_devices": {"eth0": {"type": "nic", "network": "tdn0"}}}
    (instance / "instance.json").write_text(json.dumps(record))
    assert "in use by instance web1" in lab.refuse(name="tdn0", state="absent")
    assert lab.run("network_info")["networks"][0]["used_by"] == ["instance web1"]
    (instance / "instance.json").unlink()
    assert lab.run(name="tdn0", state="absent")["changed"]


def test_of_two_runs_at_once_one_changes_and_one_waits(lab: Lab) -> None:
    for options in ({"config": NAT}, {"config": {"bridge.mtu": 1400}}, {"state": "absent"}):
        runs = [lab.start("network", {"name": "tdn0", **options}) for _unused in range(2)]
        assert sorted(finish(run)["changed"] for run in runs) == [False, True], options
    assert lab.traces() == []


def test_networks_made_at_once_get_subnets_and_users_of_their_own(lab: Lab) -> None:
    runs = [lab.start("network", {"name": f"tdn{number}"}) for number in range(4)]
    made = [finish(run)["network"] for run in runs]
    assert len({network["addresses"][0] for network in made}) == 4
    records = [json.loads(path.read_text()) for path in LAB_ROOT.glob("networks/*/network.json")]
    assert len({record["volatile"]["dnsmasq.uid"] for record in records}) == 4
    for number in range(4):
        lab.run(name=f"tdn{number}", state="absent")
    assert lab.traces() == []


@pytest.mark.moments
@pytest.mark.parametrize("operation", ["create", "change", "remove"])
def test_killed_at_any_moment(lab: Lab, operation: str) -> None:
    created: dict[str, Any] = {"name": "tdn0", "config": NAT}
    absent: dict[str, Any] = {"name": "tdn0", "state": "absent"}
    changed = {"name": "tdn0", "config": {"ipv4.address": "10.93.1.1/24", "bridge.mtu": 1400, "ipv4.nat": False}}
    task = {"create": created, "change": changed, "remove": absent}[operation]

    def prepare() -> None:
        if operation != "create":
            lab.run(**created)

    prepare()
    started = time.monotonic()
    lab.run(**task)
    seconds = time.monotonic() - started
    lab.run(**absent)
    hits = 0
    moments = fractions(4)
    for moment in moments:
        prepare()
        # The first part is spent loading Python, where nothing can happen.
        hits += lab.kill_after(seconds * (0.3 + 0.7 * moment), **task)
        lab.run(**task)
        assert not lab.run(**task)["changed"]
        assert len(lab.processes()) == (operation != "remove")
        lab.run(**absent)
        assert lab.traces() == [], f"after being killed at {moment:.0%}"
    assert hits >= len(moments) // 3, "the module had mostly ended before it was killed"
