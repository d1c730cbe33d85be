# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Stacks without a host: documents, order, text, membership."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.module_utils.testing import patch_module_args
from ansible_collections.tandem.machines.plugins.action.stack import LISTS, hide_results, merge_document
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import (
    Conflict,
    InvalidRequest,
    MissingDependency,
    TimedOut,
    WrongInterpreter,
)
from ansible_collections.tandem.machines.plugins.module_utils._core.kinds import InstanceType
from ansible_collections.tandem.machines.plugins.module_utils._core.resource import Prospects
from ansible_collections.tandem.machines.plugins.module_utils._host import paths as host_paths
from ansible_collections.tandem.machines.plugins.module_utils._host.files import ensure_directory, write_json
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._image import model as images
from ansible_collections.tandem.machines.plugins.module_utils._image.catalog import ImageCatalog
from ansible_collections.tandem.machines.plugins.module_utils._instance import store
from ansible_collections.tandem.machines.plugins.module_utils._instance.model import Device, Profile, Record
from ansible_collections.tandem.machines.plugins.module_utils._instance.profiles import CurrentProfile, ProfileResource
from ansible_collections.tandem.machines.plugins.module_utils._instance.resource import InstanceResource
from ansible_collections.tandem.machines.plugins.module_utils._stack.converge import Wish, converge_stack
from ansible_collections.tandem.machines.plugins.module_utils._stack.document import build_entries, secrets_of
from ansible_collections.tandem.machines.plugins.module_utils._stack.members import (
    kept_members,
    other_stacks,
    read_members,
    write_members,
)
from ansible_collections.tandem.machines.plugins.module_utils._stack.model import Result, in_order, summarize
from ansible_collections.tandem.machines.plugins.module_utils._stack.nouns import KINDS, TOP_LEVEL
from ansible_collections.tandem.machines.plugins.module_utils._stack.text import plan_lines
from ansible_collections.tandem.machines.plugins.module_utils._storage import layout
from ansible_collections.tandem.machines.plugins.module_utils._storage.record import Backing, Recorded
from ansible_collections.tandem.machines.plugins.modules import stack

NIC_AND_DISK = {
    "root": {"type": "disk", "path": "/", "pool": "default"},
    "eth0": {"type": "nic", "network": "tdbr1"},
}
MIXED: dict[str, Any] = {
    "instances": [{"name": "old", "state": "absent"}, {"name": "web1", "image": "debian/12", "profiles": ["web"]}],
    "profiles": [{"name": "web", "devices": NIC_AND_DISK}, {"name": "gone", "state": "absent"}],
    "images": [{"name": "debian/12", "source": {"type": "build", "distribution": "debian", "release": "bookworm"}}],
    "networks": [{"name": "tdbr1", "config": {"ipv4.address": "10.99.1.1/24"}}, {"name": "tdbr9", "state": "absent"}],
    "storage_pools": [{"name": "default", "driver": "dir"}],
}


UUID = "12345678-0000-4000-8000-000000000000"


def add_image(paths: Paths, fingerprint: str, *aliases: str) -> None:
    source = images.parse_source({"type": "build", "distribution": "debian", "release": "bookworm"}, "image", "amd64")
    facts = {"os": "Debian", "release": "bookworm", "architecture": "amd64", "created": "2026-01-01T00:00:00Z"}
    image = images.Image(fingerprint, source=source, has_root=True, has_disk=False, has_kernel=True, **facts)
    ensure_directory(paths.image(fingerprint))
    write_json(paths.image(fingerprint) / "image.json", images.render_record(image))
    ensure_directory(paths.aliases)
    for alias in aliases:
        (paths.aliases / alias.replace("/", "+")).symlink_to(f"../{fingerprint}")


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    monkeypatch.setattr(host_paths, "RUN_ROOT", str(tmp_path / "run"))
    return Paths(tmp_path / "root")


def refusal(document: dict[str, Any], paths: Paths) -> str:
    with pytest.raises(InvalidRequest) as caught:
        build_entries(document, paths)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_order_removes_users_first_and_what_they_used_last(paths: Paths) -> None:
    turns = [sorted(map(str, turn)) for turn in in_order(build_entries(MIXED, paths), TOP_LEVEL)]
    assert turns == [
        ["instance old"],
        ["image debian/12", "network tdbr1", "storage_pool default"],
        ["profile web"],
        ["instance web1"],
        ["profile gone"],
        ["network tdbr9"],
    ]


def test_what_else_is_removed_goes_last_without_instances_too(paths: Paths) -> None:
    document = {kind: MIXED[kind] for kind in ("profiles", "networks")}
    turns = [sorted(map(str, turn)) for turn in in_order(build_entries(document, paths), TOP_LEVEL)]
    assert turns == [["network tdbr1"], ["profile web"], ["profile gone"], ["network tdbr9"]]


@pytest.mark.parametrize("error", [WrongInterpreter, MissingDependency])
def test_another_interpreter_begins_before_anything_is_changed(
    error: type[Exception], paths: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    def prepare(resource: InstanceResource) -> None:
        raise error("no lxc")

    monkeypatch.setattr(InstanceResource, "prepare", prepare)
    document = {"profiles": [{"name": "web"}], "instances": [{"name": "web1", "image": "debian/12"}]}
    one, entries = wish(name="shop", predicts=False), build_entries(document, paths)
    if error is WrongInterpreter:
        with pytest.raises(WrongInterpreter):
            converge_stack(one, entries, paths)
        assert read_members(paths, "shop") == {}
    else:
        assert [result.failed for result in converge_stack(one, entries, paths)] == [False, True]
    assert (paths.profiles / "web.json").exists() == (error is not WrongInterpreter)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"images": [{"name": "a", "aliases": ["b"]}, {"name": "b"}]}, "image b is listed twice"),
        ({"images": [{"name": "a", "aliases": ["c", "a"]}, {"name": "b", "aliases": ["c"]}]}, "image c is listed"),
        ({"images": [{"name": "a", "aliases": ["b"]}, {"name": "b", "state": "absent"}]}, "image b is listed twice"),
        ({"instances": [{"name": "a", "imge": "x"}]}, "instances[0] (a): unknown option 'imge'; did you mean image?"),
        ({"instances": [{"image": "x"}]}, "instances[0]: missing required arguments: name"),
        ({"instances": ["web1"]}, "instances[0]: give a mapping of options, not 'web1'"),
        ({"networks": {"name": "x"}}, "networks: give a list of objects, not {'name': 'x'}"),
        ({"instances": [{"name": "a"}, {"name": "a"}]}, "instance a is listed twice: give each object once"),
        ({"profiles": [{"name": "a", "root": "/x"}]}, "profiles[0] (a): unknown option 'root'"),
        ({"profiles": [{"name": "a", "devices": {"x": {"type": "bogus"}}}]}, "profile a: device x: type 'bogus'"),
        ({"profiles": [{"name": "a", "devices": {"x": {"type": "nic", "networ": "b"}}}]}, "did you mean network?"),
        ({"instances": [{"name": "a", "devices": {"x": 5}}]}, "instance a: device x must be a mapping of options"),
        ({"instances": [{"name": "a", "devices": {"../x": {}}}]}, "device name '../x' is not valid"),
        ({"instances": [{"name": "a", "stop_timeout": -1}]}, "instances[0] (a): stop_timeout -1.0 is not a time"),
        ({"instances": [{"name": "a", "wait_timeout": "nan"}]}, "instances[0] (a): wait_timeout nan is not a time"),
        ({"instances": [{"name": "a", "state": "up"}]}, "value of state must be one of"),
        ({"instances": [{"name": "a", "config": {"limits.memroy": 1}}]}, "did you mean limits.memory?"),
    ],
)
def test_wrong_document_is_refused_in_one_line(document: dict[str, Any], message: str, paths: Paths) -> None:
    assert message in refusal(document, paths)


def test_secrets_are_found_in_unchecked_items() -> None:
    document = {"instances": [{"config": {"cloud-init.user-data": "hunter2"}}, "nonsense"], "profiles": None}
    assert secrets_of(document) == {"hunter2"}
    # Values of the wrong type are refused later; until then they are shown as they were given.
    texts = ['{"cloud-init.user-data": "hunter2"}', "cloud-init.user-data=hunter2"]
    parts = [{"cloud-init.user-data": {"users": [{"password": "hunter2"}]}}, {"cloud-init.user-data": ["hunter2"]}]
    for config in (*texts, *parts):
        assert secrets_of({"instances": [{"config": config}], "networks": 5, "profiles": "text"}) == {"hunter2"}


def test_secret_is_not_shown_when_another_argument_is_wrong(capsys: pytest.CaptureFixture[str], paths: Paths) -> None:
    item = {"name": "web", "config": {"cloud-init.user-data": "hunter2"}}
    wrong: tuple[dict[str, Any], ...] = ({"parallel": "many"}, {"bogus": 1}, {"networks": 5}, {"prune": ["all"]})
    for arguments in wrong:
        with patch_module_args({"root": str(paths.root), "profiles": [item], **arguments}), pytest.raises(SystemExit):
            stack.main()
        shown = capsys.readouterr().out
        assert '"failed": true' in shown and "hunter2" not in shown


def test_kinds_are_what_their_nouns_say_and_known_beside_ansible() -> None:
    assert [(kind.name, kind.plural) for kind in KINDS] == [(kind.load().name, kind.load().plural) for kind in KINDS]
    assert tuple(kind.plural for kind in KINDS) == LISTS


def wish(**options: Any) -> Wish:
    defaults = {"name": None, "prune": frozenset(), "parallel": 2, "stops_on_error": False}
    return Wish(**{**defaults, "lock_timeout_seconds": 5, "predicts": True, **options})


PROFILES = {"profiles": [{"name": "web", "config": {"limits.memory": "1GiB"}}, {"name": "db", "description": "data"}]}


def test_profiles_converge_and_then_nothing_is_left_to_do(paths: Paths) -> None:
    def run(**options: Any) -> list[Result]:
        return converge_stack(wish(**options), build_entries(PROFILES, paths), paths)

    predicted, applied, again = run(), run(predicts=False), run(predicts=False)
    assert [result.changed for result in predicted] == [True, True]
    assert [result.show() for result in applied] == [result.show() for result in predicted]
    assert [result.changed for result in again] == [False, False]
    assert not any(result.failed for result in (*predicted, *applied, *again))


def test_check_mode_knows_what_the_same_run_makes(paths: Paths) -> None:
    entries = build_entries({**MIXED, "storage_pools": [], "networks": [], "images": []}, paths)
    [web1] = [result for result in converge_stack(wish(), entries, paths) if result.name == "web1"]
    # The pool, the network and the image are missing, but not the profile that the same run makes.
    assert web1.changed and len(web1.warnings) == 3
    assert not any("profile" in warning for warning in web1.warnings)


def test_pruned_is_what_the_stack_made_and_nobody_else_lists(paths: Paths) -> None:
    def run(name: str, *profiles: str, predicts: bool = False) -> list[Result]:
        document = {"profiles": [{"name": profile} for profile in profiles]}
        prune = frozenset({"profile"})
        return converge_stack(wish(name=name, prune=prune, predicts=predicts), build_entries(document, paths), paths)

    run("shop", "a", "b")
    converge_stack(wish(predicts=False), build_entries({"profiles": [{"name": "mine"}]}, paths), paths)
    predicted, applied = run("shop", "a", predicts=True), run("shop", "a")
    assert [plan_lines(results) for results in (predicted, applied)] == [["- remove profile b"]] * 2
    assert sorted(path.stem for path in paths.profiles.iterdir()) == ["a", "mine"]
    run("other", "a")
    assert other_stacks(paths, "shop", ("profile", "a")) == ["other"]
    [spared] = run("shop")
    assert not spared.changed and spared.warnings == ("profile a is left alone: it belongs to stack other, too",)
    assert run("shop") == [] and (paths.profiles / "a.json").exists()
    assert plan_lines(run("other")) == ["- remove profile a"]


def test_what_a_stack_failed_to_manage_is_not_its_own_to_prune(paths: Paths) -> None:
    # Somebody's instance, under a name that the stack lists for another kind of instance.
    record = Record("web1", UUID, InstanceType.CONTAINER, "ab" * 32, "debian/12", "default")
    store.write_record(paths, record)
    document = {
        "profiles": [{"name": "a"}, {"name": "bad", "devices": {"eth0": {"type": "nic"}}}],
        "instances": [{"name": "web1", "type": "virtual-machine", "state": "present"}, {"name": "web2"}],
    }
    options: dict[str, Any] = {"name": "shop", "predicts": False, "prune": frozenset({"instance", "profile"})}
    results = converge_stack(wish(**options), build_entries(document, paths), paths)
    assert [result.name for result in results if result.failed] == ["bad", "web1", "web2"]
    assert read_members(paths, "shop") == {("profile", "a"): ""}
    assert plan_lines(converge_stack(wish(**options), [], paths)) == ["- remove profile a"]
    assert store.read_record(paths, "web1") == record


def test_an_object_that_only_its_wait_fails_belongs_to_the_stack(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def time_out(resource: ProfileResource, current: CurrentProfile) -> CurrentProfile:
        raise TimedOut("too slow")

    monkeypatch.setattr(ProfileResource, "waits", True)
    monkeypatch.setattr(ProfileResource, "wait", time_out)
    entries = build_entries({"profiles": [{"name": "a"}]}, paths)
    [result] = converge_stack(wish(name="shop", predicts=False), entries, paths)
    assert result.failed and result.changed
    assert read_members(paths, "shop") == {("profile", "a"): ""}


def test_an_image_is_not_pruned_by_another_of_its_names(paths: Paths) -> None:
    add_image(paths, "ab" * 32, "debian/12", "debian")
    options: dict[str, Any] = {"name": "shop", "prune": frozenset({"image"})}

    def run(name: str, *images: str, predicts: bool = False) -> list[Result]:
        document = {"images": [{"name": image} for image in images]}
        return converge_stack(
            wish(**{**options, "name": name, "predicts": predicts}), build_entries(document, paths), paths
        )

    run("shop", "debian/12")
    renamed = [run("shop", "debian", predicts=True), run("shop", "debian")]
    for results in renamed:
        assert not any(result.changed or result.failed for result in results)
        assert results[1].warnings == ("image debian/12 is left alone: it is image debian, too",)
    run("other", "debian/12")
    assert run("shop")[0].warnings == ("image debian is left alone: it belongs to stack other, too",)
    assert ImageCatalog(paths).names() == ["debian"]


def test_damaged_record_of_another_stack_keeps_nothing_else_from_its_turn(paths: Paths) -> None:
    options: dict[str, Any] = {"name": "shop", "prune": frozenset({"profile"}), "predicts": False}
    converge_stack(wish(**options), build_entries({"profiles": [{"name": "old"}]}, paths), paths)
    (paths.stacks / "other.json").write_text("{")
    results = converge_stack(wish(**options), build_entries({"profiles": [{"name": "new"}]}, paths), paths)
    by_name = {result.name: result for result in results}
    assert by_name["new"].changed
    assert by_name["old"].failed and "other.json is damaged" in by_name["old"].msg
    assert set(read_members(paths, "shop")) == {("profile", "new"), ("profile", "old")}


def test_stop_on_error_begins_nothing_more(paths: Paths) -> None:
    document = {"profiles": [{"name": "a"}], "instances": [{"name": "web1", "image": "debian/12"}, {"name": "web2"}]}
    options = {"stops_on_error": True, "predicts": False, "parallel": 1}
    results = converge_stack(wish(**options), build_entries(document, paths), paths)
    by_name = {result.name: result for result in results}
    assert by_name["a"].changed
    assert by_name["web2"].failed and "give image to create it" in by_name["web2"].msg
    assert by_name["web1"].msg == "not begun: another object failed, and on_error is stop"


def test_pools_with_one_source_are_made_one_after_the_other(paths: Paths, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    sources = {"a": "data", "b": "link", "c": "other"}
    pools = [
        {"name": name, "driver": "dir", "config": {"source": str(tmp_path / source)}}
        for name, source in sources.items()
    ]
    a, b, c = (set(entry.resource.locks) for entry in build_entries({"storage_pools": pools}, paths))
    assert [name.startswith(".source-") for kind, name, _unused in a & b if kind == "pool"] == [True]
    assert not [lock for lock in a & c if lock[0] == "pool"]


def test_members_survive_and_a_stack_without_any_is_forgotten(paths: Paths) -> None:
    write_members(paths, "shop", {("instance", "a"): "1", ("network", "b"): ""})
    assert read_members(paths, "shop") == {("instance", "a"): "1", ("network", "b"): ""}
    write_members(paths, "shop", {})
    assert read_members(paths, "shop") == {}
    assert not paths.stacks.exists()


def test_damaged_record_of_a_stack_is_named(paths: Paths) -> None:
    write_members(paths, "shop", {("instance", "a"): "1"})
    (paths.stacks / "shop.json").write_text('{"schema": 1, "members": [{"kind": "instance"}]}')
    with pytest.raises(Conflict, match="record of stack shop is damaged"):
        read_members(paths, "shop")


def test_kept_members_know_the_identity_once_it_is_known() -> None:
    before = {("instance", "a"): "1", ("instance", "b"): "2", ("instance", "c"): "3"}
    applied = {("instance", "a"): "", ("instance", "d"): "4"}
    assert kept_members(before, applied, [("instance", "b")]) == {
        ("instance", "a"): "1",
        ("instance", "c"): "3",
        ("instance", "d"): "4",
    }


def test_prospects_know_who_will_use_what() -> None:
    uses = {"instance a": frozenset({("network", "m")}), "instance b": frozenset({("network", "n")})}
    prospects = Prospects({("network", "n"): None}, {**uses, "instance gone": frozenset()})
    users = ("instance a", "instance gone", "instance other")
    assert prospects.holding("network", "n", users) == ("instance other", "instance b")
    assert prospects.remaining(users) == ("instance a", "instance other")
    assert prospects.names("network") == {"n"} and prospects.objects("profile") == {}


def add_instance(paths: Paths, name: str, *profiles: str) -> None:
    root = {"root": Device("disk", {"path": "/", "pool": "default"})}
    record = Record(name, UUID, InstanceType.CONTAINER, "ab" * 32, "debian/12", "default", profiles, devices=root)
    layout.write_record(paths, Recorded("default", UUID, driver="btrfs", backing=Backing.LOOP, size_bytes=5 * 1024**3))
    volatile = {"idmap.base": "1000000", "last_state.power": "stopped"}
    store.write_record(paths, replace(record, expanded_devices=root, volatile=volatile))


def test_check_mode_knows_who_still_uses_what_the_same_run_removes(paths: Paths) -> None:
    for name in ("a", "b", "c", "d"):
        store.write_profile(paths, Profile(name))
    add_image(paths, "ab" * 32, "debian/12")
    add_instance(paths, "changed", "a")
    add_instance(paths, "moved", "b")
    instances = [
        {"name": "changed", "description": "changed, but not its profiles", "state": "present"},
        {"name": "moved", "profiles": ["d"], "state": "present"},
        {"name": "new", "profiles": ["c"], "image": "debian/12", "devices": NIC_AND_DISK, "state": "present"},
    ]
    gone = [{"name": name, "state": "absent"} for name in ("a", "b", "c")]
    results = converge_stack(wish(), build_entries({"profiles": gone, "instances": instances}, paths), paths)
    assert {result.name: result.warnings for result in results if result.kind == "profile"} == {
        "a": ("profile a is used by instance changed: remove it there first",),
        "b": (),
        "c": ("profile c is used by instance new: remove it there first",),
    }


def test_check_mode_knows_the_names_that_an_image_gets_in_the_same_run(paths: Paths) -> None:
    add_image(paths, "ab" * 32, "debian/12")
    add_instance(paths, "web1")
    document = {
        "images": [{"name": "debian/12", "aliases": ["debian"]}],
        "instances": [{"name": "web1", "image": "debian", "state": "present", "recreate": "on-change"}],
    }
    [image, web1] = converge_stack(wish(), build_entries(document, paths), paths)
    assert image.changed and not web1.failed
    assert not any("create" in action for action in web1.actions)


def change(before: dict[str, Any], after: dict[str, Any], **more: Any) -> Result:
    return Result("instance", "web1", changed=True, diff={"before": before, "after": after}, **more)


def test_plan_reads_like_a_plan() -> None:
    results = [
        change({"state": "absent"}, {"state": "running", "image": "debian/12"}),
        change({"state": "running"}, {"state": "absent"}),
        change({"recreated": False, "state": "absent"}, {"recreated": True, "state": "running"}),
        change(
            {"config": {"limits.memory": "1GiB"}, "profiles": ["a"]},
            {"config": {"limits.memory": "2GiB", "user.x": "y" * 80}, "profiles": ["a", "b"]},
            pending=("security.nesting",),
        ),
        Result("network", "n1"),
        Result("network", "n2", failed=True, msg="network n2: in use"),
    ]
    assert plan_lines(results) == [
        "+ create instance web1",
        "- remove instance web1",
        "- remove instance web1",
        "+ create instance web1",
        "~ change instance web1",
        "    config: limits.memory: 1GiB -> 2GiB",
        f"    config: user.x: nothing -> {'y' * 57}...",
        '    profiles: ["a"] -> ["a", "b"]',
        "! restart needed by instance web1: security.nesting",
        "x failed network n2: network n2: in use",
    ]


def test_a_line_of_the_plan_is_one_line() -> None:
    lines = plan_lines([change({}, {"description": "a\n- remove instance db1\x1b[2K"})])
    assert lines == ["~ change instance web1", r'    description: nothing -> "a\n- remove instance db1\u001b[2K"']


def test_summary_names_the_failed_and_how_many_more() -> None:
    failed = [Result("instance", f"web{number}", failed=True, msg="no image") for number in range(7)]
    text = summarize(failed, 20)
    assert text.startswith("7 of 20 objects failed: instance web0: no image; ") and text.endswith(
        "and 2 more, see results"
    )


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (["x"], "src s.yml does not hold a mapping"),
        ({"instance": []}, "src s.yml: unknown key 'instance'"),
        ({"networks": []}, "networks is given both in the task and in src s.yml"),
    ],
)
def test_wrong_src_is_refused(document: object, message: str) -> None:
    with pytest.raises(AnsibleActionFail, match=message):
        merge_document({"networks": [], "name": "shop"}, document, "s.yml")


def test_no_log_hides_each_result_since_ansible_takes_them_for_a_loop() -> None:
    result = {"changed": True, "results": [{"name": "a"}]}
    assert hide_results(result)["results"] == [{"name": "a", "_ansible_no_log": True}]
    assert hide_results({"failed": True}) == {"failed": True}


def test_src_and_task_are_one_document() -> None:
    merged = merge_document({"name": "shop", "networks": None}, {"networks": [], "instances": []}, "s.yml")
    assert merged == {"name": "shop", "networks": [], "instances": []}
