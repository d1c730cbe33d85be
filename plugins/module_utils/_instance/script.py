# Copyright (c) 2026, the tandem.machines contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

"""The shell programs that run inside guests, and the text that tells them what to do. Pure: no I/O.

They need a POSIX shell and the basic tools of coreutils or BusyBox. Users and groups are looked up inside the
guest only: host code must never load a guest's name service modules. Shipped to hosts as text (see enter.py).
"""

from __future__ import annotations

from .._core.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# What `lxc exec` gives a command. Without a terminal, so TERM promises nothing.
ROOT_ENVIRONMENT = {
    "PATH": PATH,
    "HOME": "/root",
    "USER": "root",
    "LOGNAME": "root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
}
# Exit status of a program below when it could not start the command; a line on stderr says why.
FAILED_STATUS = 125
# Kernel: MAX_ARG_STRLEN is 128 KiB for one string of arguments or environment.
_TEXT_LIMIT_BYTES = 120 * 1024

# enter USER DIRECTORY COMMAND...: becomes the command. Before: $mark opens a message about a failure, set_environment
# exports what the caller wants, $session is empty or the path of setsid.
_ENTER = r"""
PATH=@PATH@ LANG=C.UTF-8 TERM=dumb
export PATH LANG TERM
umask 022
fail() { printf '%s error %s\n' "$mark" "$1" >&2; exit 125; }
find_user() {
  entry=$(getent passwd "$user" 2>/dev/null)
  if [ -n "$entry" ]; then
    IFS=: read -r name _ uid gid _ home _ <<END
$entry
END
    return
  fi
  while IFS=: read -r name _ uid gid _ home _; do
    [ "$name" = "$user" ] || [ "$uid" = "$user" ] || continue
    return
  done </etc/passwd
  case $user in
    *[!0-9]*) fail "user $user does not exist in the guest: name one that does" ;;
  esac
  name=$user uid=$user gid=$user home=/ unknown=1
}
find_tool() {
  for tool in "/usr/bin/$1" "/bin/$1" "/usr/sbin/$1" "/sbin/$1"; do
    [ ! -x "$tool" ] || return 0
  done
  tool=
  return 1
}
enter() {
  user=$1 directory=$2 unknown=
  shift 2
  case $user in
    root | 0) name=root uid=0 gid=0 home=/root ;;
    *) find_user ;;
  esac
  if [ "$uid" = 0 ]; then
    :
  elif find_tool setpriv && "$tool" --version 2>/dev/null | grep -q util-linux; then
    if [ -n "$unknown" ]; then groups=--clear-groups; else groups=--init-groups; fi
    set -- "$tool" --reuid "$uid" --regid "$gid" $groups -- "$@"
  elif find_tool chroot && "$tool" --version 2>/dev/null | grep -q coreutils; then
    set -- "$tool" --skip-chdir --userspec="$uid:$gid" / "$@"
  elif [ -z "$unknown" ] && find_tool su; then
    set -- "$tool" -m -s /bin/sh -c 'exec "$@"' -- "$name" "$name" "$@"
  else
    fail "the guest has no tool to start a command as user $user: install util-linux in it"
  fi
  [ -z "$session" ] || set -- "$session" "$@"
  if [ -z "$directory" ]; then
    cd -- "$home" 2>/dev/null || cd /
  else
    cd -- "$directory" 2>/dev/null || fail "working directory $directory does not exist in the guest"
  fi
  HOME=$home USER=$name LOGNAME=$name
  export HOME USER LOGNAME
  unset OLDPWD
  # From here on no variable of ours is used: the caller may set any.
  set_environment
  exec "$@"
}
"""

# In a container: $1 opens failure messages, $2 is the length of a text on stdin that defines set_environment.
_CONTAINER = r"""
mark=$1 length=$2 session=
set_environment() { :; }
[ "$length" = 0 ] || eval "$(dd bs="$length" count=1 iflag=fullblock 2>/dev/null)"
shift 2
enter "$@"
"""

# In a virtual machine, started by the agent: joins a command to the port. stdout goes through raw. Everything else is a
# frame, "TOKEN KIND NUMBER" and a newline: H the port is ours, P pid of the command, R as many bytes of stderr follow,
# K the latest frame is taken, S exit status, E the end. What comes in is frames, too: size and count of blocks of stdin
# and the blocks, 0 for its end, q to quit.
# The token is known to nobody else in the guest, and a write of up to 4 KiB by the shell is never torn apart: the
# kernel's virtio_console takes each write below 32 KiB as one buffer.
_STREAM = r"""
eval "$TANDEM_WORK"
unset TANDEM_WORK TANDEM_SCRIPT
# Restarting the agent's service must not kill what we run.
for group in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
  [ -w "$group/cgroup.procs" ] && echo 0 >"$group/cgroup.procs"
done 2>/dev/null
find_port() {
  for entry in /sys/class/virtio-ports/*; do
    [ -r "$entry/name" ] && read -r name <"$entry/name" && [ "$name" = tandem.stream ] || continue
    port=/dev/${entry##*/}
    return
  done
  fail "the guest has no virtio-serial port tandem.stream"
}
# When a process was started, in ticks since boot.
read_age() { read -r _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ age _ </proc/"$1"/stat; }
# Who else holds the port has lost its host side, since the host serves one command at a time: the older of us ends, and
# a program of a killed client may well start late. Each run of ours is a process group. The command is not part of it
# and lives on without its port, as after a broken ssh connection.
end_others() {
  read_age "$$"
  born=$age
  for entry in $(grep -l 'tandem-enter[.][0-9a-f]\{32\}' /proc/[0-9]*/cmdline 2>/dev/null); do
    pid=${entry#/proc/}
    pid=${pid%/cmdline}
    [ "$pid" != "$$" ] && read_age "$pid" 2>/dev/null || continue
    if [ "$age" -lt "$born" ] || { [ "$age" = "$born" ] && [ "$pid" -lt "$$" ]; }; then
      kill -KILL "-$pid" 2>/dev/null
    fi
  done
}
open_port() {
  tries=0
  until command exec 3<>"$port"; do
    tries=$((tries + 1))
    [ "$tries" -lt 50 ] || return 1
    end_others
    sleep 0.05
  done 2>/dev/null
}
for tool in cat dd grep rm wc; do
  command -v "$tool" >/dev/null || fail "the guest lacks the program $tool: install coreutils or BusyBox in it"
done
[ -n "$port" ] || find_port
open_port || fail "port $port in the guest stays busy"
for left in /run/tandem-enter.* /tmp/tandem-enter.* /dev/shm/tandem-enter.*; do
  [ ! -e "$left" ] || rm -f "$left"
done
set -C
umask 077
for errors in "/run/$0" "/tmp/$0" "/dev/shm/$0" ""; do
  true >"$errors" && break
done 2>/dev/null
set +C
umask 022
[ -n "$errors" ] || fail "neither /run nor /tmp nor /dev/shm of the guest can be written"
find_tool setsid
session=$tool
read -r _ _ _ _ group _ </proc/self/stat
[ "$group" = "$$" ] || session=
send() { printf '%s %s %s\n' "$token" "$1" "$2" >&3; }
pump() {
  while read -r size count <&3; do
    case $size in
      q) break ;;
      0) exec >&- ;;
      *)
        dd bs="$size" count="$count" iflag=fullblock <&3 2>/dev/null
        send K 0
        ;;
    esac
  done
  rm -f "$errors"
  [ -z "$session" ] || kill -KILL 0
}
start() {
  read -r pid _ </proc/self/stat
  send P "$pid"
  [ -z "$no_input" ] || exec </dev/null
  exec 3>&- 4>&-
  enter "$user" "$directory" "$@"
}
finish() {
  (start "$@") 2>&4
  send S "$?"
}
live_errors() {
  while dd bs=16384 count=1 2>/dev/null >|"$errors" && [ -s "$errors" ]; do
    # One write for header and data, see above.
    { send R "$(wc -c <"$errors")" 3>&1; cat "$errors"; } | dd obs=32768 2>/dev/null >&3
  done
}
work() {
  if [ -n "$live" ]; then
    { finish "$@" | cat >&3; } 4>&1 | live_errors
  else
    finish "$@" 4>"$errors" | cat >&3
    [ ! -s "$errors" ] || { send R "$(wc -c <"$errors")"; cat "$errors" >&3; }
  fi
  send E 0
}
send H 0
pump | work "$@"
"""


def container_program() -> str:
    """For `sh -c` in a container; arguments: name, mark, length of the text on stdin, user, directory, command."""
    return _ENTER.replace("@PATH@", PATH) + _CONTAINER


def stream_program() -> str:
    """For `sh -c` in a virtual machine, with what render_work() returns in TANDEM_WORK."""
    return _ENTER.replace("@PATH@", PATH) + _STREAM


def render_environment(environment: Mapping[str, str]) -> str:
    """The definition of set_environment; InvalidRequest for a name that is none."""
    exports = [f"export {_variable(name)}={_quote(value)}" for name, value in sorted(environment.items())]
    return "set_environment() {\n:\n" + "\n".join(exports) + "\n}\n"


def render_work(
    command: Sequence[str],
    *,
    token: str,
    mark: str,
    environment: Mapping[str, str],
    user: str,
    directory: str,
    has_input: bool,
    is_live: bool,
    port: str = "",
) -> str:
    """What stream_program() has to do. Everything it holds is quoted; InvalidRequest if it is too long."""
    flags = {"token": token, "mark": mark, "user": user, "directory": directory, "port": port}
    flags["no_input"] = "" if has_input else "1"
    flags["live"] = "1" if is_live else ""
    text = "".join(f"{name}={_quote(value)}\n" for name, value in flags.items())
    text += render_environment(environment) + "set -- " + " ".join(map(_quote, command)) + "\n"
    if len(text.encode()) > _TEXT_LIMIT_BYTES:
        raise InvalidRequest(
            f"command and environment have more than {_TEXT_LIMIT_BYTES} bytes: put them in a file and copy it"
        )
    return text


def require_command(command: Sequence[str]) -> None:
    """InvalidRequest unless command is something a guest can execute."""
    if not command or not command[0]:
        raise InvalidRequest("the command is empty: name a program to run")
    if command[0].startswith("-"):
        raise InvalidRequest(f"the command {command[0]!r} begins with '-': give the path of the program")


def _variable(name: str) -> str:
    is_valid = name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit()
    if not is_valid:
        raise InvalidRequest(
            f"environment variable {name!r} is not a name: use letters, digits and '_', no digit first"
        )
    return name


def _quote(text: str) -> str:
    if "\0" in text:
        raise InvalidRequest("a text for the guest holds a NUL character, which no program can be given")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"the text {ascii(text)[:80]} for the guest is not UTF-8") from None
    return "'" + text.replace("'", "'\\''") + "'"
