# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""What the kernel and the disk show of this machine, read only, to be compared before and after a test.

Whatever differs afterwards was leaked by the collection, or was somebody else's and taken away.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

STATE_DIRECTORIES = "/var/lib/tandem*"
RUN_DIRECTORIES = "/run/tandem*"
SYSTEM_FILES = ("/etc/systemd/system/tandem-*", "/etc/systemd/system/*.wants/tandem-*", "/etc/sysctl.d/*tandem*")
# Where others work too: only names that our programs and ours alone use.
SHARED_DIRECTORIES = ("/tmp", "/var/tmp", "/dev/shm")
OUR_NAMES = re.compile(r"\.?(ansible[_-]tmp|mmdebstrap\.|qemu|lxc|tandem)")
OUR_PROGRAMS = {"dnsmasq", "lxc-start", "mmdebstrap", "qemu-img", "qemu-nbd", "tar", "unsquashfs", "virtiofsd"}

Areas = Mapping[str, frozenset[str]]


@dataclass(frozen=True)
class Leak:
    """One line that is there only before ('-', taken away) or only after ('+', left behind)."""

    sign: str
    area: str
    line: str

    def __str__(self) -> str:
        return f"{self.sign} {self.area}: {self.line}"


def observe() -> Areas:
    """Every area of the machine as a set of lines that are equal if nothing happened."""
    return {area: frozenset(look()) for area, look in AREAS.items()}


def compare(before: Areas, after: Areas) -> list[Leak]:
    """Lines that are there on one side only; where others use the machine too, those that match $TANDEM_LEAKS."""
    wanted = re.compile(os.environ.get("TANDEM_LEAKS", ""))
    leaks = []
    for area in AREAS:
        leaks += [Leak("-", area, line) for line in sorted(before[area] - after[area]) if wanted.search(line)]
        leaks += [Leak("+", area, line) for line in sorted(after[area] - before[area]) if wanted.search(line)]
    return leaks


def mounts() -> Iterator[str]:
    """Our namespace wholly; of others what is in our directories and not a copy of a mount of our namespace."""
    here = set(_mounts_of("self"))
    yield from (f"{mount} here" for mount in here)
    for pid in _namespaces("mnt"):
        yield from (
            f"{mount} in another namespace" for mount in _mounts_of(pid) if "tandem" in mount and mount not in here
        )


def _mounts_of(pid: int | str) -> Iterator[str]:
    for line in _lines(Path(f"/proc/{pid}/mountinfo")):
        place, _unused, source = line.partition(" - ")
        root, target = place.split()[3:5]
        yield f"{target} from {' '.join(source.split()[:2])} {root}"


def loop_devices() -> Iterator[str]:
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        yield f"{path.parts[3]} {' '.join(_lines(path))}"


def links() -> Iterator[str]:
    kept = ("ifname", "link_type", "address", "master", "mtu", "altnames", "ifalias")
    for link in _json("ip", "-j", "-d", "link"):
        # More about a bridge follows its ports and the clock.
        kind = link.get("linkinfo", {}).get("info_kind", "")
        yield f"{kind} " + json.dumps({key: link[key] for key in kept if key in link}, sort_keys=True)


def addresses() -> Iterator[str]:
    for link in _json("ip", "-j", "addr"):
        for address in link.get("addr_info", ()):
            # The kernel makes link-local ones when a carrier appears.
            if address.get("scope") != "link":
                yield f"{link['ifname']} {address.get('local')}/{address.get('prefixlen')}"


def routes() -> Iterator[str]:
    for family in ("-4", "-6"):
        for kind in (("route", "show", "table", "all"), ("rule",)):
            for entry in _json("ip", "-j", family, *kind):
                # Flags follow the carrier of a link, as do routes to its link-local addresses.
                if not str(entry.get("dst", "")).startswith(("fe80:", "ff00:")):
                    yield json.dumps({key: entry[key] for key in entry if key != "flags"}, sort_keys=True)


def traffic_control() -> Iterator[str]:
    for qdisc in _json("tc", "-j", "qdisc"):
        yield f"{qdisc.get('dev')} {qdisc.get('kind')} {qdisc.get('handle')} {qdisc.get('parent', 'root')}"


def network_namespaces() -> Iterator[str]:
    return (f"named {path.name}" for path in Path("/run/netns").glob("*"))


def firewall() -> Iterator[str]:
    for item in _json("nft", "-j", "list", "ruleset", key="nftables"):
        if "metainfo" not in item:
            yield json.dumps(_without_counters(item), sort_keys=True)


def processes() -> Iterator[str]:
    """Those that name our directories or are programs we start, and zombies that one of them does not reap."""
    found = {pid: _process(pid) for pid in _pids()}
    for pid, (name, command, parent, is_zombie, is_ours) in found.items():
        of_ours = parent == os.getpid() or (parent in found and found[parent].is_ours)
        if of_ours if is_zombie else is_ours:
            yield f"{pid} {name} {'zombie' if is_zombie else command[:200]}"


class _Process(NamedTuple):
    name: str
    command: str
    parent: int
    is_zombie: bool
    is_ours: bool


def _process(pid: int) -> _Process:
    status = dict(line.split(":\t", 1) for line in _lines(Path(f"/proc/{pid}/status")) if ":\t" in line)
    command = _text(Path(f"/proc/{pid}/cmdline")).replace("\0", " ").strip()
    name = status.get("Name", "")
    is_named = re.search(r"/(lib|run)/tandem", command) or name in OUR_PROGRAMS or name.startswith("qemu-system")
    is_zombie = status.get("State", "").startswith("Z")
    return _Process(name, command, int(status.get("PPid", 0)), is_zombie, bool(is_named))


def locks() -> Iterator[str]:
    """Held locks on our lock files, by their inodes as /proc/locks gives them."""
    ours = {str(path.stat().st_ino): path.name for path in _glob(RUN_DIRECTORIES) for path in path.rglob("locks/*")}
    for line in _lines(Path("/proc/locks")):
        inode = line.split()[-3].rpartition(":")[2]
        if inode in ours:
            yield f"{ours[inode]} {' '.join(line.split()[1:5])}"


def cgroups() -> Iterator[str]:
    """Ours; what a guest makes in its own is its business."""
    for root, directories, _files in os.walk("/sys/fs/cgroup"):
        ours = {name for name in directories if re.search("tandem|lxc", name)}
        yield from (os.path.join(root, name) for name in ours)
        directories[:] = [name for name in directories if name not in ours]


def sockets() -> Iterator[str]:
    return (line.split()[-1] for line in _lines(Path("/proc/net/unix")) if "tandem" in line.split()[-1])


def files() -> Iterator[str]:
    """Paths of ours down to the root file systems of guests; lock files stay by design, leases follow time."""
    for pattern in SYSTEM_FILES:
        yield from map(str, _glob(pattern))
    for top in (*_glob(STATE_DIRECTORIES), *_glob(RUN_DIRECTORIES)):
        yield str(top)
        for root, directories, names in os.walk(top):
            if os.path.basename(root) in ("locks", "rootfs"):
                directories.clear()
                continue
            yield from (os.path.join(root, name) for name in (*directories, *names) if not name.startswith("leases"))
    for shared in SHARED_DIRECTORIES:
        yield from (f"{shared}/{name}" for name in os.listdir(shared) if OUR_NAMES.match(name))


def subvolumes() -> Iterator[str]:
    """btrfs subvolumes of mounted pools, with their quota groups.

    Not groups without a subvolume: the kernel takes it apart in the background, and only then, at its next act on the
    pool, can the driver remove the group; that it does is seen by the driver's own tests.
    """
    for line in _lines(Path("/proc/self/mountinfo")):
        place, _unused, source = line.partition(" - ")
        target = place.split()[4]
        if source.startswith("btrfs ") and "tandem" in target:
            present = [found.split() for found in _run("btrfs", "subvolume", "list", target)]
            yield from (f"{target} {words[-1]}" for words in present)
            identities = {words[1] for words in present}
            groups = (found.split()[0] for found in _run("btrfs", "qgroup", "show", target))
            yield from (f"{target} qgroup {group}" for group in groups if group.rpartition("/")[2] in identities)


def subordinate_ids() -> Iterator[str]:
    for name in ("/etc/subuid", "/etc/subgid"):
        yield from (f"{name} {line}" for line in _lines(Path(name)))


def settings() -> Iterator[str]:
    for name in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/route_localnet"):
        yield f"{name} = {_text(Path('/proc/sys') / name).strip()}"


AREAS: Mapping[str, Callable[[], Iterator[str]]] = {
    "mount": mounts,
    "loop device": loop_devices,
    "link": links,
    "address": addresses,
    "route": routes,
    "traffic control": traffic_control,
    "network namespace": network_namespaces,
    "firewall": firewall,
    "process": processes,
    "lock": locks,
    "cgroup": cgroups,
    "socket": sockets,
    "file": files,
    "subvolume": subvolumes,
    "subordinate ids": subordinate_ids,
    "kernel setting": settings,
}


def _without_counters(value: Any) -> Any:
    """JSON of nft without what changes by itself."""
    if isinstance(value, dict):
        volatile = ("handle", "packets", "bytes", "expires")
        return {key: _without_counters(inner) for key, inner in value.items() if key not in volatile}
    return [_without_counters(inner) for inner in value] if isinstance(value, list) else value


def _namespaces(kind: str) -> Mapping[int, str]:
    """One process for each namespace of that kind."""
    found: dict[str, int] = {}
    for pid in (os.getpid(), *_pids()):
        try:
            found.setdefault(os.readlink(f"/proc/{pid}/ns/{kind}"), pid)
        except OSError:
            continue
    return {pid: namespace for namespace, pid in found.items()}


def _pids() -> list[int]:
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def _glob(pattern: str) -> list[Path]:
    return sorted(Path("/").glob(pattern.lstrip("/")))


def _text(path: Path) -> str:
    """Content of a file of the kernel, '' if it is gone: processes end while we look."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _lines(path: Path) -> list[str]:
    return _text(path).splitlines()


def _run(*argv: str) -> list[str]:
    """Lines that a program prints; none if it is not installed or refuses."""
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=30).stdout.splitlines()
    except FileNotFoundError:
        return []


def _json(*argv: str, key: str | None = None) -> list[Any]:
    text = "\n".join(_run(*argv))
    found = json.loads(text) if text.strip() else []
    return list(found[key]) if key and found else list(found)
