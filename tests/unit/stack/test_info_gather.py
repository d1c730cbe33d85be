# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""stack_info on a host that is a directory of records: what it returns is planned again, to no change."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.tandem.machines.plugins.module_utils import _spec
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import InvalidRequest, WrongInterpreter
from ansible_collections.tandem.machines.plugins.module_utils._core.kinds import InstanceType, Power, Work
from ansible_collections.tandem.machines.plugins.module_utils._core.options import OptionTable
from ansible_collections.tandem.machines.plugins.module_utils._core.plan import Plan
from ansible_collections.tandem.machines.plugins.module_utils._host.files import ensure_directory, write_json
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._image import model as images
from ansible_collections.tandem.machines.plugins.module_utils._image.plan import plan_image
from ansible_collections.tandem.machines.plugins.module_utils._instance import model as instances
from ansible_collections.tandem.machines.plugins.module_utils._instance import store
from ansible_collections.tandem.machines.plugins.module_utils._instance.lxc.driver import LxcDriver
from ansible_collections.tandem.machines.plugins.module_utils._instance.plan import plan_instance
from ansible_collections.tandem.machines.plugins.module_utils._network import model as networks
from ansible_collections.tandem.machines.plugins.module_utils._network.record import find_record
from ansible_collections.tandem.machines.plugins.module_utils._spec.instance import INSTANCE
from ansible_collections.tandem.machines.plugins.module_utils._spec.network import NETWORK_CONFIG
from ansible_collections.tandem.machines.plugins.module_utils._spec.storage import STORAGE_POOL_CONFIG
from ansible_collections.tandem.machines.plugins.module_utils._stack.document import build_entries
from ansible_collections.tandem.machines.plugins.module_utils._stack.info import gather_stack
from ansible_collections.tandem.machines.plugins.module_utils._stack.model import Entry
from ansible_collections.tandem.machines.plugins.module_utils._stack.nouns import KINDS
from ansible_collections.tandem.machines.plugins.module_utils._storage import layout
from ansible_collections.tandem.machines.plugins.module_utils._storage import model as pools
from ansible_collections.tandem.machines.plugins.module_utils._storage.plan import plan_storage_pool
from ansible_collections.tandem.machines.plugins.module_utils._storage.record import Backing, Presence, Recorded

BUILD = {"type": "build", "distribution": "debian", "release": "bookworm", "architecture": "amd64"}
OLD, NEW = "ab" * 32, "cd" * 32
ROOT = {"type": "disk", "path": "/", "pool": "default"}
NIC = {"type": "nic", "network": "tdbr0"}
UUID = "12345678-0000-4000-8000-000000000000"
RECORDS = {
    "storage_pool": "storage/slow/pool.json",
    "network": "networks/tdbr0/network.json",
    "image": f"images/{NEW}/image.json",
    "profile": "profiles/web.json",
    "instance": "instances/web1/instance.json",
}


@dataclass(frozen=True)
class Lab:
    """A state root without anything that runs."""

    paths: Paths
    warnings: list[str] = field(default_factory=list)

    def pool(self, name: str, config: dict[str, Any], **more: Any) -> None:
        known = {"driver": "btrfs", "backing": Backing.LOOP, "size_bytes": 5 * 1024**3, **more}
        layout.write_record(self.paths, Recorded(name, UUID, config=STORAGE_POOL_CONFIG.parse(config, name), **known))

    def network(self, name: str, config: dict[str, Any], **more: Any) -> None:
        intent = networks.Intent(
            **{"type": "bridge", "description": "", "config": NETWORK_CONFIG.parse(config, name), **more}
        )
        ensure_directory(self.paths.network(name))
        recorded = networks.Recorded(UUID, intent, {"ipv4.address": "10.7.0.1/24"})
        write_json(self.paths.network(name) / "network.json", networks.render_record(name, recorded))

    def image(self, fingerprint: str, *aliases: str, source: dict[str, Any] | None = None, **more: Any) -> images.Image:
        parsed = images.parse_source(source or BUILD, "image", "amd64")
        facts = {"os": "Debian", "release": "bookworm", "architecture": "amd64", "created": "2026-01-01T00:00:00Z"}
        parts = {"has_root": True, "has_disk": False, "has_kernel": True}
        image = images.Image(fingerprint, source=parsed, aliases=aliases, **{**facts, **parts, **more})
        ensure_directory(self.paths.image(fingerprint))
        write_json(self.paths.image(fingerprint) / "image.json", images.render_record(image))
        ensure_directory(self.paths.aliases)
        for alias in aliases:
            (self.paths.aliases / alias.replace("/", "+")).symlink_to(f"../{fingerprint}")
        return image

    def profile(self, name: str, config: dict[str, Any], devices: dict[str, Any], description: str = "") -> None:
        parsed = instances.parse_devices(devices, {}, name, None)
        store.write_profile(self.paths, instances.Profile(name, INSTANCE.parse(config, name), parsed, description))

    def instance(self, name: str, config: dict[str, Any] | None = None, **more: Any) -> None:
        kind = more.pop("type", InstanceType.CONTAINER)
        profiles = more.pop("profiles", ("web",))
        own = INSTANCE.parse(config or {}, name, kind)
        devices = instances.parse_devices(more.pop("devices", {}), {}, name, kind)
        expanded = instances.expand(profiles, store.read_profiles(self.paths, profiles), own, devices)
        given = {"uuid": UUID, "image": OLD, "image_name": "debian/12", "pool": "default", **more}
        store.write_record(
            self.paths,
            instances.Record(
                name,
                type=kind,
                profiles=profiles,
                config=own,
                devices=devices,
                expanded_config=expanded[0],
                expanded_devices=expanded[1],
                volatile={"idmap.base": "1000000", "last_state.power": "stopped"},
                **given,
            ),
        )

    def gather(self, *names: str) -> dict[str, list[dict[str, Any]]]:
        """The document; JSON, as it leaves the host. Warnings are one line each."""
        found = gather_stack({"instances": list(names) or None}, self.paths)
        self.warnings[:] = found["warnings"]
        assert not [warning for warning in self.warnings if "\n" in warning]
        document: dict[str, list[dict[str, Any]]] = json.loads(json.dumps(found["stack"]))
        return document

    def damage(self, record: str) -> None:
        (self.paths.root / record).write_text("{")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """One of everything, and one more of most that web1 does not need."""
    lab = Lab(Paths(tmp_path))
    lab.pool("default", {"size": "5GiB", "btrfs.mount_options": "noatime"}, description="for all")
    lab.pool("slow", {}, driver="dir", backing=Backing.PLAIN, size_bytes=None)
    lab.network("tdbr0", {"ipv4.address": "auto", "ipv4.nat": True, "dns.search": "a.example,b.example"})
    lab.network("tdbr1", {}, type="none", description="plain")
    lab.image(OLD, "debian/12", "debian/stable", source={**BUILD, "packages": ["vim"], "mirror": "http://m.example/d/"})
    lab.image(NEW, "other")
    lab.profile("empty", {}, {}, "nothing")
    lab.profile("web", {"limits.memory": "2048MiB"}, {"root": ROOT, "eth0": NIC})
    lab.instance("db1", {"boot.autostart": True}, profiles=(), devices={"root": {**ROOT, "pool": "slow"}}, pool="slow")
    without_nic = {"eth0": {"type": "none"}}
    lab.instance("web1", {"limits.cpu": 2, "user.role": "web"}, description="the first", devices=without_nic)
    lab.instance("vm1", type=InstanceType.VIRTUAL_MACHINE, devices={"root": {**ROOT, "size": "10GiB"}})
    return lab


def named(document: dict[str, list[dict[str, Any]]]) -> dict[str, list[str]]:
    return {plural: [item["name"] for item in items] for plural, items in document.items()}


EVERYTHING = {
    "storage_pools": ["default", "slow"],
    "networks": ["tdbr0", "tdbr1"],
    "images": ["debian/12", "other"],
    "profiles": ["empty", "web"],
    "instances": ["db1", "vm1", "web1"],
}


def plans(lab: Lab, document: dict[str, Any]) -> Iterator[tuple[str, Plan[Any]]]:
    """What each object of the document would lead to, on a host where all is as the records say."""
    for entry in build_entries(document, lab.paths):
        yield str(entry), PLANS[entry.kind](lab.paths, entry)


def _pool_plan(paths: Paths, entry: Entry) -> Plan[Any]:
    recorded = layout.read_record(paths, entry.name)
    assert recorded is not None
    size_bytes = recorded.size_bytes
    current = pools.Current(recorded, Presence.MOUNTED, backing_bytes=size_bytes, filesystem_bytes=size_bytes)
    return plan_storage_pool(entry.resource.desired, current)


def _network_plan(paths: Paths, entry: Entry) -> Plan[Any]:
    recorded = find_record(paths, entry.name)
    assert recorded is not None
    assert networks.merge_intent(entry.resource.desired, recorded.intent) == recorded.intent
    return Plan()


def _image_plan(paths: Paths, entry: Entry) -> Plan[Any]:
    return plan_image(entry.resource.desired, entry.resource.host.observe(entry.resource.desired))


def _profile_plan(paths: Paths, entry: Entry) -> Plan[Any]:
    return entry.resource.plan(entry.resource.observe())


def _instance_plan(paths: Paths, entry: Entry) -> Plan[Any]:
    record = store.read_record(paths, entry.name)
    profiles = store.read_profiles(paths, record.profiles if record else ())
    around = entry.resource._observe_surroundings(record)
    return plan_instance(
        entry.resource.desired,
        instances.Current(record, Power.STOPPED),
        instances.Surroundings(profiles, around.fingerprint, around.has_image),
    )


PLANS = {
    "storage_pool": _pool_plan,
    "network": _network_plan,
    "image": _image_plan,
    "profile": _profile_plan,
    "instance": _instance_plan,
}


def changing(lab: Lab, document: dict[str, Any]) -> list[str]:
    return [name for name, plan in plans(lab, document) if plan.changes or plan.steps]


def test_everything_is_described_and_applied_without_change(lab: Lab) -> None:
    document = lab.gather()
    assert named(document) == EVERYTHING
    assert lab.warnings == []
    assert changing(lab, document) == []


def test_options_are_what_a_user_would_write(lab: Lab) -> None:
    document = lab.gather("web1", "vm1")
    assert document == {
        "storage_pools": [
            {
                "name": "default",
                "driver": "btrfs",
                "description": "for all",
                "config": {"btrfs.mount_options": "noatime", "size": "5GiB"},
            }
        ],
        "networks": [
            {
                "name": "tdbr0",
                "type": "bridge",
                "config": {"dns.search": "a.example,b.example", "ipv4.address": "auto", "ipv4.nat": "true"},
            }
        ],
        "images": [
            {
                "name": "debian/12",
                "aliases": ["debian/stable"],
                "source": {**BUILD, "packages": ["vim"], "mirror": "http://m.example/d"},
            }
        ],
        "profiles": [{"name": "web", "config": {"limits.memory": "2GiB"}, "devices": {"root": ROOT, "eth0": NIC}}],
        "instances": [
            {
                "name": "vm1",
                "type": "virtual-machine",
                "image": "debian/12",
                "state": "stopped",
                "profiles": ["web"],
                "devices": {"root": {**ROOT, "size": "10GiB"}},
            },
            {
                "name": "web1",
                "type": "container",
                "image": "debian/12",
                "state": "stopped",
                "description": "the first",
                "profiles": ["web"],
                "config": {"limits.cpu": "2", "user.role": "web"},
                "devices": {"eth0": {"type": "none"}},
            },
        ],
    }
    assert next(iter(document["instances"][0])) == "name"


@pytest.mark.parametrize(
    ("power", "state"),
    [(Power.RUNNING, "started"), (Power.STOPPED, "stopped"), (Power.FROZEN, "frozen")],
)
def test_power_is_part_of_an_instance(lab: Lab, monkeypatch: pytest.MonkeyPatch, power: Power, state: str) -> None:
    monkeypatch.setattr(LxcDriver, "power", lambda *_given: power)
    assert lab.gather("web1")["instances"][0]["state"] == state


def test_some_instances_bring_what_they_need(lab: Lab) -> None:
    assert named(lab.gather("db1")) == {
        "storage_pools": ["slow"],
        "networks": [],
        "images": ["debian/12"],
        "profiles": [],
        "instances": ["db1"],
    }
    assert lab.warnings == []


@pytest.mark.parametrize("name", ["web9", "Web1", "../web1"])
def test_instance_that_does_not_exist_is_named(lab: Lab, name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        lab.gather("web1", name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_empty_host_is_an_empty_document(tmp_path: Path) -> None:
    assert Lab(Paths(tmp_path / "none")).gather() == {plural: [] for plural in EVERYTHING}


@pytest.mark.parametrize("noun", RECORDS)
def test_damaged_record_hides_nothing_else(lab: Lab, noun: str) -> None:
    lab.damage(RECORDS[noun])
    document = lab.gather()
    plural = next(kind.plural for kind in KINDS if kind.name == noun)
    missing = [name for name in EVERYTHING[plural] if name not in named(document)[plural]]
    assert len(missing) == 1 and {**named(document), plural: EVERYTHING[plural]} == EVERYTHING
    [warning] = lab.warnings
    assert warning.startswith(f"{noun.replace('_', ' ')} {missing[0]} is left out: ")


def test_machine_that_stands_on_an_unreadable_image_is_left_out_and_a_container_is_not(lab: Lab) -> None:
    lab.damage(f"images/{OLD}/image.json")
    document = lab.gather()
    assert (named(document)["images"], named(document)["instances"]) == (["other"], ["db1", "web1"])
    assert [warning.partition(" is left out")[0] for warning in lab.warnings] == ["image debian/12", "instance vm1"]
    assert changing(lab, document) == []


def test_object_under_work_is_left_out(lab: Lab) -> None:
    lab.pool("slow", {}, driver="dir", backing=Backing.PLAIN, size_bytes=None, work=Work.DELETE)
    lab.network("tdbr1", {}, type="none", work="update")
    lab.instance("web1", work=Work.CREATE)
    document = named(lab.gather())
    assert (document["storage_pools"], document["networks"]) == (["default"], ["tdbr0"])
    assert document["instances"] == ["db1", "vm1"]
    assert [warning.partition(" is left out: work on it ")[0] for warning in lab.warnings] == [
        "storage pool slow",
        "network tdbr1",
        "instance web1",
    ]


def test_secrets_are_neither_shown_nor_changed(lab: Lab) -> None:
    secret = {"cloud-init.user-data": "hunter2", "cloud-init.vendor-data": "hunter3"}
    lab.profile("web", {**secret, "limits.memory": "1GiB"}, {"root": ROOT, "eth0": NIC})
    lab.instance("web1", secret)
    document = lab.gather("web1")
    assert "hunter" not in json.dumps(document) + str(lab.warnings)
    assert "config" not in document["instances"][0]
    assert document["profiles"][0]["config"] == {"limits.memory": "1GiB"}
    assert sorted(warning.partition(", ")[0] for warning in lab.warnings) == [
        f"{name} has config option {key}" for name in ("instance web1", "profile web") for key in sorted(secret)
    ]
    assert changing(lab, document) == []


def test_every_table_with_secrets_is_that_of_a_noun() -> None:
    """Secrets are left out by the tables of nouns: one elsewhere would be shown."""
    names = [found.name for found in pkgutil.iter_modules(_spec.__path__)]
    modules = [importlib.import_module(f"{_spec.__name__}.{name}") for name in names]
    values = [value for module in modules for value in vars(module).values()]
    tables = [table for value in values for table in (value.values() if isinstance(value, dict) else [value])]
    secret = {table.noun for table in tables if isinstance(table, OptionTable) and any(row.secret for row in table)}
    loaded = [kind.load() for kind in KINDS]
    assert secret == {noun.table.noun for noun in loaded if noun.table is not None}


# --- What an instance calls its image.


def image_of(lab: Lab) -> object:
    """What web1 is said to be made from, after a look that applying it changes nothing."""
    document = lab.gather("web1")
    assert changing(lab, document) == []
    return document["instances"][0].get("image")


def forget(lab: Lab, *aliases: str) -> None:
    for alias in aliases:
        (lab.paths.aliases / alias.replace("/", "+")).unlink()


def test_alias_that_moved_to_another_image_is_kept(lab: Lab) -> None:
    forget(lab, "debian/12")
    (lab.paths.aliases / "debian+12").symlink_to(f"../{NEW}")
    assert image_of(lab) == "debian/12"
    assert named(lab.gather("web1"))["images"] == ["debian/12"]
    assert lab.warnings == []


def test_image_with_another_name_is_called_by_that(lab: Lab) -> None:
    forget(lab, "debian/12")
    assert image_of(lab) == "debian/stable"
    assert named(lab.gather("web1"))["images"] == ["debian/stable"]
    assert lab.warnings == []


def test_image_without_a_name_is_called_by_fingerprint(lab: Lab) -> None:
    forget(lab, "debian/12", "debian/stable")
    assert image_of(lab) == OLD
    [warning] = lab.warnings
    assert warning.startswith("instance web1 names its image by fingerprint: ")
    assert named(lab.gather())["images"] == ["other"]


def test_image_that_was_asked_for_by_fingerprint_stays_so(lab: Lab) -> None:
    lab.instance("web1", image_name=OLD)
    assert image_of(lab) == OLD
    assert named(lab.gather("web1"))["images"] == ["debian/12"]
    assert len(lab.warnings) == 1


def test_image_that_is_gone_is_left_out(lab: Lab) -> None:
    forget(lab, "debian/12", "debian/stable")
    (lab.paths.image(OLD) / "image.json").unlink()
    assert image_of(lab) is None
    assert lab.warnings == ["instance web1 cannot be created anew from this document: its image is gone"]


def test_instance_by_a_second_name_of_its_image_brings_it_once(lab: Lab) -> None:
    lab.instance("web1", image_name="debian/stable")
    assert image_of(lab) == "debian/stable"
    assert named(lab.gather())["images"] == EVERYTHING["images"]


# --- What is left out of objects.


def file_image(lab: Lab, path: Path, fingerprint: str) -> None:
    lab.image(fingerprint, "imported", source={"type": "file", "path": str(path), "format": "tar"})


def test_source_file_that_is_deleted_is_still_the_source(lab: Lab, tmp_path: Path) -> None:
    file_image(lab, tmp_path / "gone.tar", "ef" * 32)
    document = lab.gather()
    [item] = [item for item in document["images"] if item["name"] == "imported"]
    path = str(tmp_path / "gone.tar")
    assert item["source"] == {"type": "file", "path": path, "format": "tar", "architecture": "amd64"}
    assert lab.warnings == [] and changing(lab, document) == []


@pytest.mark.parametrize("make", [lambda path: path.write_text("new"), lambda path: path.mkdir()])
def test_source_file_that_has_changed_is_no_source(lab: Lab, tmp_path: Path, make: Any) -> None:
    make(tmp_path / "changed.tar")
    file_image(lab, tmp_path / "changed.tar", "ef" * 32)
    document = lab.gather()
    assert {"name": "imported"} in document["images"]
    assert changing(lab, document) == []
    [warning] = lab.warnings
    assert warning.startswith("image imported cannot be made anew")


def test_wiping_is_not_asked_for_again(lab: Lab) -> None:
    config = {"source": "/dev/sdz", "source.wipe": True}
    lab.pool("default", config, backing=Backing.BLOCK, size_bytes=None)
    document = lab.gather()
    assert document["storage_pools"][0] == {"name": "default", "driver": "btrfs", "config": {"source": "/dev/sdz"}}
    assert changing(lab, document) == []


def test_bridge_of_the_host_is_no_network_of_ours(lab: Lab) -> None:
    lab.instance("web1", devices={"eth0": {"type": "nic", "nictype": "bridged", "parent": "br0"}})
    assert named(lab.gather("web1"))["networks"] == ["tdbr0"]
    assert lab.warnings == []


def test_temporary_file_of_a_killed_run_is_no_profile(lab: Lab) -> None:
    (lab.paths.profiles / ".new-web.json").write_bytes(lab.paths.profile("web").read_bytes())
    assert named(lab.gather())["profiles"] == EVERYTHING["profiles"]
    assert lab.warnings == []


# --- What concerns the whole task.


@pytest.mark.parametrize("error", [WrongInterpreter("no lxc here"), PermissionError(13, "Permission denied", "/x")])
def test_wrong_python_and_missing_rights_are_nobodys_own(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_given: object) -> None:
        raise error

    monkeypatch.setattr(LxcDriver, "power", fail)
    with pytest.raises(type(error)):
        lab.gather()
