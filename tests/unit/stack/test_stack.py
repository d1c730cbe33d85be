# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Stacks without a host: documents, order, text, membership."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.tandem.machines.plugins.action.stack import LISTS, merge_document
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import Conflict, InvalidRequest
from ansible_collections.tandem.machines.plugins.module_utils._core.resource import Prospects
from ansible_collections.tandem.machines.plugins.module_utils._host import paths as host_paths
from ansible_collections.tandem.machines.plugins.module_utils._host.paths import Paths
from ansible_collections.tandem.machines.plugins.module_utils._stack.converge import Wish, converge_stack
from ansible_collections.tandem.machines.plugins.module_utils._stack.document import build_entries, secrets_of
from ansible_collections.tandem.machines.plugins.module_utils._stack.members import (
    kept_members,
    other_stacks,
    read_members,
    write_members,
)
from ansible_collections.tandem.machines.plugins.module_utils._stack.model import Result, in_order, summarize
from ansible_collections.tandem.machines.plugins.module_utils._stack.nouns import KINDS
from ansible_collections.tandem.machines.plugins.module_utils._stack.text import plan_lines

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
    turns = [sorted(map(str, turn)) for turn in in_order(build_entries(MIXED, paths))]
    assert turns == [
        ["instance old"],
        ["image debian/12", "network tdbr1", "storage_pool default"],
        ["profile web"],
        ["instance web1"],
        ["profile gone"],
        ["network tdbr9"],
    ]


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"instances": [{"name": "a", "imge": "x"}]}, "instances[0] (a): unknown option 'imge'; did you mean image?"),
        ({"instances": [{"image": "x"}]}, "instances[0]: missing required arguments: name"),
        ({"instances": ["web1"]}, "instances[0]: give a mapping of options, not 'web1'"),
        ({"networks": {"name": "x"}}, "networks: give a list of objects, not {'name': 'x'}"),
        ({"instances": [{"name": "a"}, {"name": "a"}]}, "instance a is listed twice: give each object once"),
        ({"profiles": [{"name": "a", "root": "/x"}]}, "profiles[0] (a): unknown option 'root'"),
        ({"instances": [{"name": "a", "state": "up"}]}, "value of state must be one of"),
        ({"instances": [{"name": "a", "config": {"limits.memroy": 1}}]}, "did you mean limits.memory?"),
    ],
)
def test_wrong_document_is_refused_in_one_line(document: dict[str, Any], message: str, paths: Paths) -> None:
    assert message in refusal(document, paths)


def test_secrets_are_found_in_unchecked_items() -> None:
    document = {"instances": [{"config": {"cloud-init.user-data": "hunter2"}}, "nonsense"], "profiles": None}
    assert secrets_of(document) == {"hunter2"}


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


def test_stop_on_error_begins_nothing_more(paths: Paths) -> None:
    document = {"profiles": [{"name": "a"}], "instances": [{"name": "web1", "image": "debian/12"}, {"name": "web2"}]}
    options = {"stops_on_error": True, "predicts": False, "parallel": 1}
    results = converge_stack(wish(**options), build_entries(document, paths), paths)
    by_name = {result.name: result for result in results}
    assert by_name["a"].changed
    assert by_name["web2"].failed and "give image to create it" in by_name["web2"].msg
    assert by_name["web1"].msg == "not begun: another object failed, and on_error is stop"


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


def test_prospects_free_what_is_moved() -> None:
    prospects = Prospects({("network", "n"): None}, frozenset({"instance a"}))
    assert prospects.holding(("instance a", "instance b")) == ("instance b",)
    assert prospects.names("network") == {"n"} and prospects.objects("profile") == {}


def change(before: dict[str, Any], after: dict[str, Any], **more: Any) -> Result:
    return Result("instance", "web1", changed=True, diff={"before": before, "after": after}, **more)


def test_plan_reads_like_a_plan() -> None:
    results = [
        change({"state": "absent"}, {"state": "running", "image": "debian/12"}),
        change({"state": "running"}, {"state": "absent"}),
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
        "~ change instance web1",
        "    config: limits.memory: 1GiB -> 2GiB",
        f"    config: user.x: nothing -> {'y' * 57}...",
        '    profiles: ["a"] -> ["a", "b"]',
        "! restart needed by instance web1: security.nesting",
        "x failed network n2: network n2: in use",
    ]


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


def test_src_and_task_are_one_document() -> None:
    merged = merge_document({"name": "shop", "networks": None}, {"networks": [], "instances": []}, "s.yml")
    assert merged == {"name": "shop", "networks": [], "instances": []}
