# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Plans of networks: every case is a file in cases/; and what holds for all of them, on an imagined host."""

from __future__ import annotations

import pathlib
import re
from dataclasses import replace
from typing import Any

import pytest
import yaml
from ansible_collections.tandem.machines.plugins.module_utils._core.errors import EngineError
from ansible_collections.tandem.machines.plugins.module_utils._network.bridge import Link
from ansible_collections.tandem.machines.plugins.module_utils._network.model import Desired
from ansible_collections.tandem.machines.plugins.module_utils._network.observed import Observed
from ansible_collections.tandem.machines.plugins.module_utils._network.plan import plan_network, plan_undo
from ansible_collections.tandem.machines.plugins.module_utils._network.subnets import Taken
from ansible_collections.tandem.machines.plugins.module_utils._spec.network import NETWORK_CONFIG
from ansible_collections.tandem.machines.tests.unit.network.imagined import NAME, ImaginedHost
from hypothesis import given, settings
from hypothesis import strategies as st

CASES = sorted((pathlib.Path(__file__).parent / "cases").glob("*.yml"))
FOREIGN_LINK = Link(True, "", "02:00:00:00:00:99", 1500, True, (), False)


def desired_of(given: dict[str, Any]) -> Desired:
    options = dict(given)
    if "config" in options:
        options["config"] = NETWORK_CONFIG.parse(options["config"], "network tdn0")
    return Desired(NAME, **options)


def host_of(given: dict[str, Any]) -> ImaginedHost:
    """A host with the recorded network as it was built, then damaged as the case says."""
    host = ImaginedHost()
    if given.get("recorded") is not None:
        recorded = dict(given["recorded"])
        work = recorded.pop("work", None)
        host.apply(desired_of(recorded))
        assert host.recorded is not None
        host.recorded = replace(host.recorded, intent=replace(host.recorded.intent, work=work))
    damage(host, given.get("damage", {}))
    host.taken = tuple(Taken(*entry) for entry in given.get("taken", ()))
    host.users = tuple(given.get("users", ()))
    return host


def damage(host: ImaginedHost, what: dict[str, Any]) -> None:
    for key, value in what.items():
        if key == "link" and value == "foreign":
            host.link = FOREIGN_LINK
        elif key == "link" and value is not None:
            assert host.link is not None
            host.link = replace(
                host.link, **{name: tuple(v) if isinstance(v, list) else v for name, v in value.items()}
            )
        elif key == "table" and value is not None:
            host.table = tuple(tuple(facts) for facts in value)
        elif key == "files":
            host.files.update(value)
        else:
            setattr(host, key, value)


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_case(path: pathlib.Path) -> None:
    case = yaml.safe_load(path.read_text())
    host = host_of(case.get("host") or {})
    desired = desired_of(case["desired"])
    current = replace(host.current(desired), **{key: tuple(value) for key, value in case.get("current", {}).items()})
    if "error" in case:
        with pytest.raises(EngineError) as caught:
            plan_network(desired, current)
        assert re.search(case["error"], str(caught.value)), str(caught.value)
        assert "\n" not in str(caught.value)
        return
    plan = plan_network(desired, current)
    assert [change.path for change in plan.changes] == case["changes"]
    assert [type(step).__name__ for step in plan.steps] == case["steps"]
    assert list(plan.warnings) == case.get("warnings", [])
    assert list(plan.obstacles) == case.get("obstacles", [])
    assert bool(plan.changes) == bool(plan.steps)


def test_a_leftover_directory_is_removed() -> None:
    host = ImaginedHost()
    desired = Desired(NAME, state="absent")
    current = replace(host.current(desired), observed=Observed(has_directory=True))
    assert [type(step).__name__ for step in plan_network(desired, current).steps] == ["RemoveFiles"]


def test_a_change_of_user_keys_is_only_recorded() -> None:
    host = ImaginedHost()
    host.apply(Desired(NAME))
    plan = host.plan(Desired(NAME, config={"user.a": "b"}))
    assert [type(step).__name__ for step in plan.steps] == ["Record"]


def test_only_an_unfinished_creation_is_taken_back() -> None:
    host = ImaginedHost()
    host.apply(Desired(NAME), steps=3)
    assert host.traces()
    for step in plan_undo(NAME, host.current(Desired(NAME))).steps:
        step.run(host)
    assert not host.traces()
    host.apply(Desired(NAME))
    assert not plan_undo(NAME, host.current(Desired(NAME))).steps
    host.apply(Desired(NAME, config={"bridge.mtu": 9000}), steps=2)
    assert not plan_undo(NAME, host.current(Desired(NAME))).steps


# --- What holds for all plans ---

CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "bridge.mtu": st.sampled_from([1400, 9000, None]),
        "bridge.hwaddr": st.sampled_from(["02:00:00:00:00:07", None]),
        "dns.mode": st.sampled_from(["none", "dynamic"]),
        "ipv4.address": st.sampled_from(["auto", "none", "10.93.0.1/24", "10.93.1.1/24", None]),
        "ipv4.dhcp": st.booleans(),
        "ipv4.firewall": st.booleans(),
        "ipv4.nat": st.booleans(),
        "ipv4.routing": st.booleans(),
        "user.note": st.sampled_from(["x", "y"]),
    },
)
WISHES = st.builds(
    Desired,
    name=st.just(NAME),
    state=st.sampled_from(["present", "present", "present", "absent"]),
    description=st.sampled_from([None, "", "text"]),
    config=st.none() | CONFIGS,
    replace=st.booleans(),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(WISHES, st.none() | st.integers(0, 8)), min_size=1, max_size=6), WISHES)
def test_whatever_was_interrupted_the_next_run_ends_where_it_should(
    history: list[tuple[Desired, int | None]], last: Desired
) -> None:
    host = ImaginedHost()
    for wish, steps in history:
        host.apply(wish, steps)
    host.apply(last)
    again = host.plan(last)
    assert not again.changes and not again.steps
    if last.state == "absent":
        assert not host.traces()
    else:
        assert host.served == host.files.get("dnsmasq.conf")
        host.apply(Desired(NAME, state="absent"))
        assert not host.traces()


@settings(max_examples=200, deadline=None)
@given(WISHES.filter(lambda wish: wish.state == "present"), st.sets(st.integers(0, 6)))
def test_damage_by_hand_is_seen_and_mended(wish: Desired, kinds: set[int]) -> None:
    host = ImaginedHost()
    host.apply(wish)
    whole = replace(host, files=dict(host.files))
    assert host.link is not None
    for kind in sorted(kinds):
        if kind == 0:
            host.link = None
        elif kind == 1 and host.link is not None:
            host.link = replace(host.link, addresses=("10.1.1.1/32",), mtu=1280)
        elif kind == 2:
            host.table = None if host.table else (("forward", "a rule of somebody"),)
        elif kind == 3:
            host.served = None
        elif kind == 4:
            host.files.pop("link.batch", None)
        elif kind == 5:
            host.is_forwarding = False
        elif kind == 6:
            host.files["dnsmasq.conf"] = "nonsense"
    quiet = Desired(NAME)
    differs = host != whole
    assert bool(host.plan(quiet).changes) == differs
    host.apply(quiet)
    assert host == whole


@given(WISHES)
def test_planning_touches_nothing(wish: Desired) -> None:
    host = ImaginedHost()
    host.apply(Desired(NAME))
    before = replace(host, files=dict(host.files))
    assert host.plan(wish) == host.plan(wish)
    assert host == before
