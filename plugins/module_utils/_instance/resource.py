# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""Instances for the Ansible edge: from parameters to what is wanted, from the host to what is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .._core.errors import EngineError, InvalidRequest, MissingDependency
from .._core.kinds import InstanceType, Power, State, Work
from .._core.names import is_fingerprint, is_interface, require_alias, require_name
from .._core.options import shorthand_arguments, take_shorthands
from .._core.plan import Plan
from .._core.resource import NO_PROSPECTS, Noun, Prospects
from .._host.paths import Paths
from .._spec.instance import INSTANCE
from .conditions import require_conditions
from .host import Host, find_bridges
from .model import Address, Current, Desired, InstanceDefinition, Profile, Record, Surroundings, require_devices
from .plan import DEFAULT_PROFILE, plan_instance, target_power, where
from .show import show_addresses, show_record
from .store import read_profiles, read_record

if TYPE_CHECKING:
    from .steps import InstanceHost


def build_instance(params: Mapping[str, Any], paths: Paths) -> InstanceResource:
    """The resource a task describes; InvalidRequest for what can be seen from the parameters alone."""
    name = require_name("instance", params["name"])
    place = where(name)
    config = take_shorthands(INSTANCE, params, params["config"] or {}, place)
    kind = InstanceType(params["type"]) if params["type"] else None
    require_devices(params["devices"] or {}, place, kind)
    desired = Desired(
        name=name,
        state=State(params["state"]),
        type=kind,
        image=_image(params["image"]),
        profiles=_profiles(params["profiles"]),
        description=params["description"],
        config=INSTANCE.parse(config, place, kind),
        replace_config=params["config_mode"] == "replace",
        devices=params["devices"] or {},
        replace_devices=params["devices_mode"] == "replace",
        recreate=params["recreate"],
        when_restart_needed=params["when_restart_needed"],
        stop_timeout_seconds=params["stop_timeout"],
        force_stop=params["force_stop"],
    )
    conditions = require_conditions(params["wait_for"] or (), place)
    if conditions and desired.state not in (State.STARTED, State.RESTARTED):
        raise InvalidRequest(f"{place}: wait_for needs state started or restarted, not {desired.state.value}")
    return InstanceResource(desired, Host(paths), conditions, params["wait_timeout"])


def _image(given: str | None) -> str | None:
    return given if given is None or is_fingerprint(given) else require_alias(given)


def _profiles(given: list[str] | None) -> tuple[str, ...] | None:
    return None if given is None else tuple(require_name("profile", name) for name in given)


class InstanceResource:
    """One desired instance; see _core/resource.py."""

    noun = "instance"

    def __init__(self, desired: Desired, host: Host, conditions: tuple[str, ...], wait_timeout_seconds: float) -> None:
        self.desired = desired
        self.name = desired.name
        self.host = host
        self._conditions = conditions
        self._wait_timeout_seconds = wait_timeout_seconds
        self._around = Surroundings()
        self._prospects = NO_PROSPECTS

    @property
    def waits(self) -> bool:
        return bool(self._conditions)

    def waits_in_turn(self, current: Current) -> bool:
        """Containers boot on the side; of virtual machines, emulated ones at that, a host bears few at once."""
        return self.waits and current.record is not None and not current.record.is_container

    def expect(self, prospects: Prospects) -> None:
        self._prospects = prospects

    def foretell(self, current: Current) -> None:
        return None

    def uses(self, current: Current) -> frozenset[tuple[str, str]]:
        if self.desired.state is State.ABSENT:
            return frozenset()
        plan = self.plan(current)
        record = self._recorded(plan, current)
        bridges = {nic.get("network") or nic.get("parent") for _unused, nic in record.nics()}
        if current.started_with is not None and _keeps_process(plan):
            # A running guest has its interfaces until it restarts.
            bridges |= _bridges_among(current.started_with["devices"].values())
        named = {"profile": record.profiles, "network": bridges, "storage_pool": record.pools()}
        return frozenset((noun, name) for noun, names in named.items() for name in names)

    def identity(self, current: Current) -> str:
        return current.record.uuid if current.record is not None else ""

    @property
    def locks(self) -> tuple[tuple[str, str, bool], ...]:
        """The host shared, against the removal of pools, images and networks we build on."""
        return ("host", "all", True), ("instance", self.name, False)

    def other_names(self, current: Current) -> tuple[str, ...]:
        return ()

    def prepare(self) -> None:
        self.host.load(self.desired.type or InstanceType.CONTAINER)

    def observe(self) -> Current:
        current = observe_instance(self.host, self.name)
        self._around = self._lay_prospects_over(self._observe_surroundings(current.record))
        return current

    def is_busy(self, current: Current) -> bool:
        return current.record is not None and current.record.work is not None

    def plan(self, current: Current) -> Plan[InstanceHost]:
        plan = plan_instance(self.desired, current, self._around)
        if not plan.steps:
            return plan
        from .steps import Allocate, WriteRecord

        written = [step.record for step in plan.steps if isinstance(step, (Allocate, WriteRecord))]
        known = current.record.expanded_devices if current.record is not None else {}
        changed = [record for record in written if record.expanded_devices != known]
        missing = [text for record in changed for text in self.host.missing_sources(record)]
        return replace(plan, obstacles=(*plan.obstacles, *missing))

    def plan_again(self, current: Current) -> Plan[InstanceHost]:
        settled = State.STARTED if self.desired.state is State.RESTARTED else self.desired.state
        return plan_instance(replace(self.desired, state=settled, recreate="never"), current, self._around)

    def plan_undo(self, current: Current) -> Plan[InstanceHost]:
        if current.record is None or current.record.work is not Work.CREATE:
            return Plan()
        from .steps import Remove

        return Plan((), (Remove(self.name, " after its creation failed"),))

    def wait(self, current: Current) -> Current:
        if not self._conditions or current.record is None:
            return current
        from .wait import wait_for

        wait_for(self.host, current.record, self._conditions, self._wait_timeout_seconds)
        return current

    def describe(self, current: Current) -> dict[str, Any]:
        return show_current(self.host, current)

    def predict(self, current: Current) -> dict[str, Any]:
        if self.desired.state is State.ABSENT:
            return {}
        plan = self.plan(current)
        if not plan.steps:
            return self.describe(current)
        from .steps import Allocate

        record = self._recorded(plan, current)
        power = Power.STOPPED if isinstance(plan.steps[0], Allocate) else current.power
        return {
            **show_record(record),
            "fingerprint": record.image or self._around.fingerprint or "",
            "status": target_power(self.desired.state, power).value,
            "pid": current.pid if _keeps_process(plan) else None,
            "addresses": [],
        }

    def _recorded(self, plan: Plan[InstanceHost], current: Current) -> Record:
        """The record once the plan has run, for an instance that will be there."""
        record = current.record
        if plan.steps:
            from .steps import Allocate, WriteRecord

            record = next(step.record for step in plan.steps if isinstance(step, (Allocate, WriteRecord)))
        if record is None:
            raise AssertionError("an instance without a record")
        return record

    def state(self, current: Current) -> str:
        return "absent" if current.record is None else current.power.value

    def _lay_prospects_over(self, around: Surroundings) -> Surroundings:
        """The surroundings with what the same run makes before this instance."""
        made = self._prospects
        if not made.made:
            return around
        images = made.objects("image").values()
        named = [fingerprint for names, fingerprint in images if self.desired.image in names]
        return replace(
            around,
            profiles={**around.profiles, **made.objects("profile")},
            fingerprint=named[0] if named else around.fingerprint,
            has_image=around.has_image or bool(named),
            pools=around.pools | made.names("storage_pool"),
            bridges=around.bridges | made.names("network"),
        )

    def _observe_surroundings(self, record: Record | None) -> Surroundings:
        desired = self.desired
        if desired.state is State.ABSENT:
            return Surroundings()
        if record is not None and record.work in (Work.CREATE, Work.DELETE):
            record = None
        listed = desired.profiles if desired.profiles is not None else record.profiles if record else (DEFAULT_PROFILE,)
        profiles = read_profiles(self.host.paths, listed)
        bridges = find_bridges(_bridge_names(desired, record, profiles.values()))
        if record is not None and record.is_whole and _asks_for_no_other(desired, record):
            return Surroundings(
                profiles,
                record.image,
                has_image=True,
                is_image_ready=True,
                mounts_disks=record.is_container or _mounts_disks(self.host, record),
                bridges=bridges,
            )
        image = desired.image or (record.image_name if record else None)
        return self.host.observe_surroundings(profiles, image, bridges)


def _asks_for_no_other(desired: Desired, record: Record) -> bool:
    """Whether the task is content with the image and the type that the instance has."""
    is_same = desired.image in (None, record.image_name) and desired.type in (None, record.type)
    return is_same and desired.recreate == "never"


def _bridge_names(desired: Desired, record: Record | None, profiles: Iterable[Profile]) -> set[str]:
    """Every bridge that the instance may be told to use, by whomever."""
    known = [record.expanded_devices] if record is not None else []
    devices = [device.options for some in (*known, *(one.devices for one in profiles)) for device in some.values()]
    given = [options for options in desired.devices.values() if isinstance(options, Mapping)]
    # What is no name is refused where devices are parsed, after this.
    return {name for name in _bridges_among((*devices, *given)) if is_interface(name)}


def _bridges_among(devices: Iterable[Mapping[str, Any]]) -> set[str]:
    named = (options.get(key) for options in devices for key in ("network", "parent"))
    return {name for name in named if isinstance(name, str)}


def _keeps_process(plan: Plan[InstanceHost]) -> bool:
    if not plan.steps:
        return True
    from .steps import Kill, Start, Stop

    return not any(isinstance(step, (Kill, Start, Stop)) for step in plan.steps)


def _mounts_disks(host: Host, record: Record) -> bool:
    from .._image.disk_files import mounts_disks  # a container has no use for it

    return mounts_disks(host.paths, record.image)


def observe_instance(host: Host, name: str) -> Current:
    """One instance as it is; a record under creation or deletion is not looked at any closer."""
    record = read_record(host.paths, name)
    if record is None or not record.is_whole:
        return Current(record=record)
    driver = host.driver(record)
    definition = host.definition(record)
    power = driver.power(definition)
    is_up = power is not Power.STOPPED
    return Current(
        record=record,
        power=power,
        pid=driver.pid(definition) if is_up else None,
        in_force=driver.in_force(definition) if is_up else {},
        started_with=driver.started_with(definition) if is_up else None,
        is_defined=_is_defined(host, definition),
        has_volume=is_up or host.has_volume(record),
    )


def _is_defined(host: Host, definition: InstanceDefinition) -> bool:
    """Whether native files and boot unit are current. A record that cannot be rendered is not, and can still be
    changed or removed."""
    driver = host.driver(definition.record)
    try:
        return driver.is_defined_current(definition) and host.supervisor.is_installed(driver.unit(definition))
    except (InvalidRequest, MissingDependency):
        return False


def show_current(host: Host, current: Current) -> dict[str, Any]:
    """A present instance with its power, pid and the addresses that can be had without asking the guest."""
    record = current.record
    if record is None:
        return {}
    addresses: tuple[Address, ...] = ()
    if current.power is Power.RUNNING:
        with suppress(EngineError):
            addresses = host.known_addresses(record)
    return {
        **show_record(record),
        "status": current.power.value,
        "pid": current.pid,
        "addresses": show_addresses(addresses),
    }


INSTANCE_NOUN = Noun(
    "instance",
    "instances",
    {
        **shorthand_arguments(INSTANCE),
        "name": {"type": "str", "required": True},
        "state": {
            "type": "str",
            "choices": ["present", "started", "stopped", "restarted", "frozen", "absent"],
            "default": "started",
        },
        "type": {"type": "str", "choices": ["container", "virtual-machine"]},
        "image": {"type": "str"},
        "profiles": {"type": "list", "elements": "str"},
        "description": {"type": "str"},
        "config": {"type": "dict"},
        "config_mode": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
        "devices": {"type": "dict"},
        "devices_mode": {"type": "str", "choices": ["merge", "replace"], "default": "merge"},
        "recreate": {"type": "str", "choices": ["never", "on-change", "always"], "default": "never"},
        "when_restart_needed": {"type": "str", "choices": ["report", "restart", "fail"], "default": "report"},
        "stop_timeout": {"type": "float", "default": 30.0},
        "force_stop": {"type": "bool", "default": False},
        "wait_for": {"type": "list", "elements": "str"},
        "wait_timeout": {"type": "float", "default": 120.0},
    },
    build_instance,
    INSTANCE,
)
