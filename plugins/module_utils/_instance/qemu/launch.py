# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The program that becomes QEMU. A copy of this file lies beside qemu.json in every virtual machine's
directory, so it needs nothing but Python 3.9's standard library.

As root it opens what qemu.json lists (disks, tap interfaces, sockets), joins control groups, leaves the
host's file system and network, and then executes setpriv and QEMU in its own place: whoever started it
supervises QEMU itself. `launch stop SECONDS` asks a running machine to shut down and waits for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import resource
import select
import socket
import stat
import struct
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Not at run time: typing alone takes a tenth of this program's start.
    from collections.abc import Callable, Mapping
    from typing import Any

SCHEMA = 1
NOTIFY_SOCKET = "notify.sock"
STARTED = "started.json"
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
CGROUP_ROOT = "/sys/fs/cgroup"
PRESS_AGAIN_SECONDS = 3

_SETPRIV = "/usr/bin/setpriv"
_HIGH_DESCRIPTOR = 200
_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI, _IFF_VNET_HDR, _IFF_UP = 0x0002, 0x1000, 0x4000, 0x1
_SIOCGIFFLAGS, _SIOCSIFFLAGS = 0x8913, 0x8914
_SIOCGIFMTU, _SIOCSIFMTU = 0x8921, 0x8922
_SIOCSIFHWADDR, _SIOCBRADDIF = 0x8924, 0x89A2
_ARPHRD_ETHER = 1
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC, _CLONE_NEWNET = 0x00020000, 0x04000000, 0x08000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
# The same numbers on every architecture.
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 6
# What a program finds in QEMU's private root: the distribution's files, read-only, and nothing of the host.
_SYSTEM_DIRECTORIES = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_SYSTEM_FILES = ("etc/ld.so.cache", "etc/alternatives")
_DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9)}
_KVM = (10, 232)

_libc = ctypes.CDLL(None, use_errno=True)


class LaunchError(Exception):
    """One line for a person: what was tried, on what, what happened."""


def main(arguments: list[str]) -> None:
    directory = os.path.dirname(os.path.abspath(__file__))
    with open(os.path.join(directory, "qemu.json"), encoding="utf-8") as stream:
        machine = json.load(stream)
    if machine["schema"] != SCHEMA:
        raise LaunchError(f"qemu.json has schema {machine['schema']}, this program reads {SCHEMA}")
    if arguments[:1] == ["stop"]:
        stop(machine, float(arguments[1]))
    else:
        redirect_output(os.path.join(directory, "qemu.log"))
        start(machine)


# --- start ---------------------------------------------------------------------------------------------------


def start(machine: Mapping[str, Any]) -> None:
    """Become QEMU; returns only by raising."""
    os.umask(0o077)
    close_inherited()
    # Exec keeps pid and start time; read now, since /proc will be gone.
    identity = {"pid": os.getpid(), "start_time": start_time(os.getpid()), "boot_id": boot_id()}
    run_directory = machine["run_directory"]
    make_private_directory(run_directory)
    directory = os.open(run_directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # Closed by exec: whoever listens learns by the end of the stream that all went well.
    notify = connect_notify(run_directory)
    try:
        require_not_running(run_directory)
        missing: list[str] = []
        open_resources(machine, missing)
        join_groups(machine["cgroups"], missing)
        set_limits(machine, missing)
        isolate(machine, missing)
        write_started(directory, {"process": identity, "missing": missing, "started_with": machine["started_with"]})
        os.execve(_SETPRIV, setpriv_command(machine), ENVIRONMENT)
    except (LaunchError, OSError) as error:
        if notify is not None:
            notify.sendall(str(error).encode()[:2000])
        raise


def redirect_output(path: str) -> None:
    """What QEMU and this program have to say goes to a file of the machine's own, begun anew at each start."""
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)


def close_inherited() -> None:
    """Descriptors of whoever started this do not belong in QEMU."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2:
            with contextlib.suppress(OSError):
                os.close(int(name))


def make_private_directory(path: str) -> None:
    parent = os.path.dirname(path)
    if not os.path.isdir(parent):
        make_private_directory(parent)
        os.chmod(parent, 0o711)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)


def connect_notify(run_directory: str) -> socket.socket | None:
    """The module that waits for this start, None at boot."""
    try:
        return connect_in(run_directory, NOTIFY_SOCKET)
    except OSError:
        return None


def require_not_running(run_directory: str) -> None:
    process = read_started(run_directory)
    if process is not None:
        raise LaunchError(f"it runs already as process {process}")


def read_started(run_directory: str) -> int | None:
    """The pid of the machine that was started from run_directory and is alive, else None."""
    try:
        with open(f"{run_directory}/{STARTED}", encoding="utf-8") as stream:
            process = json.load(stream)["process"]
        alive = process["boot_id"] == boot_id() and process["start_time"] == start_time(process["pid"])
    except (OSError, ValueError, KeyError):
        return None
    return int(process["pid"]) if alive else None


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()


def start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat; OSError if there is no such process."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
        text = stream.read()
    fields = text[text.rindex(")") + 2 :].split()
    return -1 if fields[0] in "ZX" else int(fields[19])


def write_started(directory: int, value: Mapping[str, Any]) -> None:
    """Who runs and with what, for the next run to read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    descriptor = os.open(f".new-{STARTED}", flags, 0o600, dir_fd=directory)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump({"schema": SCHEMA, **value}, stream, indent=2, sort_keys=True)
    os.rename(f".new-{STARTED}", STARTED, src_dir_fd=directory, dst_dir_fd=directory)


def setpriv_command(machine: Mapping[str, Any]) -> list[str]:
    user, group = str(machine["uid"]), str(machine["gid"])
    nothing = ("--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")
    identity = ("--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs", *nothing)
    return [_SETPRIV, *identity, "--", *machine["argv"]]


# --- resources -----------------------------------------------------------------------------------------------


def open_resources(machine: Mapping[str, Any], missing: list[str]) -> None:
    """Open everything, then put each descriptor under its number; so no open can hit a number in use."""
    opened = [(item["fd"], open_one(item, machine, missing)) for item in machine["resources"]]
    for number, descriptor in opened:
        os.dup2(descriptor, number, inheritable=True)
        os.close(descriptor)


def open_one(item: Mapping[str, Any], machine: Mapping[str, Any], missing: list[str]) -> int:
    """A descriptor above all assigned numbers."""
    descriptor = _OPENERS[item["type"]](item, machine, missing)
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _HIGH_DESCRIPTOR)
    os.close(descriptor)
    return moved


def open_file(item: Mapping[str, Any], machine: Mapping[str, Any], missing: list[str]) -> int:
    mode = os.O_RDWR if item["write"] else os.O_RDONLY
    try:
        return os.open(item["path"], mode | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise LaunchError(f"{item['path']} cannot be opened: {error.strerror}") from None


def open_kernel(item: Mapping[str, Any], machine: Mapping[str, Any], missing: list[str]) -> int:
    """QEMU opens /dev/fd/N anew with its own uid, so a file that others may not read is given as a copy."""
    descriptor = open_file({**item, "write": False}, machine, missing)
    if os.fstat(descriptor).st_mode & stat.S_IROTH:
        return descriptor
    copy = os.memfd_create(os.path.basename(item["path"]), os.MFD_CLOEXEC)
    while os.sendfile(copy, descriptor, None, 1 << 30):
        pass
    os.close(descriptor)
    return copy


def open_text(item: Mapping[str, Any], machine: Mapping[str, Any], missing: list[str]) -> int:
    """A file in memory that holds the given text."""
    descriptor = os.memfd_create(item["name"], os.MFD_CLOEXEC)
    os.write(descriptor, item["text"].encode())
    return descriptor


def open_listener(item: Mapping[str, Any], machine: Mapping[str, Any], missing: list[str]) -> int:
    return listen_in(machine["run_directory"], item["name"]).detach()


def listen_in(directory: str, name: str) -> socket.socket:
    """A listening socket for root alone, in the place of one that a machine before left."""
    path = f"{directory}/{name}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    through(directory, name, listener.bind)
    os.chmod(path, 0o600)
    listener.listen(1)
    return listener


def connect_in(directory: str, name: str, timeout_seconds: float | None = None) -> socket.socket:
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout_seconds)
    try:
        through(directory, name, client.connect)
    except OSError:
        client.close()
        raise
    return client


def through(directory: str, name: str, act: Callable[[str], None]) -> None:
    """Bind or connect by way of the directory's descriptor, since a socket's own path ends at 107 bytes."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        act(f"/proc/self/fd/{descriptor}/{name}")
    finally:
        os.close(descriptor)


def open_console_log(item: Mapping[str, Any], machine: Mapping[str, Any], missing: list[str]) -> int:
    """A file on a file system of its own that is as small as the log may get, mounted nowhere.

    The guest decides how much it prints; when the log is full, QEMU drops the rest. The next run reads
    and empties it through /proc/PID/fd.
    """
    try:
        mount = make_small_filesystem(item["limit_bytes"])
    except OSError as error:
        missing.append(f"console log ({error.strerror})")
        return os.open("/dev/null", os.O_WRONLY | os.O_CLOEXEC)
    try:
        return os.open("console.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600, dir_fd=mount)
    finally:
        os.close(mount)


def make_small_filesystem(size_bytes: int) -> int:
    """A detached tmpfs (fsopen(2), Linux 5.2); it goes when its last file is closed."""
    context = syscall(_SYS_FSOPEN, b"tmpfs", 1)
    try:
        syscall(_SYS_FSCONFIG, context, _FSCONFIG_SET_STRING, b"size", str(size_bytes).encode(), 0)
        syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return syscall(_SYS_FSMOUNT, context, 1, _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    finally:
        os.close(context)


def open_tap(item: Mapping[str, Any], machine: Mapping[str, Any], missing: list[str]) -> int:
    """A tap interface that lives as long as this descriptor, up and in its bridge."""
    name, bridge = item["interface"], item["bridge"]
    try:
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
        request = struct.pack("16sH22x", name.encode(), _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except OSError as error:
        raise LaunchError(f"tap interface {name} cannot be made: {error.strerror}") from None
    # A bridge port has no use for an address of its own.
    with contextlib.suppress(OSError), open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as stream:
        stream.write("1")
    try:
        join_bridge(name, bridge, item)
    except OSError as error:
        raise LaunchError(f"interface {name} cannot join bridge {bridge}: {error.strerror}") from None
    return descriptor


def join_bridge(name: str, bridge: str, item: Mapping[str, Any]) -> None:
    interface, master = name.encode(), bridge.encode()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        # A bridge without an address of its own takes its lowest port's: ours is made the highest.
        address = b"\xfe" + bytes.fromhex(item["hwaddr"].replace(":", ""))[1:]
        fcntl.ioctl(control, _SIOCSIFHWADDR, struct.pack("16sH6s16x", interface, _ARPHRD_ETHER, address))
        mtu = item["mtu"] or get_integer(control, _SIOCGIFMTU, master)
        fcntl.ioctl(control, _SIOCSIFMTU, struct.pack("16si20x", interface, mtu))
        fcntl.ioctl(control, _SIOCBRADDIF, struct.pack("16si20x", master, socket.if_nametoindex(name)))
        flags = get_integer(control, _SIOCGIFFLAGS, interface) & 0xFFFF
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sH22x", interface, flags | _IFF_UP))


def get_integer(control: socket.socket, request: int, name: bytes) -> int:
    answer = fcntl.ioctl(control, request, struct.pack("16s24x", name))
    return int(struct.unpack("16si20x", answer)[1])


def open_share(item: Mapping[str, Any], machine: Mapping[str, Any], missing: list[str]) -> int:
    """Start virtiofsd for a host directory; the descriptor is QEMU's end. It exits when QEMU closes it."""
    if not os.path.isdir(item["source"]):
        raise LaunchError(f"{item['source']} is not a directory of this host: create it or remove the disk")
    directory = machine["run_directory"]
    listener = listen_in(directory, item["name"])
    client = connect_in(directory, item["name"])
    os.unlink(f"{directory}/{item['name']}")
    parent = os.getpid()
    if os.fork() == 0:
        run_virtiofsd(item, listener, parent)
    listener.close()
    return client.detach()


def run_virtiofsd(item: Mapping[str, Any], listener: socket.socket, parent: int) -> None:
    """In the forked child; never returns. It dies with its parent, which becomes QEMU."""
    try:
        _libc.prctl(_PR_SET_PDEATHSIG, _SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        if item["readonly"]:
            call("unshare", _CLONE_NEWNS)
            mount(None, "/", None, _MS_REC | _MS_PRIVATE)
            bind(item["source"], item["source"], _MS_RDONLY)
        os.set_inheritable(listener.fileno(), True)
        os.execve(item["program"], virtiofsd_command(item, listener.fileno()), ENVIRONMENT)
    except OSError as error:
        sys.stderr.write(f"{item['program']}: {error.strerror}\n")
        sys.stderr.flush()
    os._exit(127)


def virtiofsd_command(item: Mapping[str, Any], descriptor: int) -> list[str]:
    """Both servers of the name take the -o form: QEMU's own (to 7.2) and its successor in Rust."""
    source = item["source"].replace("\\", "\\\\").replace(",", "\\,")
    return [item["program"], f"--fd={descriptor}", "-o", f"source={source}", "-o", "sandbox=namespace"]


_OPENERS = {
    "file": open_file,
    "kernel": open_kernel,
    "listen": open_listener,
    "console-log": open_console_log,
    "tap": open_tap,
    "share": open_share,
    "text": open_text,
}


# --- confinement ---------------------------------------------------------------------------------------------


def join_groups(groups: Mapping[str, Any], missing: list[str]) -> None:
    """Join a group of our own in each hierarchy; what this host lacks is said in missing, not passed over."""
    for controller, directory in group_directories(groups["path"], tuple(groups["v1"])).items():
        try:
            make_group(directory, controller)
            for name, value in groups["v1"][controller] if controller else groups["v2"]:
                write_setting(f"{directory}/{name}", value, missing)
            write_text(f"{directory}/cgroup.procs", str(os.getpid()))
        except OSError as error:
            missing.append(f"control group {controller or directory} ({error.strerror})")


def write_setting(path: str, value: str, missing: list[str]) -> None:
    try:
        write_text(path, value)
    except OSError as error:
        missing.append(f"control group setting {os.path.basename(path)} ({error.strerror})")


def group_directories(path: str, controllers: tuple[str, ...]) -> dict[str, str]:
    """Controller of version 1 -> our group's directory; in version 2 there is one, under the name ''."""
    if os.path.exists(f"{CGROUP_ROOT}/cgroup.controllers"):
        return {"": f"{unified_base()}/{path}"}
    return {name: f"{CGROUP_ROOT}/{name}/{path}" for name in controllers}


def unified_base() -> str:
    """A service of systemd stays inside the group that systemd delegated to it (Delegate=yes)."""
    with open("/proc/self/cgroup", encoding="utf-8") as stream:
        own = next((line[3:].rstrip("\n") for line in stream if line.startswith("0::")), "")
    return CGROUP_ROOT + own if own.endswith(".service") else CGROUP_ROOT


def make_group(directory: str, controller: str) -> None:
    if controller:
        # A hierarchy that is not mounted must not become a directory of the tmpfs around it.
        os.stat(f"{CGROUP_ROOT}/{controller}/cgroup.procs")
        os.makedirs(directory, 0o755, exist_ok=True)
        return
    os.makedirs(directory, 0o755, exist_ok=True)
    # Controllers are handed down level by level, which only groups without processes may do.
    base = unified_base()
    write_text(f"{directory}/cgroup.procs", str(os.getpid()))
    level = os.path.dirname(directory)
    levels = [level]
    while level != base:
        level = os.path.dirname(level)
        levels.append(level)
    for level in reversed(levels):
        with contextlib.suppress(OSError):
            write_text(f"{level}/cgroup.subtree_control", "+memory +pids")


def set_limits(machine: Mapping[str, Any], missing: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _unused, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = int(machine["limits"]["nofile"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted) if wanted <= most else (most, most))
    if machine["limits"]["cpus"]:
        try:
            os.sched_setaffinity(0, machine["limits"]["cpus"])
        except OSError as error:
            missing.append(f"pinning to CPUs {machine['limits']['cpus']} ({error.strerror})")


def isolate(machine: Mapping[str, Any], missing: list[str]) -> None:
    """A mount, network, IPC and UTS namespace of its own; from here on no path of the host exists."""
    root = machine["run_directory"]
    try:
        call("unshare", _CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWIPC | _CLONE_NEWUTS)
    except OSError as error:
        missing.append(f"namespaces ({error.strerror})")
        return
    mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    mount("tmpfs", root, "tmpfs", _MS_NOSUID, "size=1m,mode=0755")
    os.chdir(root)
    os.umask(0o022)
    copy_system()
    make_devices(machine)
    # Both roots in one place, then the host's taken away: nothing keeps its mounts busy.
    call("pivot_root", b".", b".")
    call("umount2", b".", _MNT_DETACH)
    os.chdir("/")
    os.umask(0o077)
    mount(None, "/", None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NOEXEC)


def copy_system() -> None:
    """Below the current directory: /usr and what belongs to it."""
    os.mkdir("usr", 0o755)
    bind("/usr", "usr", _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    for name in _SYSTEM_DIRECTORIES:
        if os.path.islink(f"/{name}"):
            os.symlink(os.readlink(f"/{name}"), name)
        elif os.path.isdir(f"/{name}"):
            os.mkdir(name, 0o755)
            bind(f"/{name}", name, _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    os.mkdir("etc", 0o755)
    for name in _SYSTEM_FILES:
        if os.path.isdir(f"/{name}"):
            os.mkdir(name, 0o755)
            bind(f"/{name}", name, _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
        elif os.path.exists(f"/{name}"):
            bind_file(f"/{name}", name)


def make_devices(machine: Mapping[str, Any]) -> None:
    """Below the current directory: /dev with few nodes, and /dev/fd as the process's own descriptors."""
    os.mkdir("dev", 0o755)
    os.mkdir("dev/fd", 0o755)
    for name, (major, minor) in _DEVICES.items():
        make_node(name, major, minor, 0o666, -1)
    if machine["kvm"]:
        make_node("kvm", *_KVM, 0o600, machine["uid"])
    # Bound as the directory of this pid, which exec keeps.
    bind("/proc/self/fd", "dev/fd", _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)


def make_node(name: str, major: int, minor: int, mode: int, owner: int) -> None:
    try:
        os.mknod(f"dev/{name}", stat.S_IFCHR | mode, os.makedev(major, minor))
        os.chmod(f"dev/{name}", mode)
        os.chown(f"dev/{name}", owner, -1)
    except PermissionError:
        # A host that is itself a container may not make nodes, but it has them.
        bind_file(f"/dev/{name}", f"dev/{name}", 0)


def bind_file(source: str, target: str, flags: int = _MS_RDONLY | _MS_NOSUID | _MS_NODEV) -> None:
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))
    bind(source, target, flags)


def bind(source: str, target: str, flags: int) -> None:
    mount(source, target, None, _MS_BIND)
    if flags:
        mount(None, target, None, _MS_REMOUNT | _MS_BIND | flags)


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    encoded = (source.encode() if source else None, target.encode(), kind.encode() if kind else None)
    call("mount", *encoded, ctypes.c_ulong(flags), options.encode())


def call(function: str, *arguments: Any) -> int:
    """A libc function that reports through errno; OSError if it fails."""
    result = int(getattr(_libc, function)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: Any) -> int:
    return call("syscall", ctypes.c_long(number), *arguments)


def write_text(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as stream:
        stream.write(text)


# --- stop ----------------------------------------------------------------------------------------------------


def stop(machine: Mapping[str, Any], timeout_seconds: float) -> None:
    """Press the power button and wait for the end of the process; LaunchError after timeout_seconds."""
    deadline = time.monotonic() + timeout_seconds
    pid = read_started(machine["run_directory"])
    if pid is None:
        return
    poll = select.poll()
    poll.register(os.pidfd_open(pid), select.POLLIN)
    while (remaining := deadline - time.monotonic()) > 0:
        # A guest that is still booting ignores the button, so it is pressed again.
        with contextlib.suppress(OSError):
            press_power_button(machine["run_directory"], min(remaining, PRESS_AGAIN_SECONDS))
        if poll.poll(min(remaining, PRESS_AGAIN_SECONDS) * 1000):
            return
    raise LaunchError(f"still running {timeout_seconds:g} s after it was asked to shut down")


def press_power_button(run_directory: str, timeout_seconds: float) -> None:
    with connect_in(run_directory, "qmp.sock", timeout_seconds) as client:
        stream = client.makefile("rwb")
        for command in ("qmp_capabilities", "cont", "system_powerdown"):
            stream.write(json.dumps({"execute": command}).encode())
            stream.flush()
            read_answer(stream)


def read_answer(stream: Any) -> None:
    """Skip the greeting and events up to the answer of a command."""
    for line in stream:
        if "return" in (answer := json.loads(line)) or "error" in answer:
            return


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (LaunchError, OSError, ValueError, KeyError) as problem:
        raise SystemExit(f"launch: {problem}") from None
